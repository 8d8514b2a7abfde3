"""The API server, read with the person's or the Pod's own rights: lists, paged, decoded by msgspec.

`kubernetes` finds the credentials (kubeconfig, exec plugins, the in-cluster ServiceAccount) and
carries the requests; its models are not used (20 times the memory, see docs/adr/0002).
"""

import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import urllib3
from kubernetes import client
from kubernetes import config as kubeconfig
from kubernetes.stream import portforward
from kubernetes.stream.ws_client import PortForward

from meshgate.collect.errors import NoCluster, ReadError
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Kind

__all__ = ["Api", "ApiAnswer", "Cluster", "NoCluster", "ReadError", "Version"]

T = TypeVar("T")

PAGE = 500
_JSON = {"Content-Type": "application/json"}
TOKENS = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class _ListMeta(Base, frozen=True):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, Generic[T], frozen=True):
    items: tuple[T, ...] = ()
    metadata: _ListMeta = _ListMeta()


# one decoder after the other, see snapshot/model.py
_DECODERS = threading.Lock()


class Version(Base, frozen=True):
    git_version: str


class ApiAnswer(Protocol):
    """One answer of it, which may come in parts."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: Any) -> Any: ...

    def read(self) -> bytes:
        """All of it."""

    def read1(self) -> bytes:
        """What is there; nothing at its end."""

    def shutdown(self) -> None:
        """Has whoever waits for more wait no longer."""


class Api(Protocol):
    """What is read of a cluster, be it there or recorded."""

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """All objects of a kind."""

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = False,
        headers: dict[str, str] | None = None,
    ) -> ApiAnswer:
        """One request; the raw response."""


class Cluster:
    """A connection to one API server.  Safe to use from several threads.

    Args:
        config: a kubeconfig file; None means the usual ones, or the Pod's own ServiceAccount.
        context: a context of that file; None means its current one.
        timeout: seconds for one request.
        patience: seconds for which an API server that does not answer is tried again.
    """

    def __init__(
        self,
        *,
        config: str | None = None,
        context: str | None = None,
        timeout: float = 30.0,
        patience: float = 10.0,
    ) -> None:
        self.in_cluster = False
        settings = client.Configuration()
        try:
            if config or context or not self._is_pod():
                kubeconfig.load_kube_config(config, context, client_configuration=settings)
                self.source = f"context {self._context_name(config, context)}"
            else:
                kubeconfig.load_incluster_config(client_configuration=settings)
                self.in_cluster = True
                self.source = "the cluster that this Pod runs in"
        except (kubeconfig.ConfigException, OSError) as error:
            raise NoCluster(f"{error}") from error
        except Exception as error:
            # the loader stumbles over a file that is no kubeconfig in many ways
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise NoCluster(f"the kubeconfig cannot be read: {words}") from error
        settings.retries = False
        self.api = client.ApiClient(settings)
        self.host = str(settings.host)
        self._timeout = timeout
        self._patience = patience
        self.requests = 0
        self._count = threading.Lock()

    @staticmethod
    def _is_pod() -> bool:
        return TOKENS.exists()

    @staticmethod
    def _context_name(config: str | None, context: str | None) -> str:
        return str(context or kubeconfig.list_kube_config_contexts(config)[1]["name"])

    def version(self) -> str:
        """The API server's version, `v1.34.4`."""
        try:
            return msgspec.json.decode(self.get("/version"), type=Version).git_version
        except ValueError as error:
            raise _undecodable("get /version", error) from error

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """All objects of a kind (those that it is `only` about), over all pages."""
        with _DECODERS:
            decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Page[kind.type])  # type: ignore[name-defined]
        try:
            return tuple(self._pages(kind, decoder))
        except ValueError as error:
            raise _undecodable(kind.right, error) from error

    def _pages(self, kind: Kind, decoder: "msgspec.json.Decoder[Any]") -> Iterator[Any]:
        position = ""
        while True:
            query = [("limit", str(PAGE))]
            query += [("fieldSelector", kind.only)] if kind.only else []
            query += [("continue", position)] if position else []
            try:
                page = decoder.decode(self.get(kind.path, query=query, right=kind.right))
            except _NoSuchKind:
                if kind.optional:
                    return
                raise
            yield from page.items
            position = page.metadata.continue_
            if not position:
                return

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes:
        """One GET; raises Unreadable with what to do about it."""
        response = self.send("GET", path, query=query)
        if response.status == 200:
            return bytes(response.data)
        raise self._refusal(response, path, right)

    def put(self, path: str, name: str, value: object, *, right: str) -> None:
        """Creates or replaces the object `name` of the collection `path`."""
        body = msgspec.json.encode(value)
        response = self.send("PUT", f"{path}/{name}", headers=_JSON, body=body)
        if response.status == 404:
            response = self.send("POST", path, headers=_JSON, body=body)
        if response.status not in (200, 201):
            raise self._refusal(response, f"{path}/{name}", right)

    def create(self, path: str, value: object, *, right: str) -> bytes:
        """Creates an object in the collection `path`; what it is then."""
        response = self.send("POST", path, headers=_JSON, body=msgspec.json.encode(value))
        if response.status not in (200, 201):
            raise self._refusal(response, path, right)
        return bytes(response.data)

    def merge(self, path: str, change: object, *, right: str) -> bytes:
        """Changes one object by a merge patch; what it is then."""
        headers = {"Content-Type": "application/merge-patch+json"}
        response = self.send("PATCH", path, headers=headers, body=msgspec.json.encode(change))
        if response.status != 200:
            raise self._refusal(response, path, right)
        return bytes(response.data)

    def delete(self, path: str, *, right: str, query: list[tuple[str, str]] | None = None) -> None:
        """Deletes one object; one that is gone already is no error."""
        response = self.send("DELETE", path, query=query)
        if response.status not in (200, 202, 404):
            raise self._refusal(response, path, right)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One request with our credentials; the raw response, unread when `stream`."""
        _, url, sent_headers, _, _ = self.api.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params={"Accept": "application/json", **(headers or {})},
            auth_settings=["BearerToken"],
        )
        deadline = time.monotonic() + self._patience
        while True:
            with self._count:
                self.requests += 1
            try:
                response: urllib3.BaseHTTPResponse = self.api.rest_client.pool_manager.request(
                    method,
                    url,
                    headers=sent_headers,
                    body=body,
                    preload_content=not stream,
                    retries=False,
                    timeout=urllib3.Timeout(connect=5.0, read=None if stream else self._timeout),
                )
            except urllib3.exceptions.HTTPError as error:
                # An API server that restarts is back within seconds; one that never answered
                # and is not ours to know gets the same patience, no more.
                if self._hopeless(error) or time.monotonic() >= deadline:
                    raise self._unreachable(error) from error
                time.sleep(0.5)
                continue
            return response

    @staticmethod
    def _hopeless(error: Exception) -> bool:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(
                cause, urllib3.exceptions.SSLError | urllib3.exceptions.NameResolutionError
            ):
                return True
            cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
            if not isinstance(cause, BaseException):
                return False
        return False

    def _unreachable(self, error: Exception) -> ReadError:
        reason = getattr(error, "reason", None) or error
        words = str(reason).split(": ", 1)[-1] if ">: " in str(reason) else str(reason)
        return ReadError(
            f"cannot reach the API server {self._address}: {words}",
            "check --kubeconfig, --context and the network between here and the API server",
        )

    @property
    def _address(self) -> str:
        # without user info, path and query: nothing of a credential
        parts = urlsplit(self.host)
        return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"

    def _refusal(self, response: urllib3.BaseHTTPResponse, path: str, right: str) -> ReadError:
        words = self._words(response)
        if response.status == 401:
            return ReadError(
                f"the API server {self._address} does not accept our credentials (401 {words})",
                "log in again, or renew the token: it is expired, or of another cluster",
            )
        if response.status == 403:
            needed = right or f"get {path}"
            return ReadError(
                f"no right to {needed}: {words}",
                f"grant `{needed}` (`meshgate rbac` prints all that is needed)",
            )
        if response.status == 404:
            return _NoSuchKind(f"the API server does not know {path}", "is its CRD installed?")
        return ReadError(
            f"the API server answered {response.status} to {path}: {words}",
            "look at the API server's health, then run again",
            transient=response.status
            in (410, 429, 500, 502, 503, 504),  # 410: a page that is too old
        )

    @staticmethod
    def _words(response: urllib3.BaseHTTPResponse) -> str:
        try:
            return str(msgspec.json.decode(response.data, type=dict[str, Any]).get("message", ""))
        except ValueError:
            return bytes(response.data[:200]).decode(errors="replace").strip()

    def forward(self, namespace: str, pod: str, port: int) -> "Forwarded":
        """HTTP to a Pod's port, which it sees as a call from its own loopback."""
        return Forwarded(self.tunnel(namespace, pod, port), port, self._timeout)

    def tunnel(self, namespace: str, pod: str, port: int) -> PortForward:
        """Opens a port-forward to a Pod's port."""
        with self._count:
            self.requests += 1
        # portforward() swaps a method of its client while it connects: not one that others share
        own = client.ApiClient(self.api.configuration)
        try:
            return portforward(
                client.CoreV1Api(own).connect_get_namespaced_pod_portforward,
                pod,
                namespace,
                ports=str(port),
                _request_timeout=self._timeout,
            )
        except client.ApiException as error:
            if error.status in (401, 403):
                raise ReadError(
                    f"no right to port-forward to pod {namespace}/{pod}: {error.reason}",
                    f"grant `get pods/portforward` (and `create`) in {namespace}, or run inside "
                    "the cluster with a token of audience istio-ca (--istiod-access=direct)",
                ) from error
            raise ReadError(
                f"cannot port-forward to pod {namespace}/{pod}: {error.reason}",
                "is the pod running?",
                transient=True,
            ) from error


class _NoSuchKind(ReadError):
    pass


def _undecodable(request: str, error: ValueError) -> ReadError:
    # msgspec's errors are ValueErrors, and so is what is not UTF-8
    return ReadError(
        f"cannot decode the answer to {request}: {error}",
        "is this a Kubernetes API server? If so, please report this with its version",
    )


class Forwarded(HTTPConnection):
    """An HTTP connection through a port-forward; `close` ends both."""

    def __init__(self, tunnel: PortForward, port: int, timeout: float) -> None:
        super().__init__("localhost", port, timeout=timeout)
        self._tunnel = tunnel
        self._forwarded_port = port

    def connect(self) -> None:
        if error := self._tunnel.error(self._forwarded_port):
            raise HTTPException(error)
        self.sock = self._tunnel.socket(self._forwarded_port)
        self.sock.settimeout(self.timeout)

    def close(self) -> None:
        super().close()
        self._tunnel.close()
