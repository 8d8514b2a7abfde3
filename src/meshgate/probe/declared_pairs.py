"""Declared requests, sent with the certificate of the declared caller to the pods of a Service.

A pod with a sidecar gets them over TLS.  A pod in ambient mode and a waypoint get them in a tunnel
(HBONE); ztunnel denies the CONNECT that opens it with 401, and a waypoint the request with 403.
"""

import socket
import ssl
from collections.abc import Iterable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

import msgspec
from h2.exceptions import H2Error

from meshgate import __version__
from meshgate.deadline import concurrently
from meshgate.probe import hbone_client, local_replies
from meshgate.probe.pace import Pace, RequestDeadline, TimedConnection
from meshgate.probe.signing import Identity
from meshgate.probe.tls import context
from meshgate.semantics.pair_targets import PairTarget
from meshgate.snapshot.declared_pairs import DeclaredPair, PairAnswer

TIMEOUT = 5.0  # seconds for a connection, a handshake and an answer together
WORKERS = 16
DENIED_BY_ZTUNNEL = 401  # the answer to CONNECT where an AuthorizationPolicy denies it
BODY = 1024  # octets of an answer that are read
AGENT = f"meshgate/{__version__} (verifies an Istio upgrade)"


class Planned(NamedTuple):
    """A declared request, what gets it, and the full name of the Service."""

    pair: DeclaredPair
    target: PairTarget
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
    to_sidecars = _clients(identities, ("istio-http/1.1",))
    through_tunnels = _clients(identities, hbone_client.ALPN)
    pace = Pace(rate)

    def one(each: Planned) -> PairAnswer:
        pace.wait()
        clients = through_tunnels if each.target.authority else to_sidecars
        return _answer(each, clients[each.pair.caller])

    return tuple(concurrently(one, [e for e in planned if e.pair.caller in identities], WORKERS))


def _clients(
    identities: Mapping[str, Identity], alpn: tuple[str, ...]
) -> dict[str, ssl.SSLContext]:
    return {
        caller: context(alpn=alpn, identity=(identity.chain, identity.key))
        for caller, identity in identities.items()
    }


def _answer(planned: Planned, client: ssl.SSLContext) -> PairAnswer:
    target, deadline = planned.target, RequestDeadline(TIMEOUT)
    seen = PairAnswer(
        request=planned.pair.key, pod=target.name, end="unreachable", authority=target.authority
    )
    replace, tunnel = msgspec.structs.replace, None
    try:
        with _connected(target, deadline) as raw:
            seen = replace(seen, end="refused")
            raw.settimeout(deadline.check())
            with client.wrap_socket(raw, server_hostname=None) as connection:
                seen = replace(seen, end="reset")
                if not target.authority:
                    to = TimedConnection(connection, deadline)
                    return _ended(seen, *_exchange(to, planned), proxy=True)
                tunnel = hbone_client.Tunnel(connection, deadline)
                seen = replace(seen, connect=tunnel.open(target.authority))
                if seen.connect != hbone_client.OPEN:
                    return replace(seen, end=_declined(target, seen.connect, tunnel))
                # ztunnel answers nothing in a tunnel by itself
                return _ended(seen, *_exchange(tunnel, planned), proxy=bool(target.waypoint))
    except TimeoutError as error:
        end = seen.end if seen.end == "unreachable" else "silent"
        return replace(seen, end=end, error=str(error))
    except (OSError, H2Error, HTTPException) as error:
        # with TLS 1.3 the refusal of our certificate follows the handshake
        alert = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
        if alert or (tunnel is not None and not tunnel.accepted):
            seen = replace(seen, end="refused")
        return replace(seen, error=_words(error))


def _connected(target: PairTarget, deadline: RequestDeadline) -> socket.socket:
    address = target.pod.status.pod_ip
    if target.authority:
        return hbone_client.connected(address, deadline)
    return socket.create_connection((address, target.port), deadline.check())


def _declined(target: PairTarget, status: int, tunnel: hbone_client.Tunnel) -> str:
    """Return how a request ended whose CONNECT was not answered with 200.

    Args:
        target: what was connected to.
        status: the answer's.
        tunnel: the stream, whose answer has a body if Envoy denies.

    Returns:
        `denied` if an AuthorizationPolicy denies it, else `declined`.
    """
    if target.waypoint:
        denied = status == 403 and tunnel.refusal(BODY).startswith(local_replies.RBAC)
    else:
        denied = status == DENIED_BY_ZTUNNEL
    return "denied" if denied else "declined"


def _exchange(
    connection: TimedConnection | hbone_client.Tunnel, planned: Planned
) -> tuple[int, dict[str, str], str]:
    """Send the request; return the status, the headers with lower-case names, and the body."""
    pair, host = planned.pair, planned.host
    http = HTTPConnection(host, pair.port)
    http.sock = connection
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


def _ended(
    seen: PairAnswer, status: int, headers: Mapping[str, str], body: str, *, proxy: bool
) -> PairAnswer:
    """Return an answer with its status and who gave it.

    Args:
        seen: what is known of it.
        status: of the answer.
        headers: with lower-case names.
        body: as much of it as was read.
        proxy: whether an Envoy may have answered by itself.

    Returns:
        The answer.
    """
    end = _end(status, headers, body) if proxy else "answered"
    return msgspec.structs.replace(seen, end=end, status=status)


def _end(status: int, headers: Mapping[str, str], body: str) -> str:
    """Return who answered through Envoy.

    An application that repeats another proxy's denial has the header of an upstream.  The header
    x-envoy-decorator-operation shows nothing: a sidecar adds it to its own answers, too.

    Args:
        status: of the answer.
        headers: with lower-case names.
        body: as much of it as was read.

    Returns:
        `answered`, `denied` or `proxy`.
    """
    if local_replies.UPSTREAM in headers:
        return "answered"
    if local_replies.reason(status, headers, body) == "RBAC":
        return "denied"
    return "proxy" if local_replies.from_envoy(headers) else "answered"


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    strerror = getattr(error, "strerror", None)
    return str(strerror or error) or type(error).__name__
