"""istiod's own word, replica by replica: each knows only the proxies that are connected to it.

From inside the cluster its monitoring port is asked directly, with a token of audience `istio-ca`;
from a laptop through a port-forward, which istiod sees as loopback and lets in without one.
"""

import re
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Protocol, TypeVar

import httpx
import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import LARGEST, Cluster
from meshgate.deadline import bounded, concurrently
from meshgate.probe.resolver import connect
from meshgate.semantics.hosts import authority
from meshgate.semantics.topology import Entrypoint
from meshgate.semantics.webhooks import Backend
from meshgate.settings import flag
from meshgate.snapshot.ambient import AmbientReading
from meshgate.snapshot.istiod import IstiodMetrics, IstiodReading, ProxySync
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mesh_config import EffectiveConfig

MONITORING_PORT = 15014

# All that may ever be asked: some of istiod's debug paths change its state (adsz?push=true).
PATHS = frozenset(
    {
        *("/version", "/metrics", "/debug/syncz", "/debug/push_status"),
        *("/debug/mesh", "/debug/clusterz", "/debug/ambientz"),
    }
)

# The one that takes a name: the configuration that istiod makes for one proxy.
_CONFIG_DUMP = re.compile(r"/debug/config_dump\?proxyID=[a-z0-9.-]+")

TOKEN_FILES = (
    Path("/var/run/secrets/tokens/istio-token"),
    Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
)

Said = TypeVar("Said", IstiodReading, IstiodMetrics, EffectiveConfig, AmbientReading)


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer: status, body, and the replica's own clock."""

    status: int
    body: bytes
    at: datetime | None


class Transport(Protocol):
    """A way to istiod's replicas; `sees_the_wire`: whether a pod sees us as it sees other pods."""

    sees_the_wire: bool

    def session(self, pod: Pod) -> "Session":
        """Open a way to one replica; raise ReadError."""

    def dial(self, backend: Backend) -> socket.socket:
        """Connect to a port of a pod; raise OSError, or ReadError if it is permanent."""

    def enter(self, entrypoint: Entrypoint) -> socket.socket:
        """Connect to a port of a Service; raise OSError, or ReadError if it is permanent."""

    def token(self) -> str | None:
        """Our token of audience istio-ca, None where none can be expected; raise ReadError."""


class Session(Protocol):
    """A connection to one istiod replica."""

    def get(self, path: str) -> Answer:
        """Send one GET of an allowed path; raise ReadError without an answer."""

    def close(self) -> None:
        """Close the session."""


class Direct:
    """Pod address to pod address, with a bearer token: what a hook Job does.

    Args:
        token_file: a token of audience istio-ca; None means the usual projected ones.
        timeout: seconds for one request.
    """

    sees_the_wire = True

    def __init__(self, token_file: Path | None, timeout: float) -> None:
        self._token_file = token_file
        self._timeout = timeout

    def token(self) -> str:
        return _first((self._token_file,) if self._token_file else TOKEN_FILES)

    def session(self, pod: Pod) -> Session:
        if not pod.status.pod_ip:
            raise ReadError("it has no address yet", "", transient=True)
        return _DirectSession(pod, self.token(), self._timeout)

    def dial(self, backend: Backend) -> socket.socket:
        connection = connect(backend.address, backend.port, self._timeout)
        # else each question's body waits 40 ms for the other end to acknowledge its headers
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def enter(self, entrypoint: Entrypoint) -> socket.socket:
        if entrypoint.addresses:
            return connect(entrypoint.addresses[0], entrypoint.port, self._timeout)
        return self.dial(_ready(entrypoint))


def _ready(entrypoint: Entrypoint) -> Backend:
    """Return an endpoint of a Service whose own address is not to be had, or not from here."""
    if not entrypoint.backends:
        raise ConnectionRefusedError(
            f"{entrypoint.subject} has no ready endpoint for port {entrypoint.port}"
        )
    return entrypoint.backends[0]


def _first(candidates: tuple[Path, ...]) -> str:
    for candidate in candidates:
        try:
            return candidate.read_text().strip()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ReadError(
                f"cannot read the token for istiod: {error}",
                f"check {flag('access.istiod_token_file')}",
            ) from error
    raise ReadError(
        f"no token for istiod: {' and '.join(map(str, candidates))} do not exist",
        "mount a projected ServiceAccount token of audience istio-ca, or name one with "
        f"{flag('access.istiod_token_file')}",
    )


class _DirectSession:
    def __init__(self, pod: Pod, token: str, timeout: float) -> None:
        self._timeout = timeout
        self._client = httpx.Client(
            base_url=f"http://{authority(pod.status.pod_ip, MONITORING_PORT)}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            trust_env=False,  # a proxy of the environment has no business with pod addresses
        )

    def get(self, path: str) -> Answer:
        def ask() -> Answer:
            body = bytearray()
            with self._client.stream("GET", _allowed(path)) as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > LARGEST:
                        raise TimeoutError
            return Answer(response.status_code, bytes(body), _clock(response.headers.get("date")))

        try:
            # the time-out of httpx is for each read: slow drips would never end
            return bounded(ask, self._timeout, path)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _endless(path, self._timeout) from error
        except httpx.HTTPError as error:
            raise _silent(error) from error

    def close(self) -> None:
        self._client.close()


class PortForward:
    """Through the API server, with the person's own right to port-forward: what a laptop does.

    Args:
        cluster: the connection to the API server.
        token_file: a token of audience istio-ca; None where the person has none.
        timeout: seconds for one answer.
    """

    sees_the_wire = False

    def __init__(self, cluster: Cluster, token_file: Path | None, timeout: float) -> None:
        self._cluster = cluster
        self._token_file = token_file
        self._timeout = timeout

    def token(self) -> str | None:
        return _first((self._token_file,)) if self._token_file else None

    def dial(self, backend: Backend) -> socket.socket:
        try:
            tunnel = self._cluster.tunnel(backend.namespace, backend.pod, backend.port)
        except ReadError as error:
            if error.transient:
                raise ConnectionError(error.why) from error
            raise
        connection: socket.socket = tunnel.socket(backend.port)
        connection.settimeout(self._timeout)
        return connection

    def enter(self, entrypoint: Entrypoint) -> socket.socket:
        return self.dial(_ready(entrypoint))

    def session(self, pod: Pod) -> Session:
        return _ForwardedSession(self._cluster, pod, self._timeout)


class _ForwardedSession:
    def __init__(self, cluster: Cluster, pod: Pod, timeout: float) -> None:
        metadata = pod.metadata
        self._timeout = timeout
        self._connection = cluster.forward(metadata.namespace, metadata.name, MONITORING_PORT)

    def get(self, path: str) -> Answer:
        def ask() -> Answer:
            self._connection.request("GET", _allowed(path))
            response = self._connection.getresponse()
            body = response.read(LARGEST)
            return Answer(response.status, body, _clock(response.getheader("Date")))

        try:
            return bounded(ask, self._timeout, path)
        except TimeoutError as error:
            self.close()
            raise _endless(path, self._timeout) from error
        except (HTTPException, OSError) as error:
            raise _silent(error) from error

    def close(self) -> None:
        self._connection.close()


def read(pods: Iterable[Pod], transport: Transport) -> tuple[IstiodReading, ...]:
    """Asks every replica for its version and its proxies."""
    return ask_each(pods, transport, IstiodReading, _ask)


def ask_each(
    pods: Iterable[Pod],
    transport: Transport,
    kind: type[Said],
    ask: Callable[[Pod, Session], Said],
) -> tuple[Said, ...]:
    """Asks every replica, several at a time; one that does not answer has said something too.

    Args:
        pods: istiod's replicas.
        transport: how to reach them.
        kind: the type of a result; also holds the reason if a replica does not answer.
        ask: reads one replica.

    Returns:
        One result for each replica, sorted by pod name.
    """
    replicas = sorted(pods, key=lambda pod: pod.metadata.name)

    def said(pod: Pod) -> Said:
        try:
            session = transport.session(pod)
            try:
                return ask(pod, session)
            finally:
                session.close()
        except ReadError as error:
            if error.transient:
                return kind(pod=pod.metadata.name, error=error.why)
            return kind(pod=pod.metadata.name, denied=f"{error.why}. {error.remedy}")

    return tuple(concurrently(said, replicas, workers=8))


def _ask(pod: Pod, session: Session) -> IstiodReading:
    syncz = session.get("/debug/syncz")
    read_at = datetime.now(UTC)
    if syncz.status != 200:
        raise refusal("/debug/syncz", syncz)
    try:
        proxies = msgspec.json.decode(syncz.body, type=tuple[ProxySync, ...] | None) or ()
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"cannot decode /debug/syncz: {error}",
            "is this istiod of a version that meshgate knows?",
        ) from error
    version = session.get("/version")
    return IstiodReading(
        pod=pod.metadata.name,
        version=version.body.decode(errors="replace").strip() if version.status == 200 else "",
        at=syncz.at,
        read=read_at,
        proxies=tuple(proxy for proxy in proxies if _is_proxy(proxy)),
    )


def _is_proxy(each: ProxySync) -> bool:
    """Return whether a client of istiod is a proxy.

    istioctl and other tools have a version that no Istio has, or none.  So has a ztunnel whose
    image does not set ISTIO_META_ISTIO_VERSION.
    """
    return each.proxy_type == "ztunnel" or each.istio_version not in ("", "65536.65536.65536")


def refusal(path: str, answer: Answer) -> ReadError:
    """Return what an answer that is not 200 means, and what to do about it."""
    words = answer.body[:200].decode(errors="replace").strip()
    if answer.status == 401:
        return ReadError(
            f"istiod does not accept our token (401 {words})",
            "it must be a valid ServiceAccount token of audience istio-ca",
        )
    if answer.status == 403 and path == "/metrics":
        return ReadError(
            f"istiod serves its metrics to itself only (403 {words})",
            "set METRICS_LOCALHOST_ACCESS_ONLY=false on istiod, or verify from a laptop, through "
            "a port-forward",
        )
    if answer.status == 403:
        return ReadError(
            f"istiod does not let us read {path} (403 {words})",
            "run in istiod's own namespace, or put ours on istiod's "
            "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES",
        )
    if answer.status == 404:
        return ReadError(
            "istiod serves no debug endpoints (404)", "set ENABLE_DEBUG_ON_HTTP=true on istiod"
        )
    return ReadError(
        f"istiod answered {answer.status} to {path}: {words}", "", transient=answer.status >= 500
    )


def _silent(error: Exception) -> ReadError:
    return ReadError(f"no answer: {error or type(error).__name__}", "", transient=True)


def _endless(path: str, seconds: float) -> ReadError:
    return ReadError(f"no complete answer to {path} within {seconds:g} s", "", transient=True)


def config_dump_path(proxy: str) -> str:
    """The path where istiod serves the configuration of a proxy (`pod.namespace`)."""
    return f"/debug/config_dump?proxyID={proxy}"


def _allowed(path: str) -> str:
    if path not in PATHS and not _CONFIG_DUMP.fullmatch(path):
        raise ValueError(f"{path} is not on the list of istiod's read-only paths")
    return path


def _clock(date: str | None) -> datetime | None:
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None  # a date that no clock shows
