"""The metrics that a pod serves on one of Istio's ports, as text."""

from http.client import HTTPConnection, HTTPException

from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import Transport
from meshgate.deadline import bounded
from meshgate.semantics.webhooks import Backend
from meshgate.snapshot.kubernetes import Pod

LARGEST = 32 * 1024**2  # bytes


def read(transport: Transport, pod: Pod, port: int, path: str, timeout: float) -> str:
    """Return what a pod answers to one GET.

    Args:
        transport: the way to the pod.
        pod: the pod.
        port: its port.
        path: the path, with its query.
        timeout: seconds for the whole answer.

    Raises:
        ReadError: if there is no answer, or one that is not complete or not 200.

    Returns:
        The body.
    """
    try:
        return bounded(lambda: _get(transport, pod, port, path, timeout), timeout, path)
    except (OSError, HTTPException) as error:  # TimeoutError is an OSError
        raise ReadError(
            f"port {port}: {error or type(error).__name__}",
            f"check that the verifier may connect to port {port} of the pod",
        ) from error


def _get(transport: Transport, pod: Pod, port: int, path: str, timeout: float) -> str:
    metadata = pod.metadata
    backend = Backend(metadata.namespace, metadata.name, pod.status.pod_ip, port)
    connection = HTTPConnection(metadata.name, port, timeout=timeout)
    connection.sock = transport.dial(backend)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise HTTPException(f"{path} answered {response.status}")
        body = response.read(LARGEST + 1)
    finally:
        connection.close()
    if len(body) > LARGEST:
        raise HTTPException(f"{path} is larger than {LARGEST // 1024**2} MiB")
    return body.decode(errors="replace")
