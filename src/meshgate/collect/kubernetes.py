"""The API server, read with the person's or the Pod's own rights: lists, paged, decoded by msgspec.

`kubernetes` finds the credentials (kubeconfig, exec plugins, the in-cluster ServiceAccount) and
carries the requests; its models are not used (20 times the memory, see docs/adr/0002).
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import urllib3
from kubernetes import client
from kubernetes import config as kubeconfig
from kubernetes.stream.ws_client import PortForward

from meshgate.collect import exec_plugins
from meshgate.collect.answers import Answer, address, is_permanent, refusal, unreachable
from meshgate.collect.errors import OUT_OF_TIME, NoCluster, ReadError
from meshgate.collect.lists import Listing, not_kubernetes, read_list, undecodable
from meshgate.collect.memory_files import keep_in_memory
from meshgate.collect.port_forward import Forwarded, tunnel
from meshgate.deadline import Deadline, bounded
from meshgate.settings import flag
from meshgate.snapshot.base import Base
from meshgate.snapshot.sources import Kind

__all__ = ["Cluster", "NoCluster", "ReadError", "Version"]

T = TypeVar("T")

CLEANUP = 5.0  # seconds after the run's deadline for a request that removes something
LARGEST = 512 * 1024 * 1024  # bytes of one answer
_JSON = {"Content-Type": "application/json"}
TOKENS = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Version(Base, frozen=True):
    git_version: str


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
            # the loader raises many kinds of errors for a file that is not a kubeconfig
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise NoCluster(f"the kubeconfig cannot be read: {words}") from error
        if exec_plugins.failures:
            raise NoCluster(exec_plugins.failures.pop())
        keep_in_memory(settings)
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
        """Return the API server's version, `v1.34.4`."""
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
        """Return the body of one GET; raise ReadError for any other answer.

        Args:
            path: the request's path.
            query: the query parameters, in order.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.

        Returns:
            The body.
        """
        response = self.ask("GET", path, query=query)
        if response.status == 200:
            return response.data
        raise refusal(self.host, response, path, right)

    def put(self, path: str, name: str, value: object, *, right: str) -> None:
        """Create or replaces the object `name` of the collection `path`.

        Args:
            path: the collection's path.
            name: the object's name.
            value: the object to write.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.
        """
        body = msgspec.json.encode(value)
        response = self.ask("PUT", f"{path}/{name}", headers=_JSON, body=body)
        if response.status == 404:
            response = self.ask("POST", path, headers=_JSON, body=body)
        if response.status not in (200, 201):
            raise refusal(self.host, response, f"{path}/{name}", right)

    def create(self, path: str, value: object, *, right: str) -> bytes:
        """Create an object in the collection `path`; what it is then.

        Args:
            path: the collection's path.
            value: the object to write.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.

        Returns:
            The body: the object as it was created.
        """
        response = self.ask("POST", path, headers=_JSON, body=msgspec.json.encode(value))
        if response.status not in (200, 201):
            raise refusal(self.host, response, path, right)
        return response.data

    def merge(self, path: str, change: object, *, right: str) -> bytes:
        """Change one object by a merge patch; what it is then.

        Args:
            path: the request's path.
            change: the merge patch.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.

        Returns:
            The body: the object after the change.
        """
        headers = {"Content-Type": "application/merge-patch+json"}
        response = self.ask("PATCH", path, headers=headers, body=msgspec.json.encode(change))
        if response.status != 200:
            raise refusal(self.host, response, path, right)
        return response.data

    def delete(self, path: str, *, right: str, query: list[tuple[str, str]] | None = None) -> None:
        """Delete one object; an object that does not exist is not an error.

        Args:
            path: the request's path.
            right: the permission that an error names, such as `list pods`; derived from the path
                if empty.
            query: the query parameters, in order.
        """
        response = self.ask("DELETE", path, query=query, cleanup=True)
        if response.status not in (200, 202, 404):
            raise refusal(self.host, response, path, right)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        stream: bool = True,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request with our credentials and return the response, unread.

        Args:
            method: the HTTP method.
            path: the request's path.
            query: the query parameters, in order.
            stream: whether the body is read later, by the caller.
            headers: additional headers.

        Returns:
            The response; its body is read later if `stream`.
        """
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
        cleanup: bool = False,
    ) -> Answer:
        """Send one request and return the whole answer, within the time-out of a request.

        Args:
            method: the HTTP method.
            path: the request's path.
            query: the query parameters, in order.
            headers: additional headers.
            body: the request's body.
            cleanup: whether it is sent after the run's deadline too, with CLEANUP seconds.

        Returns:
            The whole response.
        """
        request = self._request(method, path, query, headers)
        left = max(self.deadline.left, CLEANUP) if cleanup else self.deadline.left
        limit = min(self._timeout, left)
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
                f"timed out: the API server {address(self.host)} did not finish its answer to "
                f"{method} {path} within {limit:.3g} s and {LARGEST // 1024**2} MiB",
                f"raise {flag('access.request_timeout')}, or check the network to the API server",
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
                if is_permanent(error) or patience.passed:
                    raise unreachable(self.host, error) from error
                time.sleep(0.5)

    def forward(self, namespace: str, pod: str, port: int) -> Forwarded:
        """Open an HTTP connection to a Pod's port, through a port-forward.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            port: the pod's port.

        Returns:
            An HTTP connection to the port, seen by the pod as a connection from its loopback.
        """
        return Forwarded(self.tunnel(namespace, pod, port), port, self._timeout)

    def tunnel(self, namespace: str, pod: str, port: int) -> PortForward:
        """Open a port-forward to a Pod's port.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            port: the pod's port.

        Returns:
            The connected stream.
        """
        with self._count:
            self.requests += 1
        return tunnel(self.api, namespace, pod, port, min(self._timeout, self.deadline.left))
