"""The API server, read with the person's or the Pod's own rights: lists, paged, decoded by msgspec.

`kubernetes` finds the credentials (kubeconfig, exec plugins, the in-cluster ServiceAccount) and
carries the requests; its models are not used (20 times the memory, see docs/adr/0002).
"""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import urllib3
from kubernetes import client
from kubernetes import config as kubeconfig
from kubernetes.stream import portforward
from kubernetes.stream.ws_client import PortForward

from meshgate.collect import exec_plugins
from meshgate.collect.errors import OUT_OF_TIME, NoCluster, NotServed, ReadError
from meshgate.collect.lists import Listing, not_kubernetes, read_list, undecodable
from meshgate.deadline import Deadline, bounded
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Kind

__all__ = ["Api", "ApiAnswer", "Cluster", "NoCluster", "ReadError", "Version"]

T = TypeVar("T")

LARGEST = 512 * 1024 * 1024  # bytes of one answer
_JSON = {"Content-Type": "application/json"}
TOKENS = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Version(Base, frozen=True):
    git_version: str


class Answer(NamedTuple):
    """The whole answer to one request."""

    status: int
    data: bytes


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
        """Return all objects of a kind."""

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
        deadline: when the run ends: no request lasts longer.
    """

    def __init__(
        self,
        *,
        config: str | None = None,
        context: str | None = None,
        timeout: float = 30.0,
        patience: float = 10.0,
        deadline: Deadline | None = None,
    ) -> None:
        self.in_cluster = False
        self.deadline = deadline or Deadline()
        exec_plugins.bound()
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
        if exec_plugins.failures:
            raise NoCluster(exec_plugins.failures.pop())
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
        except (ValueError, RecursionError) as error:
            raise not_kubernetes("get /version", error) from error

    def objects(self, kind: Kind) -> tuple[Any, ...]:
        """Return all objects of a kind; raise ReadError if one of them cannot be decoded."""
        found = self.listing(kind)
        if found.undecodable:
            raise ReadError(*undecodable(kind, found.undecodable))
        return found.objects

    def listing(self, kind: Kind) -> Listing:
        """Return the list of a kind, over all pages, at the newest version that is served."""
        return read_list(self, kind)

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes:
        """Return the body of one GET; raise ReadError for any other answer."""
        response = self.ask("GET", path, query=query)
        if response.status == 200:
            return response.data
        raise self._refusal(response, path, right)

    def put(self, path: str, name: str, value: object, *, right: str) -> None:
        """Creates or replaces the object `name` of the collection `path`."""
        body = msgspec.json.encode(value)
        response = self.ask("PUT", f"{path}/{name}", headers=_JSON, body=body)
        if response.status == 404:
            response = self.ask("POST", path, headers=_JSON, body=body)
        if response.status not in (200, 201):
            raise self._refusal(response, f"{path}/{name}", right)

    def create(self, path: str, value: object, *, right: str) -> bytes:
        """Creates an object in the collection `path`; what it is then."""
        response = self.ask("POST", path, headers=_JSON, body=msgspec.json.encode(value))
        if response.status not in (200, 201):
            raise self._refusal(response, path, right)
        return response.data

    def merge(self, path: str, change: object, *, right: str) -> bytes:
        """Changes one object by a merge patch; what it is then."""
        headers = {"Content-Type": "application/merge-patch+json"}
        response = self.ask("PATCH", path, headers=headers, body=msgspec.json.encode(change))
        if response.status != 200:
            raise self._refusal(response, path, right)
        return response.data

    def delete(self, path: str, *, right: str, query: list[tuple[str, str]] | None = None) -> None:
        """Deletes one object; one that is gone already is no error."""
        response = self.ask("DELETE", path, query=query)
        if response.status not in (200, 202, 404):
            raise self._refusal(response, path, right)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = True,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request with our credentials and return the response, unread."""
        request = self._request(method, path, query, headers)
        connect = urllib3.Timeout(connect=5.0, read=None)
        return self._retried(lambda: request(preload_content=False, timeout=connect))

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> "Answer":
        """Send one request and return the whole answer, within the time-out of a request."""
        request = self._request(method, path, query, headers)
        limit = min(self._timeout, self.deadline.left)
        if not limit:
            raise ReadError(*OUT_OF_TIME)

        def whole() -> Answer:
            # the time-out of urllib3 is for each read: slow drips would never end
            within = Deadline(limit)
            timeout = urllib3.Timeout(connect=min(5.0, limit), read=limit)
            with request(body=body, preload_content=False, timeout=timeout) as response:
                data = bytearray()
                while part := response.read1(1024 * 1024):
                    data += part
                    if within.passed or len(data) > LARGEST:
                        raise TimeoutError
                return Answer(response.status, bytes(data))

        try:
            return self._retried(lambda: bounded(whole, limit, f"{method} {path}"))
        except TimeoutError as error:
            raise ReadError(
                f"timed out: the API server {self._address} did not finish its answer to "
                f"{method} {path} within {limit:.3g} s and {LARGEST // 1024**2} MiB",
                "raise --request-timeout, or check the network to the API server",
                transient=True,
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        headers: dict[str, str] | None,
    ) -> Callable[..., urllib3.BaseHTTPResponse]:
        _, url, sent_headers, _, _ = self.api.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params={"Accept": "application/json", **(headers or {})},
            auth_settings=["BearerToken"],
        )
        send = self.api.rest_client.pool_manager.request
        # the client's defaults must not replace the User-Agent of a program behind the facade
        return partial(send, method, url, headers=sent_headers | (headers or {}), retries=False)

    def _retried(self, attempt: Callable[[], T]) -> T:
        """Try again where the connection fails, while our patience lasts.

        An API server that restarts is back within seconds.  One that never answered gets the same.
        """
        patience = self.deadline.within(self._patience)
        while True:
            with self._count:
                self.requests += 1
            try:
                return attempt()
            except urllib3.exceptions.HTTPError as error:
                if self._hopeless(error) or patience.passed:
                    raise self._unreachable(error) from error
                time.sleep(0.5)

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

    def _refusal(self, response: "Answer", path: str, right: str) -> ReadError:
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
            return NotServed(f"the API server does not serve {path}", "install its CRD")
        return ReadError(
            f"the API server answered {response.status} to {path}: {words}",
            "look at the API server's health, then run again",
            transient=response.status
            in (410, 429, 500, 502, 503, 504),  # 410: a page that is too old
        )

    @staticmethod
    def _words(response: "Answer") -> str:
        try:
            return str(msgspec.json.decode(response.data, type=dict[str, Any]).get("message", ""))
        except ValueError:
            return response.data[:200].decode(errors="replace").strip()

    def forward(self, namespace: str, pod: str, port: int) -> "Forwarded":
        """HTTP to a Pod's port, which it sees as a call from its own loopback."""
        return Forwarded(self.tunnel(namespace, pod, port), port, self._timeout)

    def tunnel(self, namespace: str, pod: str, port: int) -> PortForward:
        """Opens a port-forward to a Pod's port."""
        with self._count:
            self.requests += 1
        # portforward() swaps a method of its client while it connects: not one that others share
        own = client.ApiClient(self.api.configuration)
        connect = partial(
            portforward,
            client.CoreV1Api(own).connect_get_namespaced_pod_portforward,
            pod,
            namespace,
            ports=str(port),
            _request_timeout=self._timeout,
        )
        try:
            return bounded(connect, min(self._timeout, self.deadline.left), f"forward {pod}")
        except TimeoutError as error:
            raise ReadError(
                f"cannot port-forward to pod {namespace}/{pod}: {error}",
                "check the network to the API server",
                transient=True,
            ) from error
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
