"""Declared requests, sent with the certificate of the declared caller to the pods of a Service."""

import socket
import ssl
from collections.abc import Iterable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

from meshgate import __version__
from meshgate.deadline import concurrently
from meshgate.probe import local_replies
from meshgate.probe.pace import Pace, RequestDeadline, TimedConnection
from meshgate.probe.signing import Identity
from meshgate.probe.tls import context
from meshgate.semantics.workloads import Port
from meshgate.snapshot.declared_pairs import DeclaredPair, PairAnswer

TIMEOUT = 5.0  # seconds for a connection, a handshake and an answer together
WORKERS = 16
BODY = 1024  # octets of an answer that are read
AGENT = f"meshgate/{__version__} (verifies an Istio upgrade)"


class Planned(NamedTuple):
    """A declared request, a port that gets it, and the full name of the Service."""

    pair: DeclaredPair
    port: Port
    host: str


def send(
    planned: Iterable[Planned], identities: Mapping[str, Identity], rate: float
) -> tuple[PairAnswer, ...]:
    """Send each request whose caller has a certificate.

    Args:
        planned: the requests.
        identities: caller to its certificate.
        rate: requests each second; 0 for no limit.

    Returns:
        One answer for each request that was sent, in the same order.

    Raises:
        StorageError: this system cannot hold a private key in memory only.
    """
    clients = {
        caller: context(alpn=("istio-http/1.1",), identity=(identity.chain, identity.key))
        for caller, identity in identities.items()
    }
    pace = Pace(rate)

    def one(each: Planned) -> PairAnswer:
        pace.wait()
        return _answer(each, clients[each.pair.caller])

    return tuple(concurrently(one, [e for e in planned if e.pair.caller in clients], WORKERS))


def _answer(planned: Planned, client: ssl.SSLContext) -> PairAnswer:
    metadata = planned.port.pod.metadata
    deadline = RequestDeadline(TIMEOUT)
    end = "unreachable"

    def seen(end: str, status: int = 0, error: str = "") -> PairAnswer:
        return PairAnswer(
            request=planned.pair.key,
            pod=f"{metadata.namespace}/{metadata.name}",
            end=end,
            status=status,
            error=error,
        )

    try:
        address = (planned.port.pod.status.pod_ip, planned.port.number)
        with socket.create_connection(address, deadline.check()) as raw:
            end = "refused"
            raw.settimeout(deadline.check())
            with client.wrap_socket(raw, server_hostname=None) as connection:
                end = "reset"
                status, headers, body = _exchange(connection, planned, deadline)
    except TimeoutError as error:
        return seen(end if end == "unreachable" else "silent", error=str(error))
    except (OSError, HTTPException) as error:
        # with TLS 1.3 the refusal of our certificate follows the handshake
        alert = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
        return seen("refused" if alert else end, error=_words(error))
    return seen(_end(status, headers, body), status)


def _exchange(
    connection: socket.socket, planned: Planned, deadline: RequestDeadline
) -> tuple[int, dict[str, str], str]:
    pair, host = planned.pair, planned.host
    http = HTTPConnection(host, pair.port)
    http.sock = TimedConnection(connection, deadline)
    headers = {
        "Host": host if pair.port == 80 else f"{host}:{pair.port}",
        "User-Agent": AGENT,
        "Connection": "close",
    }
    http.request(pair.method, pair.path, headers=headers)
    answer = http.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    # an application's answer may be a stream that never ends
    own = local_replies.UPSTREAM not in found
    return answer.status, found, answer.read(BODY).decode(errors="replace") if own else ""


def _end(status: int, headers: Mapping[str, str], body: str) -> str:
    """Return who answered.

    An application that repeats another proxy's denial has the header of an upstream.  The header
    x-envoy-decorator-operation shows nothing: a sidecar adds it to its own answers, too.
    """
    if local_replies.UPSTREAM in headers:
        return "answered"
    if local_replies.reason(status, headers, body) == "RBAC":
        return "denied"
    return "proxy" if local_replies.from_envoy(headers) else "answered"


def _words(error: OSError | HTTPException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    strerror = getattr(error, "strerror", None)
    return str(strerror or error) or type(error).__name__
