"""Port-forwards to pods, which a pod sees as connections from its loopback."""

from functools import partial
from http.client import HTTPConnection, HTTPException

from kubernetes import client
from kubernetes.stream import portforward
from kubernetes.stream.ws_client import PortForward

from meshgate.collect.errors import ReadError
from meshgate.deadline import bounded
from meshgate.settings import flag


def tunnel(
    api: client.ApiClient, namespace: str, pod: str, port: int, timeout: float
) -> PortForward:
    """Open a port-forward to a pod's port; raise ReadError if it fails.

    Args:
        api: a client of the API server.
        namespace: the pod's namespace.
        pod: the pod's name.
        port: the pod's port.
        timeout: seconds.

    Returns:
        The connected stream.
    """
    # portforward() swaps a method of its client while it connects: not one that others share
    own = client.ApiClient(api.configuration)
    connect = partial(
        portforward,
        client.CoreV1Api(own).connect_get_namespaced_pod_portforward,
        pod,
        namespace,
        ports=str(port),
        _request_timeout=timeout,
    )
    try:
        return bounded(connect, timeout, f"forward {pod}")
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
                "the cluster with a token of audience istio-ca "
                f"({flag('access.istiod_access', 'direct')})",
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
