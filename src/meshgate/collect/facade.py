"""A read-only view of the API server on loopback, for istioctl and the shadow istiod.

GET, LIST and WATCH of every resource in GROUPS are passed on with our own credentials; the API
server itself answers 404 for what it does not serve.  Secrets are answered as an empty list, so
that none is read and no right to them is needed.  A program that asks whether it may do something
is answered no.  Everything else is refused at once and kept: the program would wait for it.
The address contains a secret of this run, so that no other program on the machine uses our rights
(client-go sends no token over plain HTTP).
"""

import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from meshgate.collect.api import Api, ApiAnswer
from meshgate.collect.errors import ReadError
from meshgate.collect.facade_changes import Changed, ListSelection

# /api/v1/pods, /apis/apps/v1/namespaces/x/deployments/y: no subresource is ever matched
_RESOURCE = re.compile(
    r"(?P<root>/(?:api/v1|apis/(?P<group>[\w.-]+)/\w+))"
    r"(?:/namespaces/(?P<namespace>[\w.-]+)(?=/[a-z]))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[\w.:-]+))?"
)
# what a client asks before it asks for resources
_DISCOVERY = re.compile(r"/(?:api|apis|version|openapi/v[23]|api/v1|apis/[\w.-]+(?:/\w+)?)/?")

# The API groups that a mesh's configuration is made of.
GROUPS = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apps",
        "autoscaling",
        "discovery.k8s.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
        "gateway.networking.x-k8s.io",
        "inference.networking.k8s.io",
        "inference.networking.x-k8s.io",
        "install.istio.io",
        "multicluster.x-k8s.io",
        "networking.istio.io",
        "networking.k8s.io",
        "policy",
        "security.istio.io",
        "telemetry.istio.io",
    }
)

# Secrets of any group, and subresources of a namespace, which look like resources in it
_NEVER = frozenset({"secrets", "status", "finalize"})
_LEASE = re.compile(r"/apis/coordination\.k8s\.io/[^/]+/namespaces/[^/]+/leases(/|$)")

_LONGEST_REVIEW = 64 * 1024
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_JSON = "application/json"
_TRUE = ("1", "true")

_NO_SECRETS = {
    "kind": "SecretList",
    "apiVersion": "v1",
    "metadata": {"resourceVersion": "1"},
    "items": [],
}


class Facade:
    """The view, while `serving`.

    Args:
        api: the cluster, with whose rights it reads with.
        changed: what it shows other than it is.
    """

    def __init__(self, api: Api, changed: Changed | None = None) -> None:
        self.api = api
        self.changed = changed or Changed()
        self.prefix = f"/{secrets.token_urlsafe(24)}"
        self.closing = threading.Event()
        self._served: dict[str, frozenset[str] | None] = {}
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._denied: set[str] = set()
        self._open: set[ApiAnswer] = set()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    @property
    def refused(self) -> tuple[str, ...]:
        """Every request that was not passed on, as `VERB path`, sorted."""
        with self._lock:
            return tuple(sorted(self._refused))

    @property
    def unserved(self) -> tuple[str, ...]:
        """Every read that was not passed on, on which the program may wait forever.

        Leases are not among them: an istiod that cannot become the leader works without one.
        """
        return tuple(
            request
            for request in self.refused
            if request.startswith("GET ") and not _LEASE.search(request)
        )

    @property
    def denied(self) -> tuple[str, ...]:
        """Every right that our own credentials lack for what was passed on, sorted."""
        with self._lock:
            return tuple(sorted(self._denied))

    def note_refused(self, request: str) -> None:
        with self._lock:
            self._refused.add(request)

    def note_denied(self, group: str, resource: str) -> None:
        with self._lock:
            self._denied.add(f"list {resource}" + (f".{group}" if group else ""))

    @contextmanager
    def passing_on(self, answer: ApiAnswer) -> Iterator[None]:
        """Keep an answer of the API server in mind, so that it ends when we do."""
        with self._lock:
            self._open.add(answer)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(answer)

    def serves(self, root: str, resource: str) -> bool:
        """Return whether the cluster serves a resource at a group's version (`/apis/apps/v1`)."""
        if root not in self._served:
            self._served[root] = self._resources(root)
        served = self._served[root]
        return served is None or resource in served

    def _resources(self, root: str) -> frozenset[str] | None:
        """Return the resources of the discovery API; None where it does not say."""
        try:
            with self.api.send("GET", root, stream=True) as answer:
                if answer.status == 404:
                    return frozenset()
                body = json.loads(answer.read()) if answer.status == 200 else {}
            return frozenset(each["name"] for each in body["resources"])
        except (ReadError, ValueError, KeyError, TypeError, OSError):
            return None

    def kubeconfig(self) -> str:
        """Return a kubeconfig (JSON is YAML) that leads here and nowhere else."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "facade", "cluster": {"server": self.url}}],
                "contexts": [{"name": "facade", "context": {"cluster": "facade"}}],
                "current-context": "facade",
            }
        )

    @contextmanager
    def serving(self) -> Iterator["Facade"]:
        """Serve while the block runs; open watches end with it."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            with self._lock:
                for answer in self._open:
                    with suppress(OSError, RuntimeError, ValueError):
                        answer.shutdown()  # ends watches that wait for an event
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, facade: Facade) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.facade = facade

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a program that ends hangs up in the middle of its watches."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _facade(self) -> Facade:
        return cast(_Server, self.server).facade

    def parse_request(self) -> bool:
        """Reject every request that does not contain this run's secret path, for all verbs."""
        if not super().parse_request():
            return False
        if not self.path.startswith(f"{self._facade.prefix}/"):
            self.close_connection = True
            self._status(401, "Unauthorized", "not a caller that meshgate started")
            return False
        self.path = self.path.removeprefix(self._facade.prefix)
        return True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qsl(url.query, keep_blank_values=True)
        asked = dict(query)
        if "/." in url.path:
            # what follows would be taken for another path upstream: no name begins with a dot
            self._refuse()
            return
        if "sendInitialEvents" in asked:
            # a streamed list: the client falls back to LIST and WATCH
            self._status(422, "Invalid", "sendInitialEvents is not served here")
            return
        match = _RESOURCE.fullmatch(url.path)
        group, resource = (match["group"] or "", match["resource"]) if match else ("", "")
        if (group, resource) == ("", "secrets"):
            self._no_secrets(match, asked)
        elif match and self._facade.changed.touches((group, resource)):
            self._pass_changed(match, query)
        elif match and group in GROUPS and resource not in _NEVER:
            self._pass_on(url.path, query, (match["root"], group, resource))
        elif _DISCOVERY.fullmatch(url.path):
            self._pass_on(url.path, query)
        else:
            self._refuse()

    def _refuse(self) -> None:
        request = f"{self.command} {urlsplit(self.path).path}"
        self._facade.note_refused(request)
        # a body, if any, is not read: the connection ends with the answer
        self.close_connection = True
        self._status(403, "Forbidden", f"the read-only view does not serve {request}")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if urlsplit(self.path).path != _ACCESS_REVIEWS or length > _LONGEST_REVIEW:
            self._refuse()
            return
        self.rfile.read(length)  # the answer is the same for all
        self._json(
            201,
            {
                "kind": "SelfSubjectAccessReview",
                "apiVersion": "authorization.k8s.io/v1",
                "status": {"allowed": False, "reason": "meshgate's view is read-only"},
            },
        )

    do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _refuse

    def _no_secrets(self, match: re.Match[str] | None, asked: dict[str, str]) -> None:
        """None of the cluster's: at the most those that were invented for this view."""
        if asked.get("watch") not in _TRUE:
            namespace = (match and match["namespace"]) or ""
            of = ListSelection(
                namespace, asked.get("fieldSelector", ""), asked.get("labelSelector", "")
            )
            self._json(200, self._facade.changed.listing(("", "secrets"), _NO_SECRETS, of))
            return
        self._start(200, _JSON)
        self._facade.closing.wait(60)
        self._end()

    @contextmanager
    def _upstream(
        self,
        path: str,
        query: list[tuple[str, str]],
        accept: str,
        kind: tuple[str, str, str] | None,
    ) -> Iterator[ApiAnswer | None]:
        """Yield the API server's own answer; None where there is none, after an error was sent.

        Args:
            path: of the API server.
            query: of the request.
            accept: the media types that the program takes.
            kind: the root of the API, the group and the resource, for a read of objects.
        """
        # the audit log of the API server names the program
        program = self.headers.get("User-Agent", "meshgate")
        headers = {"Accept": accept, "User-Agent": program}
        try:
            answer = self._facade.api.send("GET", path, query=query, stream=True, headers=headers)
        except ReadError as error:
            self._status(503, "ServiceUnavailable", error.why)
            yield None
            return
        if kind and answer.status == 403:
            root, group, resource = kind
            if not self._facade.serves(root, resource):
                # without the right to it, the API server does not say that there is no such kind
                with answer:
                    answer.read()
                self._status(404, "NotFound", "the server could not find the requested resource")
                yield None
                return
            # before the answer goes out: the program may end with it
            self._facade.note_denied(group, resource)
        with answer, self._facade.passing_on(answer):
            yield answer

    def _pass_on(
        self, path: str, query: list[tuple[str, str]], kind: tuple[str, str, str] | None = None
    ) -> None:
        with self._upstream(path, query, self.headers.get("Accept", _JSON), kind) as answer:
            if answer is None:
                return
            self._start(answer.status, answer.headers.get("Content-Type", _JSON))
            # whatever is there, at once: an event of a watch must not wait for a full buffer
            while not self._facade.closing.is_set() and (part := answer.read1()):
                self._chunk(part)
            self._end()

    def _pass_changed(self, match: re.Match[str], query: list[tuple[str, str]]) -> None:
        """Return an answer of which some objects are other than the cluster's."""
        kind, asked = (match["group"] or "", match["resource"]), dict(query)
        namespace, name = match["namespace"] or "", match["name"]
        if name and (single := self._facade.changed.single(kind, namespace, name)):
            self._json(200, single)
            return
        of = ListSelection(
            namespace, asked.get("fieldSelector", ""), asked.get("labelSelector", "")
        )
        with self._upstream(match.string, query, _JSON, (match["root"], *kind)) as answer:
            if answer is None:
                return
            if answer.status != 200 or name:
                body = json.loads(answer.read())
                gone = answer.status == 200 and self._facade.changed.concerns(kind, body)
                self._status(404, "NotFound", "hidden") if gone else self._json(answer.status, body)
            elif asked.get("watch") in _TRUE:
                self._start(200, _JSON)
                self._events(answer, kind)
                self._end()
            else:
                page = json.loads(answer.read())
                self._json(200, self._facade.changed.listing(kind, page, of))

    def _events(self, answer: ApiAnswer, kind: tuple[str, str]) -> None:
        """Stream a watch without the events of objects that the façade hides or changes."""
        rest = b""
        while not self._facade.closing.is_set() and (part := answer.read1()):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line and not self._facade.changed.concerns(kind, json.loads(line)["object"]):
                    self._chunk(line + b"\n")

    def _start(self, status: int, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.flush()

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _status(self, code: int, reason: str, message: str) -> None:
        self._json(
            code,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": reason,
                "code": code,
                "message": message,
            },
        )

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", _JSON)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was refused is kept, the rest is of no interest."""
