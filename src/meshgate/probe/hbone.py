"""HBONE as a mesh peer: TLS and an HTTP/2 CONNECT to port 15008, and a request in the tunnel.

An open tunnel proves little by itself: a waypoint answers CONNECT with 200 for every address.  So
an HTTP request is sent through it, which is OPTIONS, as it changes nothing in an application.
"""

import io
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple

import msgspec
from cryptography import x509
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error

from meshgate.deadline import concurrently
from meshgate.probe import local_replies
from meshgate.probe.mtls import REQUEST, WORKERS, unknown_identity, words
from meshgate.probe.pace import Pace, RequestDeadline
from meshgate.probe.signing import Identity
from meshgate.probe.tls import context, served
from meshgate.semantics.certificates import described, distrust, parse, spiffe_id
from meshgate.snapshot.hbone import NO_ANSWER, Tunnel, TunnelProbe

PORT = 15008
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
    anonymous = context(alpn=("h2",))
    foreign = context(alpn=("h2",), identity=unknown_identity(at))
    mesh = context(alpn=("h2",), identity=(identity.chain, identity.key)) if identity else None

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
        raw = socket.create_connection((target.address, PORT), deadline.check())
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
    tunnel = _Stream(connection, deadline)
    try:
        connect = tunnel.open(target.authority)
    except TimeoutError:
        return msgspec.structs.replace(shown, error=NO_ANSWER)
    except (OSError, H2Error) as error:
        return msgspec.structs.replace(shown, end="refused", error=_reason(error))
    shown = msgspec.structs.replace(shown, connect=connect)
    if connect != 200:
        return msgspec.structs.replace(shown, end="declined")
    shown = msgspec.structs.replace(shown, end="open")
    if not request or not target.host:
        return shown
    try:
        tunnel.send(REQUEST.format(host=target.host).encode())
        return _answer(tunnel, shown)
    except TimeoutError:
        return msgspec.structs.replace(shown, error=NO_ANSWER)
    except (OSError, H2Error, HTTPException) as error:
        return msgspec.structs.replace(shown, error=_reason(error))


def _answer(tunnel: "_Stream", shown: Tunnel) -> Tunnel:
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


class _Stream(io.RawIOBase):
    """The bytes of one HTTP/2 stream that a CONNECT opens."""

    def __init__(self, connection: socket.socket, deadline: RequestDeadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http2.initiate_connection()
        self._id = self._http2.get_next_available_stream_id()
        self._status = 0
        self._received = b""
        self._ended = False

    def open(self, authority: str) -> int:
        """Send CONNECT; return the status that answers it."""
        self._http2.send_headers(self._id, [(":method", "CONNECT"), (":authority", authority)])
        self._flush()
        while not self._status and not self._ended:
            self._receive()
        if not self._status:
            raise ConnectionError("the stream was reset")
        return self._status

    def send(self, data: bytes) -> None:
        """Send data into the tunnel."""
        self._http2.send_data(self._id, data)
        self._flush()

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return the reader of what comes out of the tunnel."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there, or nothing at the end."""
        while not self._received and not self._ended:
            self._receive()
        size = min(len(buffer), len(self._received))
        buffer[:size], self._received = self._received[:size], self._received[size:]
        return size

    def _flush(self) -> None:
        self._connection.settimeout(self._deadline.check())
        self._connection.sendall(self._http2.data_to_send())

    def _receive(self) -> None:
        self._connection.settimeout(self._deadline.check())
        data = self._connection.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed")
        for event in self._http2.receive_data(data):
            if isinstance(event, ResponseReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self._status = int(headers.get(":status", 0))
            elif isinstance(event, DataReceived):
                self._received += event.data
                self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded | StreamReset):
                # a server that has answered resets the stream, as the tunnel is still open to it
                self._ended = True
        with suppress(OSError):  # the other side may have answered before it closed
            self._flush()
