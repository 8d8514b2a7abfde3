"""Declared requests to a sidecar on loopback, and certificates for the accounts that send them."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from meshgate.probe import declared_pairs, identities
from meshgate.probe.declared_pairs import Planned
from meshgate.probe.signing import Credential, Identity, Refused
from meshgate.semantics.workloads import Port
from meshgate.snapshot.declared_pairs import PairAnswer
from tests.support.builders import sidecar
from tests.support.mtls_builders import declared_pair
from tests.unit.probe.test_mtls import ROOT, signed

CLIENT = "spiffe://cluster.local/ns/shop/sa/client"
UPSTREAM = b"x-envoy-upstream-service-time: 1\r\nserver: istio-envoy\r\n"
DECORATED = (
    b"server: istio-envoy\r\nx-envoy-decorator-operation: web.shop.svc.cluster.local:80/*\r\n"
)
Answers = Callable[[bytes], PairAnswer]


def http(status: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    """Sends one declared request to a sidecar that answers so; an empty answer is a reset."""
    servers: list[socket.socket] = []
    got: list[bytes] = []
    web = signed("spiffe://cluster.local/ns/shop/sa/web")
    for name, content in (("c", web.pem.encode()), ("k", web.key_pem), ("r", ROOT.pem.encode())):
        (tmp_path / name).write_bytes(content)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "c", tmp_path / "k")
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(tmp_path / "r")
    served.set_alpn_protocols(["istio-http/1.1"])

    def handle(server: socket.socket, answer: bytes) -> None:
        with suppress(OSError), served.wrap_socket(server.accept()[0], server_side=True) as tls:
            names = dict(tls.getpeercert() or {}).get("subjectAltName", ())
            got.append(b"%b %b" % (json.dumps(names).encode(), tls.recv(4096)))
            if answer:
                tls.sendall(answer)

    def send(answer: bytes) -> PairAnswer:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=handle, args=(server, answer), daemon=True).start()
        ours = signed(CLIENT)
        planned = Planned(
            declared_pair(),
            Port(sidecar(ip="127.0.0.1"), server.getsockname()[1], http=True),
            "web.shop.svc.cluster.local",
        )
        identity = Identity(ours.pem.encode(), ours.key_pem, CLIENT)
        (seen,) = declared_pairs.send([planned], {"shop/client": identity}, 0)
        assert CLIENT.encode() in got[-1]
        assert b"GET /healthz HTTP/1.1\r\n" in got[-1]
        assert b"\r\nHost: web.shop.svc.cluster.local\r\n" in got[-1]
        return seen

    yield send
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "end", "status"),
    [
        (http(b"200 OK", UPSTREAM), "answered", 200),
        (http(b"403 Forbidden", UPSTREAM, b"no"), "answered", 403),
        (http(b"403 Forbidden", UPSTREAM, b"RBAC: access denied"), "answered", 403),
        (http(b"403 Forbidden", b"server: istio-envoy\r\n", b"RBAC: access denied"), "denied", 403),
        # as Istio's sidecars deny
        (http(b"403 Forbidden", DECORATED, b"RBAC: access denied"), "denied", 403),
        (http(b"503 Service Unavailable", DECORATED, b"upstream connect error"), "proxy", 503),
        (http(b"403 Forbidden", b"server: istio-envoy\r\n"), "proxy", 403),
        (http(b"503 x", b"server: istio-envoy\r\n", b"upstream connect error"), "proxy", 503),
        (http(b"200 OK"), "answered", 200),
        (b"", "reset", 0),
    ],
)
def test_an_answer_says_who_gave_it(answers: Answers, answer: bytes, end: str, status: int) -> None:
    seen = answers(answer)

    assert (seen.end, seen.status, seen.pod) == (end, status, "shop/web-1")
    assert seen.request == declared_pair().key


def test_a_port_that_nothing_listens_on_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    ours = signed(CLIENT)
    planned = Planned(declared_pair(), Port(sidecar(ip="127.0.0.1"), number, http=True), "web")
    identity = Identity(ours.pem.encode(), ours.key_pem, CLIENT)

    (seen,) = declared_pairs.send([planned], {"shop/client": identity}, 0)

    assert (seen.end, seen.error) == ("unreachable", "Connection refused")
    assert declared_pairs.send([planned], {}, 0) == ()


# --- certificates -------------------------------------------------------------------------------


class Api:
    """Issues tokens, and keeps what was requested."""

    def __init__(self, answer: bytes = b'{"status": {"token": "t"}}') -> None:
        self.requests: list[tuple[str, object, str]] = []
        self._answer = answer

    def create(self, path: str, value: object, *, right: str) -> bytes:
        self.requests.append((path, value, right))
        return self._answer


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> list[Credential]:
    """istiod signs what the token says; returns the credentials that it got."""
    seen: list[Credential] = []

    def obtain(replicas: object, credential: Credential, root: str) -> Identity:
        seen.append(credential)
        _, _, namespace, name = credential.identity.split(":")
        return Identity(b"", b"", f"spiffe://cluster.local/ns/{namespace}/sa/{name}")

    monkeypatch.setattr(identities, "obtain", obtain)
    return seen


OWN = Credential("own", "system:serviceaccount:istio-system:verifier")


def test_a_token_is_requested_for_the_account_and_for_istiod_only(signs: list[Credential]) -> None:
    api = Api()

    identity = identities.identity(api, "shop/client", OWN, (), "")

    assert identity.name == CLIENT
    ((path, body, right),) = api.requests
    assert path == "/api/v1/namespaces/shop/serviceaccounts/client/token"
    assert body == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["istio-ca"], "expirationSeconds": 600},
    }
    assert right == "create serviceaccounts/token shop/client"
    assert [each.token for each in signs] == ["t"]


def test_the_verifiers_own_account_needs_no_permission(signs: list[Credential]) -> None:
    api = Api()

    identities.identity(api, "istio-system/verifier", OWN, (), "")

    assert api.requests == []
    assert [each.token for each in signs] == ["own"]


def test_an_answer_without_a_token_is_refused(signs: list[Credential]) -> None:
    for answer in (b"{}", b"<html>"):
        with pytest.raises(Refused, match="no token"):
            identities.identity(Api(answer), "shop/client", OWN, (), "")


def test_a_certificate_of_another_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Identity(b"", b"", "spiffe://cluster.local/ns/shop/sa/other")
    monkeypatch.setattr(identities, "obtain", lambda *_: other)

    with pytest.raises(Refused, match="istiod signed another identity"):
        identities.identity(Api(), "shop/client", OWN, (), "")
