"""Declared requests to sidecars, ztunnels and waypoints on loopback, and their certificates."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from meshgate.probe import declared_pairs, hbone_client, identities
from meshgate.probe.declared_pairs import Planned
from meshgate.probe.signing import Credential, Identity, Refused
from meshgate.semantics.pair_targets import PairTarget
from meshgate.snapshot.declared_pairs import PairAnswer
from tests.support.ambient_builders import app, waypoint
from tests.support.builders import sidecar
from tests.support.hbone_server import CLOSES, KEEPS_SILENT, RESETS_STREAM, HboneServer
from tests.support.mtls_builders import declared_pair
from tests.support.webhook_builders import Issued, issued
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
            PairTarget(sidecar(ip="127.0.0.1"), server.getsockname()[1]),
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
    planned = Planned(declared_pair(), PairTarget(sidecar(ip="127.0.0.1"), number), "web")
    identity = Identity(ours.pem.encode(), ours.key_pem, CLIENT)

    (seen,) = declared_pairs.send([planned], {"shop/client": identity}, 0)

    assert (seen.end, seen.error) == ("unreachable", "Connection refused")
    assert declared_pairs.send([planned], {}, 0) == ()


# --- ambient mode -------------------------------------------------------------------------------

HOST = "web.shop.svc.cluster.local"
RBAC = http(b"403 Forbidden", b"server: istio-envoy\r\n", b"RBAC: access denied")
TO_POD = PairTarget(app(ip="127.0.0.1"), authority="127.0.0.1:8080")
TO_WAYPOINT = PairTarget(
    waypoint(ip="127.0.0.1"), authority="10.96.0.9:80", waypoint="shop/waypoint"
)


@pytest.fixture
def tunneled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Sends one declared request to a server of HBONE; returns its answer and the server."""
    monkeypatch.setattr(declared_pairs, "TIMEOUT", 1.5)
    with ExitStack() as servers:

        def send(
            target: PairTarget, *, by: Issued | None = None, **behavior: Any
        ) -> tuple[PairAnswer, HboneServer]:
            server = HboneServer(**behavior)
            address = target.pod.status.pod_ip
            web = signed("spiffe://cluster.local/ns/shop/sa/web")
            servers.enter_context(server.serving(tmp_path, web, ROOT, address))
            monkeypatch.setattr(hbone_client, "PORT", server.port)
            ours = by or signed(CLIENT)
            identity = Identity(ours.pem.encode(), ours.key_pem, CLIENT)
            planned = [Planned(declared_pair(), target, HOST)]
            (seen,) = declared_pairs.send(planned, {"shop/client": identity}, 0)
            assert seen.request == declared_pair().key
            assert seen.pod == target.name
            assert seen.authority == target.authority
            return seen, server

        yield send


@pytest.mark.parametrize("target", [TO_POD, TO_WAYPOINT], ids=["ztunnel", "waypoint"])
def test_a_tunnel_carries_the_declared_request_of_the_declared_caller(
    target: PairTarget, tunneled: Callable[..., Any]
) -> None:
    seen, server = tunneled(target, answer=http(b"200 OK", UPSTREAM))

    assert (seen.end, seen.connect, seen.status) == ("answered", 200, 200)
    assert server.authorities == [target.authority]
    assert server.clients == [CLIENT]
    (request,) = server.requests
    assert request.startswith(b"GET /healthz HTTP/1.1\r\n")
    assert b"\r\nHost: web.shop.svc.cluster.local\r\n" in request


@pytest.mark.parametrize(
    ("behavior", "at_ztunnel", "at_waypoint"),
    [
        # ztunnel denies CONNECT with 401, and passes what the application says as it is
        ({"connect": 401}, "denied", "declined"),
        ({"connect": 401, "refusal": b"RBAC: access denied"}, "denied", "declined"),
        ({"answer": RBAC}, "answered", "denied"),
        ({"connect": 403, "refusal": b"RBAC: access denied"}, "declined", "denied"),
        ({"connect": 403}, "declined", "declined"),
        ({"connect": 400}, "declined", "declined"),
        ({"connect": 503}, "declined", "declined"),
        ({"answer": http(b"403 Forbidden", UPSTREAM, b"RBAC: access denied")}, *["answered"] * 2),
        ({"answer": http(b"404 Not Found", b"server: istio-envoy\r\n")}, "answered", "proxy"),
        (
            {"answer": http(b"503 x", b"server: istio-envoy\r\n", b"no healthy upstream")},
            "answered",
            "proxy",
        ),
        # a closed connection is no denial: a crash closes it as well
        ({"connect": RESETS_STREAM}, "reset", "reset"),
        ({"connect": CLOSES}, "reset", "reset"),
        ({"answer": b""}, "reset", "reset"),
        ({"answer": b"SSH-2.0-x\r\n"}, "reset", "reset"),
        ({"connect": KEEPS_SILENT}, "silent", "silent"),
        ({"answer": None}, "silent", "silent"),
    ],
)
def test_the_end_of_a_tunnel_says_who_ended_it(
    behavior: dict[str, Any], at_ztunnel: str, at_waypoint: str, tunneled: Callable[..., Any]
) -> None:
    assert tunneled(TO_POD, **behavior)[0].end == at_ztunnel
    assert tunneled(TO_WAYPOINT, **behavior)[0].end == at_waypoint


def test_a_certificate_of_another_mesh_is_refused_and_not_denied(
    tunneled: Callable[..., Any],
) -> None:
    stranger = issued("workload", issued("other root"), ca=False)

    seen, server = tunneled(TO_POD, by=stranger)

    assert (seen.end, seen.connect) == ("refused", 0)
    assert seen.error
    assert server.authorities == []


def test_an_address_of_ipv6_is_connected_to_and_named_in_brackets(
    tunneled: Callable[..., Any],
) -> None:
    seen, server = tunneled(PairTarget(app(ip="::1"), authority="[::1]:8080"))

    assert seen.end == "answered"
    assert server.authorities == ["[::1]:8080"]


def test_a_pod_without_hbone_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(hbone_client, "PORT", server.getsockname()[1])
    ours = signed(CLIENT)
    identity = Identity(ours.pem.encode(), ours.key_pem, CLIENT)

    (seen,) = declared_pairs.send(
        [Planned(declared_pair(), TO_POD, HOST)], {"shop/client": identity}, 0
    )

    assert (seen.end, seen.error) == ("unreachable", "Connection refused")


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
