"""The CA probe against a gRPC server on loopback that signs as istiod does."""

import json
import socket
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from meshgate.probe import signing
from meshgate.snapshot.wire import Signature, Signing
from tests.support import webhook_builders as build

URI = "spiffe://cluster.local/ns/istio-system/sa/verifier"
CREDENTIAL = signing.Credential("a-token", build.IDENTITY)
NOW = datetime.now(UTC)
ROOT = build.issued("root", begins=NOW - timedelta(days=1))

Sign = Callable[[bytes, Any], bytes]


def field(data: bytes) -> bytes:
    """One string of the response."""
    return signing.request(data, 0)[: -len(b"\x18\x00")]


def signs(body: bytes, context: Any) -> bytes:
    """What istiod does: it signs what the token says."""
    (csr, *_) = [body[body.index(b"-----") : body.rindex(b"-----") + 5]]
    assert ("authorization", "Bearer a-token") in context.invocation_metadata()
    key = x509.load_pem_x509_csr(csr).public_key()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(NOW - timedelta(minutes=2))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=True
        )
        .sign(ROOT.key, hashes.SHA256())
    )
    pem = leaf.public_bytes(serialization.Encoding.PEM)
    return field(pem) + field(ROOT.pem.encode())


@contextmanager
def serving(sign: Sign) -> Iterator[Callable[[], socket.socket]]:
    """A CA; yields a way to it."""
    served = build.issued(
        "istiod",
        ROOT,
        ca=False,
        begins=NOW - timedelta(hours=1),
        sans=[x509.DNSName(build.NAME)],
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    service, _, method = signing.METHOD[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(sign)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    credentials = grpc.ssl_server_credentials([(served.key_pem, served.pem.encode())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield lambda: socket.create_connection(("127.0.0.1", port), 5)
    finally:
        server.stop(0).wait()


def ask(dial: Callable[[], socket.socket], root: str = ROOT.pem) -> Signature:
    """What the one replica made of the request."""
    seen = signing.ask([signing.Replica(build.POD, build.NAME, dial)], CREDENTIAL, root, NOW)
    assert isinstance(seen, Signing)
    (signature,) = seen.signatures
    return signature


def test_a_ca_that_signs() -> None:
    with serving(signs) as dial:
        signature = ask(dial)

    assert signature.error + signature.denied + signature.message + signature.distrust == ""
    assert signature.chain[0].sans == (URI,)
    assert signature.chain[1].subject == "CN=root"


def test_a_chain_that_leads_to_another_root() -> None:
    other = build.issued("another", begins=NOW - timedelta(days=1))
    twice = other.pem + ROOT.pem  # the server is trusted, what it signs is not

    def signs_by_another(body: bytes, context: Any) -> bytes:
        foreign = build.issued("leaf", build.issued("unknown"), ca=False, begins=NOW)
        return field(foreign.pem.encode())

    with serving(signs_by_another) as dial:
        signature = ask(dial, twice)

    assert "leads to none of the roots" in signature.distrust


def test_a_server_that_the_root_does_not_trust() -> None:
    with serving(signs) as dial:
        signature = ask(dial, build.issued("another").pem)

    assert signature.chain == ()
    assert signature.distrust or signature.error


@pytest.mark.parametrize(
    ("code", "where"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "denied"),
        (grpc.StatusCode.PERMISSION_DENIED, "denied"),
        (grpc.StatusCode.UNAVAILABLE, "error"),
        (grpc.StatusCode.INTERNAL, "message"),
    ],
)
def test_a_ca_that_says_no(code: grpc.StatusCode, where: str) -> None:
    def refuses(body: bytes, context: Any) -> bytes:
        context.abort(code, "the reason")
        raise AssertionError

    with serving(refuses) as dial:
        signature = ask(dial)

    assert "the reason" in getattr(signature, where)


def test_a_ca_that_cannot_be_reached() -> None:
    def dial() -> socket.socket:
        raise ConnectionRefusedError("refused")

    assert ask(dial).error == "refused"


def test_whose_a_token_is() -> None:
    claims = urlsafe_b64encode(json.dumps({"sub": build.IDENTITY}).encode()).decode().rstrip("=")

    known = signing.credential(f"x.{claims}.x")

    assert (known.identity, known.namespace) == (build.IDENTITY, "istio-system")
    assert signing.credential("opaque").identity == ""
    assert signing.credential("a.!!.c").identity == ""


def test_a_response_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match="not an IstioCertificateResponse"):
        list(signing.strings(field(b"x" * 300)[:-1]))
    with pytest.raises(ValueError, match="not an IstioCertificateResponse"):
        list(signing.strings(b"\x0a\x80"))
    assert list(signing.strings(field(b"x" * 300))) == ["x" * 300]


def test_a_certificate_to_call_with() -> None:
    def fails(body: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.INTERNAL, "the CA has no key")
        raise AssertionError

    with serving(fails) as broken, serving(signs) as dial:
        replicas = [signing.Replica(build.POD, build.NAME, each) for each in (broken, dial)]
        identity = signing.obtain(replicas, CREDENTIAL, ROOT.pem)

        with pytest.raises(signing.Refused, match="the CA has no key"):
            signing.obtain(replicas[:1], CREDENTIAL, ROOT.pem)

    assert identity.name == URI
    leaf = x509.load_pem_x509_certificate(identity.chain)
    key = serialization.load_pem_private_key(identity.key, None)
    assert leaf.public_key() == key.public_key()


def test_nobody_to_sign() -> None:
    with pytest.raises(signing.Refused, match="no istiod runs"):
        signing.obtain([], CREDENTIAL, ROOT.pem)
