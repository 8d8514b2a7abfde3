"""Requests that are really sent: what is written down of each answer, and within which limits."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import grpc
import msgspec
import pytest
from cryptography import x509

from meshgate.probe.client import Planned, unusable
from meshgate.probe.ingress import Plan, plan, send
from meshgate.probe.traffic import Traffic
from meshgate.semantics.topology import Entrypoint
from meshgate.snapshot.ingress import OUTSIDE, PROBER, Exchange, Expected, Request, Vantage
from meshgate.snapshot.ingress import Answer as Declared
from meshgate.snapshot.kubernetes import Ingress as Address
from meshgate.snapshot.kubernetes import LoadBalancer, Service, ServiceStatus
from tests.conftest import Serve
from tests.support import fakes
from tests.support import ingress_builders as build
from tests.support.fakes import Answer
from tests.support.webhook_builders import ROOT, issued

INSIDE = (Vantage(name="inside"),)
ENVOY = {"server": "istio-envoy"}


def asked(**of: Any) -> Request:
    given = {"vantage": "inside", "service": "Service ways/front", "gateway": "Gateway ways/front"}
    return Request(**{**given, "port": 80, "host": build.HOST, **of})


def towards(url: str) -> Callable[[], socket.socket]:
    parts = urlsplit(url)
    return lambda: socket.create_connection((parts.hostname, parts.port or 0), 5)


def one(request: Request, connect: Callable[[], socket.socket], **traffic: Any) -> Exchange:
    sent = send([Planned(request, "a way", connect)], INSIDE, Traffic(**traffic))
    (seen,) = sent.exchanges
    return seen


@pytest.mark.parametrize(
    ("answer", "reason", "upstream"),
    [
        (Answer(200, headers={"x-envoy-upstream-service-time": "1"}), "", True),
        (Answer(404, headers=ENVOY), "NR", False),
        (Answer(404), "", False),
        (Answer(404, b"<h1>Acme: page not found</h1>", headers=ENVOY), "NR", False),
        (Answer(404, b"none", headers={"x-envoy-upstream-service-time": "1"}), "", True),
        (Answer(503, b"no healthy upstream"), "UH", False),
        (
            Answer(503, b"upstream connect error or disconnect. reset reason: connection timeout"),
            "UF (connection timeout)",
            False,
        ),
        (Answer(503, headers=ENVOY), "NC", False),
        (Answer(403, b"RBAC: access denied", headers=ENVOY), "RBAC", False),
        (Answer(503, b"broken"), "", False),
    ],
)
def test_who_answered_and_why(serve: Serve, answer: Answer, reason: str, upstream: bool) -> None:
    seen = one(asked(), towards(serve({"/": answer}).url))

    assert (seen.status, seen.reason, seen.upstream) == (answer.status, reason, upstream)


def test_a_grpc_server_that_breaks_off_is_told_of_by_whichever_envoy_is_next_to_it(
    serve: Serve,
) -> None:
    body = b"upstream connect error or disconnect/reset before headers. reset reason: remote reset"
    behind = {"x-envoy-upstream-service-time": "1"}
    url = serve({"/": Answer(503, body), "/behind": Answer(503, body, headers=behind)}).url

    assert all(one(asked(path=path, grpc=True), towards(url)).refused for path in ("/", "/behind"))
    assert not one(asked(path="/behind"), towards(url)).refused


def test_a_request_says_what_it_is_and_what_was_planned(serve: Serve) -> None:
    server = serve({"/a": fakes.answer({})})

    one(asked(method="HEAD", path="/a?b=1", headers={"x-c": "d"}, port=8080), towards(server.url))

    (request,) = server.requests
    assert str(request) == "HEAD /a"
    assert request.query == {"b": ["1"]}
    assert request.headers["x-c"] == "d"
    assert request.headers["host"] == "shop.example.com:8080"
    assert request.headers["user-agent"].startswith("meshgate/")


def test_a_declared_request_is_sent_as_declared_and_its_secret_is_kept_nowhere(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "abc")
    server = serve({"/": Answer(200, b"yes, all", headers={"x-a": "1"})})
    declared = asked(
        method="POST", headers={"authorization": "Bearer ${A_TOKEN}"}, send="${A_TOKEN}"
    )
    expect = Expected(headers={"X-A": "1", "x-none": "2"}, body="yes")
    planned = Planned(declared, "a way", towards(server.url), expect=expect)

    (seen,) = send([planned], INSIDE, Traffic()).exchanges

    (request,) = server.requests
    assert str(request) == "POST /"
    assert request.headers["authorization"] == "Bearer abc"
    assert (seen.headers, seen.body_holds) == ({"x-a": "1"}, True)
    assert b"abc" not in msgspec.json.encode(seen)


def test_a_method_that_is_declared_is_called_as_grpc_has_it() -> None:
    said: list[bytes] = []

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        said.append(message)
        return b""

    get = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Calls", {"Get": get}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    expect = Expected(headers={"grpc-status": "0"})

    def call(method: str) -> Exchange:
        called = asked(
            method="POST", path=f"/shop.Calls/{method}", http2=True, grpc=True, declared=True
        )
        towards_it = towards(f"http://127.0.0.1:{port}")
        planned = Planned(called, "a way", towards_it, expect=expect)
        (seen,) = send([planned], INSIDE, Traffic()).exchanges
        return seen

    well, unknown = call("Get"), call("NoSuchMethod")
    server.stop(None)

    assert said == [b""]
    assert (well.status, well.headers) == (200, {"grpc-status": "0"})
    assert (unknown.status, unknown.headers) == (200, {"grpc-status": "12"})


def test_a_redirect_is_kept_without_its_query_and_not_followed(serve: Serve) -> None:
    server = serve({"/": Answer(301, headers={"location": "https://a/b?token=c"})})

    seen = one(asked(), towards(server.url))

    assert (seen.status, seen.location) == (301, "https://a/b")
    assert len(server.requests) == 1


def test_where_it_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    seen = one(asked(), towards(f"http://127.0.0.1:{port}"))

    assert (seen.stage, seen.status) == ("connect", 0)
    assert "refused" in seen.error


def test_no_more_than_the_limit_is_sent(serve: Serve) -> None:
    server = serve({"/": fakes.answer({})})
    many = [Planned(asked(path="/"), "a way", towards(server.url))] * 5

    sent = send(many, INSIDE, Traffic(limit=2))

    assert (len(sent.exchanges), len(sent.unsent), len(server.requests)) == (2, 3, 2)


def test_nothing_is_sent_after_the_deadline(serve: Serve) -> None:
    server = serve({"/": fakes.answer({})})
    many = [Planned(asked(path="/"), "a way", towards(server.url))] * 4

    sent = send(many, INSIDE, Traffic(rate=2.0, deadline=0.6))

    assert (len(sent.exchanges), len(sent.unsent)) == (2, 2)


# --- TLS ----------------------------------------------------------------------------------------


@contextmanager
def listening(
    folder: Path, *, mutual: bool = False, alpn: tuple[str, ...] | list[str] = ("h2", "http/1.1")
) -> Iterator[tuple[str, int]]:
    """A TLS listener that answers 200 to whatever it is asked."""
    made = issued(build.HOST, by=ROOT, ca=False, sans=[x509.DNSName(build.HOST)])
    file = folder / "pair.pem"
    file.write_text(made.pem + made.key_pem.decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(list(alpn))
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ROOT.pem)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as secured:
                    if secured.recv(4096):
                        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()


def test_what_a_handshake_shows(tmp_path: Path) -> None:
    with listening(tmp_path) as address:
        seen = one(
            asked(tls="SIMPLE", kind="connect"), lambda: socket.create_connection(address, 5)
        )

    assert seen.certificate is not None
    assert seen.certificate.sans == (build.HOST,)
    assert (seen.alpn, seen.tls_version, seen.status) == ("h2", "TLSv1.3", 0)
    assert "issuer certificate" in seen.distrust


def test_a_chain_that_leads_to_a_root_that_was_named(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(ROOT.pem)

    with listening(tmp_path) as address:
        seen = one(
            asked(tls="SIMPLE", kind="connect"),
            lambda: socket.create_connection(address, 5),
            ca=ca,
        )

    assert seen.distrust == ""


@pytest.mark.parametrize(("mutual", "status"), [(True, 0), (False, 200)])
def test_mutual_tls_refuses_or_lets_in(tmp_path: Path, mutual: bool, status: int) -> None:
    with listening(tmp_path, mutual=mutual) as address:
        seen = one(asked(tls="MUTUAL"), lambda: socket.create_connection(address, 5))

    assert seen.status == status
    assert ("CERTIFICATE_REQUIRED" in seen.alert) == mutual


@pytest.mark.parametrize(
    ("version", "taken"), [("TLSv1.1", False), ("TLSv1.2", True), ("TLSv1.3", True)]
)
def test_a_version_that_is_offered_alone(tmp_path: Path, version: str, taken: bool) -> None:
    offered = asked(tls="SIMPLE", kind="connect", tls_version=version)

    with listening(tmp_path) as address:
        seen = one(offered, lambda: socket.create_connection(address, 5))

    assert (seen.error == "") == taken
    assert seen.tls_version == (version if taken else "")
    assert ("PROTOCOL_VERSION" in seen.alert) != taken


def test_a_certificate_is_shown_where_that_is_asked_for(tmp_path: Path) -> None:
    ours = issued("a client", by=ROOT, ca=False)
    file = tmp_path / "ours.pem"
    file.write_text(ours.pem + ours.key_pem.decode())

    with listening(tmp_path, mutual=True) as address:
        shown, hidden = (
            one(
                asked(tls="MUTUAL", certificate=each),
                lambda: socket.create_connection(address, 5),
                identity=file,
            )
            for each in (True, False)
        )

    assert (shown.status, shown.error) == (200, "")
    assert "CERTIFICATE_REQUIRED" in hidden.alert


def test_a_listener_that_does_not_agree_to_http_2_is_not_asked(tmp_path: Path) -> None:
    with listening(tmp_path, alpn=["http/1.1"]) as address:
        seen = one(asked(tls="SIMPLE", http2=True), lambda: socket.create_connection(address, 5))

    assert (seen.status, seen.error, seen.alpn) == (0, "", "")


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        ({"ca": Path("/no/such")}, "cannot use the roots /no/such"),
        ({"identity": Path("/no/such")}, "cannot use the client certificate /no/such"),
        ({"resolver": "dns.example.com"}, "is not ADDRESS"),
        ({"prober": "blackbox:9115"}, "is not an http or https URL"),
        ({}, ""),
    ],
)
def test_what_cannot_be_sent_with_is_told_beforehand(traffic: dict[str, Any], why: str) -> None:
    told = unusable(Traffic(**traffic))

    assert (why in told) if why else not told


# --- the plan -----------------------------------------------------------------------------------


def ways_of(planned: list[Planned]) -> set[str]:
    return {each.way for each in planned if each.request.vantage == OUTSIDE}


def planning(service: Service | None = None, *urls: str) -> Plan:
    there = build.topology(services=(service or build.service(),))
    return plan(there, Traffic(urls=urls), never)


def never(entrypoint: Entrypoint) -> socket.socket:
    raise AssertionError(f"{entrypoint.subject} was connected to")


def test_a_plan_is_sent_from_inside_alone_where_nothing_leads_in() -> None:
    planned, (_, outside), _ = planning()

    assert {each.request.vantage for each in planned} == {"inside"}
    assert "no Service has a LoadBalancer address" in outside.unused


@pytest.mark.parametrize(
    ("traffic", "proxied"),
    [
        ({}, {False}),
        ({"proxy_protocol": True}, {True}),
        ({"proxy_protocol_services": ("ways/front",)}, {True}),
        ({"proxy_protocol_services": ("ways/internal",)}, {False}),
    ],
)
def test_each_gateway_may_expect_the_proxy_protocol_or_not(
    traffic: dict[str, Any], proxied: set[bool]
) -> None:
    planned, *_ = plan(build.topology(), Traffic(**traffic), never)

    assert {each.proxied for each in planned} == proxied


def test_public_names_are_asked_for_where_a_resolver_is_given() -> None:
    wild = build.server(80, "HTTP", "*.example.com")
    there = build.topology(gateways=(build.gateway(build.server(), wild),))

    planned, (_, outside), _ = plan(there, Traffic(resolver="192.0.2.53"), never)

    named = [each for each in planned if each.request.vantage == OUTSIDE]
    assert outside.unused == ""
    assert {each.request.host for each in named} == {build.HOST}
    assert {each.way for each in named} == {"its public name, as 192.0.2.53 has it, port 80"}


def test_a_prober_is_asked_for_what_it_can_ask() -> None:
    answers = (Declared(host=build.HOST, path="/told", vantages=(PROBER,)),)
    traffic = Traffic(prober="http://192.0.2.7/probe", answers=answers)

    planned, (*_, last), _ = plan(build.topology(), traffic, never)

    asked = [each.request for each in planned if each.request.vantage == PROBER]
    assert last == Vantage(name=PROBER)
    assert [f"{each.url} {each.declared}" for each in asked] == [
        "http://shop.example.com:80/ False",
        "https://shop.example.com:443/ False",
        "https://shop.example.com:443/told True",
    ]


def test_a_declared_request_goes_where_it_is_declared_from() -> None:
    answers = tuple(
        Declared(host=build.HOST, path=f"/{name}", vantages=(name,)) for name in ("inside", OUTSIDE)
    )
    traffic = Traffic(answers=answers, urls=("https://192.0.2.9",))

    planned, _, _ = plan(build.topology(), traffic, never)

    declared = [each.request for each in planned if each.request.declared]
    assert [(each.vantage, each.path) for each in declared] == [
        ("inside", "/inside"),
        ("outside", "/outside"),
    ]


def test_a_service_of_both_families_is_entered_by_either() -> None:
    both = build.service(80, cluster_ips=("10.96.0.1", "fd00::1"))
    entered: list[tuple[str, ...]] = []

    def enter(entrypoint: Entrypoint) -> socket.socket:
        entered.append(entrypoint.addresses)
        raise OSError

    topology = build.topology(services=(both,), gateways=(build.gateway(build.server()),))
    planned, vantages, _ = plan(topology, Traffic(), enter)
    sent = send(planned, vantages, Traffic())

    assert [each.request.service for each in sent.exchanges] == [
        "Service ways/front",
        "Service ways/front (fd00::1)",
    ]
    assert sorted(each[-1] for each in entered) == ["fd00::1", "fd00::1"]
    assert ("fd00::1",) in entered


def test_a_plan_uses_what_is_given_or_the_load_balancer_in_both_families() -> None:
    addresses = (Address(ip="192.0.2.1"), Address(ip="2001:db8::1"))
    status = ServiceStatus(load_balancer=LoadBalancer(ingress=addresses))
    balanced = Service(metadata=build.service().metadata, spec=build.service().spec, status=status)

    assert "192.0.2.1:80" in ways_of(planning(balanced)[0])
    assert ways_of(planning(None, "http://192.0.2.9")[0]) == {"192.0.2.9:80"}
    assert ways_of(planning(None, "ways/front=https://gw.example.com:8443")[0]) == {
        "gw.example.com:8443"
    }
    assert ways_of(planning(None, "ways/other=https://gw.example.com")[0]) == set()
