"""What HBONE servers do with a mesh peer and with others, and a request of the peer in the tunnel.

An HTTP request is sent through the tunnel, as an open one proves little.  It is OPTIONS, which
changes nothing in an application.
"""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple

import msgspec
from cryptography import x509
from h2.exceptions import H2Error

from meshgate.deadline import concurrently
from meshgate.probe import hbone_client, local_replies
from meshgate.probe.mtls import REQUEST, WORKERS, unknown_identity, words
from meshgate.probe.pace import Pace, RequestDeadline
from meshgate.probe.signing import Identity
from meshgate.probe.tls import context, served
from meshgate.semantics.certificates import described, distrust, parse, spiffe_id
from meshgate.snapshot.hbone import NO_ANSWER, Tunnel, TunnelProbe

TIMEOUT = 6.0  # seconds for a connection with all that is sent on it
MOST = 16384


class Target(NamedTuple):
    """What is connected to.

    Attributes:
        pod: `namespace/name`.
        address: of the pod.
        authority: `address:port`, as CONNECT names it.
        port: that port.
        host: the host of the HTTP request; empty to send none.
        service: `namespace/name` of the Service that the authority belongs to.
    """

    pod: str
    address: str
    authority: str
    port: int
    host: str = ""
    service: str = ""


def ask(
    targets: Iterable[Target], identity: Identity | None, root: str, at: datetime, rate: float
) -> tuple[TunnelProbe, ...]:
    """Probe every target, several at a time.

    Args:
        targets: the addresses.
        identity: the certificate that istiod signed for the verifier; None without one.
        root: the PEM bundle that workloads trust.
        at: the time at which certificates must be valid.
        rate: connections each second, 0 for no limit.

    Returns:
        One probe for each target, in the same order.

    Raises:
        StorageError: this system cannot hold the key of `identity` in memory only.
    """
    roots, pace = parse(root), Pace(rate)
    anonymous = context(alpn=hbone_client.ALPN)
    foreign = context(alpn=hbone_client.ALPN, identity=unknown_identity(at))
    mesh = (
        context(alpn=hbone_client.ALPN, identity=(identity.chain, identity.key))
        if identity
        else None
    )

    def probe(target: Target) -> TunnelProbe:
        chains: list[list[x509.Certificate]] = []

        def attempt(client: ssl.SSLContext, *, request: bool = False) -> Tunnel:
            pace.wait()
            return _attempt(target, client, chains, request=request)

        found = TunnelProbe(
            pod=target.pod,
            authority=target.authority,
            port=target.port,
            service=target.service,
            anonymous=attempt(anonymous),
        )
        if found.anonymous.end == "unreachable":
            # the other connections would fail as well, each after its timeout
            return msgspec.structs.replace(found, mesh=found.anonymous if mesh else None)
        found = msgspec.structs.replace(
            found,
            foreign=attempt(foreign),
            mesh=attempt(mesh, request=True) if mesh else None,
        )
        chain = next((each for each in reversed(chains) if each), [])
        return msgspec.structs.replace(
            found,
            chain=tuple(map(described, chain)),
            distrust=distrust(chain, roots, at) if chain else "",
        )

    return tuple(concurrently(probe, targets, WORKERS))


def _attempt(
    target: Target,
    client: ssl.SSLContext,
    chains: list[list[x509.Certificate]],
    *,
    request: bool,
) -> Tunnel:
    deadline = RequestDeadline(TIMEOUT)
    try:
        raw = hbone_client.connected(target.address, deadline)
    except OSError as error:
        return Tunnel(end="unreachable", error=words(error))
    with raw:
        try:
            connection = client.wrap_socket(raw, server_hostname=None)
        except TimeoutError:
            return Tunnel(end="silent", error="no TLS handshake")
        except OSError as error:
            return Tunnel(end="refused", error=words(error))
        with connection:
            chain = served(connection)
            chains.append(chain)
            shown = Tunnel(end="silent", identity=spiffe_id(chain))
            return _connect(target, connection, deadline, shown, request=request)


def _connect(
    target: Target,
    connection: ssl.SSLSocket,
    deadline: RequestDeadline,
    shown: Tunnel,
    *,
    request: bool,
) -> Tunnel:
    tunnel = hbone_client.Tunnel(connection, deadline)
    try:
        connect = tunnel.open(target.authority)
    except TimeoutError:
        return msgspec.structs.replace(shown, error=NO_ANSWER)
    except (OSError, H2Error) as error:
        return msgspec.structs.replace(shown, end="refused", error=_reason(error))
    shown = msgspec.structs.replace(shown, connect=connect)
    if connect != hbone_client.OPEN:
        return msgspec.structs.replace(shown, end="declined")
    shown = msgspec.structs.replace(shown, end="open")
    if not request or not target.host:
        return shown
    try:
        tunnel.sendall(REQUEST.format(host=target.host).encode())
        return _answer(tunnel, shown)
    except TimeoutError:
        return msgspec.structs.replace(shown, error=NO_ANSWER)
    except (OSError, H2Error, HTTPException) as error:
        return msgspec.structs.replace(shown, error=_reason(error))


def _answer(tunnel: hbone_client.Tunnel, shown: Tunnel) -> Tunnel:
    response = HTTPResponse(tunnel)  # type: ignore[arg-type]  # it needs no more than makefile()
    response.begin()
    body = b""
    with suppress(OSError, H2Error, HTTPException):  # a long answer may be cut off
        body = response.read(MOST)
    headers = {name.lower(): value for name, value in response.getheaders()}
    reason = local_replies.reason(response.status, headers, body.decode(errors="replace"))
    return msgspec.structs.replace(
        shown, status=response.status, reason=reason, denied=reason == "RBAC"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return words(error)
    return str(error) or type(error).__name__
