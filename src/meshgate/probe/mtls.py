"""Four connections to a port, which show the mTLS mode that it really has.

An application receives only OPTIONS, and only if the port's name says HTTP; elsewhere the
handshakes show the mode.  Under STRICT a sidecar terminates all TLS; under PERMISSIVE only TLS with
Istio's ALPN: it passes the rest on, like plaintext.
"""

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshgate.deadline import concurrently
from meshgate.probe.pace import Pace
from meshgate.probe.signing import Identity
from meshgate.probe.tls import context, pem, served
from meshgate.semantics.certificates import described, distrust, parse, spiffe_id
from meshgate.semantics.hosts import in_url
from meshgate.snapshot.mtls import Attempt, PortProbe

TIMEOUT = 3.0  # seconds for a connection, for a handshake, and for the start of an answer
LONGEST = 6.0  # seconds for a whole answer: an endless or slow one is cut off
HOLD = 1.0  # seconds: a refusal takes a round trip, and an accepted connection stays silent
SLOWER = 3.0  # factor on the time of the handshake, on a slow network
WORKERS = 32

RBAC = b"RBAC: access denied"
REQUEST = "OPTIONS / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: meshgate\r\nConnection: close\r\n\r\n"
MOST = 16384


class Target(msgspec.Struct, frozen=True):
    """A port of a pod (`namespace/name`) of a workload (`Kind namespace/name`)."""

    pod: str
    address: str
    port: int
    http: bool
    workload: str = ""


def ask(
    targets: Iterable[Target], identity: Identity | None, root: str, at: datetime, rate: float
) -> tuple[PortProbe, ...]:
    """Probe every port, several at a time.

    Args:
        targets: the ports.
        identity: the certificate that istiod signed for the verifier; None without one.
        root: the PEM bundle that workloads trust.
        at: the time at which certificates must be valid.
        rate: connections each second, 0 for no limit.

    Returns:
        One probe for each target, in the same order.

    Raises:
        StorageError: this system cannot hold the key of `identity` in memory only.
    """
    caller = _Caller(identity, parse(root), at, Pace(rate))
    return tuple(concurrently(caller.port_probe, targets, WORKERS))


class _Caller:
    """What all connections share: a TLS context is expensive, a connection is cheap."""

    def __init__(
        self,
        identity: Identity | None,
        roots: Sequence[x509.Certificate],
        at: datetime,
        pace: Pace,
    ) -> None:
        unknown = unknown_identity(at)
        self._roots, self._at, self._pace = roots, at, pace
        self._anonymous = context()
        self._foreign = _by_protocol(unknown)
        self._mesh = _by_protocol((identity.chain, identity.key)) if identity else None
        self._mesh_at_once = None
        if identity:
            # a TLS 1.2 handshake completes only after the server has accepted our certificate
            self._mesh_at_once = context(alpn=("istio",), identity=(identity.chain, identity.key))
            self._mesh_at_once.maximum_version = ssl.TLSVersion.TLSv1_2

    def port_probe(self, target: Target) -> PortProbe:
        """Return the result of the four connections to one port."""
        seen: list[list[x509.Certificate]] = []

        def attempt(
            client: ssl.SSLContext | None, *, request: bool = False, at_once: bool = False
        ) -> Attempt:
            self._pace.wait()
            return _attempt(target, client, seen.append, request=request, at_once=at_once)

        found = PortProbe(
            pod=target.pod,
            port=target.port,
            workload=target.workload,
            plain=Attempt(end="unreachable"),
        )
        anonymous = attempt(self._anonymous)
        if anonymous.end == "unreachable":
            # the other connections would fail as well, each after its timeout
            return msgspec.structs.replace(found, anonymous=anonymous)
        foreign = attempt(self._foreign[target.http], request=target.http)
        mesh = None
        if self._mesh and self._mesh_at_once:
            if target.http:
                mesh = attempt(self._mesh[True], request=True)
            else:
                mesh = attempt(self._mesh_at_once, at_once=True)
                if "PROTOCOL_VERSION" in mesh.error.upper().replace(" ", "_"):
                    mesh = attempt(self._mesh[False])
        chain = next((each for each in reversed(seen) if spiffe_id(each)), [])
        return msgspec.structs.replace(
            found,
            plain=attempt(None, request=True) if target.http else None,
            anonymous=anonymous,
            foreign=foreign,
            mesh=mesh,
            chain=tuple(map(described, chain)),
            distrust=distrust(chain, self._roots, self._at) if chain else "",
        )


def _attempt(
    target: Target,
    client: ssl.SSLContext | None,
    note: Callable[[list[x509.Certificate]], None],
    *,
    request: bool,
    at_once: bool,
) -> Attempt:
    begun = time.monotonic()
    try:
        raw = socket.create_connection((target.address, target.port), TIMEOUT)
    except OSError as error:
        return Attempt(end="unreachable", error=words(error))
    with raw:
        if client is None:
            return _end(raw, target, request=request, hold=HOLD, before=Attempt(end="silent"))
        try:
            connection = client.wrap_socket(raw, server_hostname=None)
        except TimeoutError:
            return Attempt(end="silent", error="no TLS handshake")
        except OSError as error:
            return Attempt(end="refused", error=words(error))
        with connection:
            chain = served(connection)
            note(chain)
            before = Attempt(end="silent", tls=True, identity=spiffe_id(chain))
            if at_once:
                return msgspec.structs.replace(before, end="held")
            hold = max(HOLD, SLOWER * (time.monotonic() - begun))
            return _end(connection, target, request=request, hold=hold, before=before)


def _end(
    connection: socket.socket, target: Target, *, request: bool, hold: float, before: Attempt
) -> Attempt:
    """Return how an established connection ends: `held` after `hold` seconds without data."""
    answer, error = b"", ""
    end = time.monotonic() + LONGEST
    try:
        if request:
            connection.sendall(REQUEST.format(host=in_url(target.address)).encode())
        else:
            connection.settimeout(hold)
        while len(answer) < MOST and time.monotonic() < end and (more := connection.recv(4096)):
            answer += more
    except TimeoutError:
        if not answer:
            return msgspec.structs.replace(before, end="silent" if request else "held")
    except OSError as failure:
        error = words(failure)
    if not answer:
        return msgspec.structs.replace(before, end="refused", error=error)
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return msgspec.structs.replace(
        before,
        end="answered",
        status=int(status[1]) if status else 0,
        denied=bool(status) and status[1] == b"403" and RBAC in answer,  # type: ignore[index]
    )


def words(error: OSError) -> str:
    """Return why a connection failed, in OpenSSL's or the system's words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error.strerror or error) or type(error).__name__


def _by_protocol(identity: tuple[bytes, bytes]) -> dict[bool, ssl.SSLContext]:
    """Return a context for HTTP (True) and one for TCP: a proxy shows the protocol by its ALPN."""
    return {
        http: context(alpn=("istio-http/1.1" if http else "istio",), identity=identity)
        for http in (True, False)
    }


def unknown_identity(at: datetime) -> tuple[bytes, bytes]:
    """Return a self-signed certificate, which no workload trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshgate, not of this mesh")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at.astimezone(UTC) - timedelta(hours=1))
        .not_valid_after(at.astimezone(UTC) + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), pem(key)
