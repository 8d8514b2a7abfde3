"""istiod's CA, asked as a proxy asks it: sign this request, here is who I am (gRPC, port 15012).

The private key is made for the one request and lives in memory; only `obtain` hands it on, to the
connections that are made with it.
"""

import os
import socket
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshgate.deadline import concurrently
from meshgate.probe.tls import pem
from meshgate.semantics.certificates import described, distrust, parse
from meshgate.snapshot.wire import Signature, Signing

# before the import: what the library logs of a refused handshake is in our own finding
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc

CA_PORT = 15012
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
LIFETIME = 3600
TIMEOUT = 10.0


class Replica(NamedTuple):
    """A replica of istiod; `server_name` is what its certificate is held against."""

    pod: str
    server_name: str
    dial: Callable[[], socket.socket]


class Identity(NamedTuple):
    """A certificate that istiod signed for us, and its key: in memory, and never anywhere else."""

    chain: bytes
    key: bytes
    name: str


class Refused(Exception):
    """No replica signed; the message says why."""


class Credential(NamedTuple):
    """A token, and whose it says that it is: `system:serviceaccount:namespace:name`."""

    token: str
    identity: str

    @property
    def namespace(self) -> str:
        """The namespace of that ServiceAccount."""
        return self.identity.split(":")[2] if self.identity.count(":") == 3 else ""


class _Claims(msgspec.Struct, frozen=True):
    sub: str = ""


def credential(token: str) -> Credential:
    """Return the token with the identity that it states; istiod verifies the token."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = msgspec.json.decode(
            urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims
        )
    except ValueError:
        return Credential(token, "")
    return Credential(token, claims.sub)


def ask(replicas: Iterable[Replica], credential: Credential, root: str, at: datetime) -> Signing:
    """Has every replica sign one request; `root` is the PEM bundle that workloads trust.

    Args:
        replicas: istiod's replicas.
        credential: the token to authenticate with.
        root: the roots that the replicas' certificates must lead to.
        at: the time of the verification.

    Returns:
        One answer for each replica.
    """
    signatures = concurrently(
        lambda replica: _signature(replica, credential.token, root, at), replicas, workers=8
    )
    return Signing(identity=credential.identity, signatures=tuple(signatures))


def obtain(replicas: Iterable[Replica], credential: Credential, root: str) -> Identity:
    """Return a certificate of the mesh, from the first replica that signs one; raise Refused.

    Args:
        replicas: istiod's replicas, tried in order.
        credential: the token to authenticate with.
        root: the roots that the replicas' certificates must lead to.

    Returns:
        The certificate chain and its key.
    """
    reasons: list[str] = []
    for replica in replicas:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            with _relay(replica.dial) as port:
                chain = _signed(
                    f"127.0.0.1:{port}", replica.server_name, credential.token, root, key
                )
        except grpc.RpcError as error:
            reasons.append(f"{replica.pod}: {error.code().name} {error.details()}")
            continue
        except OSError as error:
            reasons.append(f"{replica.pod}: {error}")
            continue
        leaf = next((described(each) for each in parse("".join(chain))), None)
        if leaf is not None:
            return Identity("".join(chain).encode(), pem(key), "".join(leaf.sans[:1]))
        reasons.append(f"{replica.pod}: it sent no certificate")
    raise Refused("; ".join(reasons) or "no istiod runs that could sign")


def _signature(replica: Replica, token: str, root: str, at: datetime) -> Signature:
    seen = Signature(pod=replica.pod)
    try:
        with _relay(replica.dial) as port:
            signed = _signed(f"127.0.0.1:{port}", replica.server_name, token, root)
    except grpc.RpcError as error:
        return msgspec.structs.replace(seen, **_refusal(error))
    except OSError as error:
        return msgspec.structs.replace(seen, error=str(error) or type(error).__name__)
    chain = [certificate for each in signed for certificate in parse(each)]
    return msgspec.structs.replace(
        seen,
        chain=tuple(map(described, chain)),
        distrust=distrust(chain, parse(root), at),
    )


def _refusal(error: grpc.RpcError) -> dict[str, str]:
    words = f"{error.code().name} {error.details()}"
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return {"denied": words}
        case grpc.StatusCode.UNAVAILABLE if "CERTIFICATE_VERIFY_FAILED" in words:
            return {"distrust": f"its own certificate does not verify: {words}"}
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return {"error": words}
    return {"message": words}


def _signed(
    target: str,
    server_name: str,
    token: str,
    root: str,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> list[str]:
    """Return the chain that the CA sent, leaf first, a PEM text each."""
    options = [
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    with grpc.secure_channel(
        target, grpc.ssl_channel_credentials(root.encode()), options=options
    ) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=lambda pem: request(pem, LIFETIME),
            response_deserializer=lambda body: list(strings(body)),
        )
        chain: list[str] = call(
            _csr(key), metadata=[("authorization", f"Bearer {token}")], timeout=TIMEOUT
        )
    return chain


def _csr(key: ec.EllipticCurvePrivateKey | None) -> bytes:
    """Return a signing request without a subject: istiod signs the identity of the token."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


# --- the two messages of istio.v1.auth, as protobuf puts them on the wire ------------------------


def request(csr: bytes, seconds: int) -> bytes:
    """IstioCertificateRequest: csr = 1, validity_duration = 3."""
    return b"\x0a" + _varint(len(csr)) + csr + b"\x18" + _varint(seconds)


def strings(body: bytes) -> Iterator[str]:
    """IstioCertificateResponse: cert_chain = 1, the only field that it has."""
    position = 0
    while position < len(body):
        tag, position = _number(body, position)
        length, position = _number(body, position)
        if tag != 0x0A or position + length > len(body):
            raise ValueError("not an IstioCertificateResponse")
        yield body[position : position + length].decode()
        position += length


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(body: Sequence[int], position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(body):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise ValueError("not an IstioCertificateResponse")


# --- gRPC over a socket of ours -----------------------------------------------------------------


@contextmanager
def _relay(dial: Callable[[], socket.socket]) -> Iterator[int]:
    """Return a port on loopback that leads to where `dial` does: gRPC takes addresses, not sockets.

    What passes here is TLS between gRPC and istiod.
    """
    far = dial()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        threading.Thread(target=_join, args=(server, far), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            far.close()


def _join(server: socket.socket, far: socket.socket) -> None:
    try:
        near, _ = server.accept()
    except OSError:
        return
    with near:
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join(TIMEOUT)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
