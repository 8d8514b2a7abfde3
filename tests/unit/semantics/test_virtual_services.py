"""The rules of VirtualServices as a gateway has them."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.requests import hidden_routes, requests
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.istio import Server, VirtualService
from tests.support import ingress_builders as build

WEB = {"destination": {"host": "web"}}
HTTP_ONLY = (build.gateway(build.server()),)


def service(
    *http: dict[str, Any], name: str = "shop", namespace: str = "shop", **spec: Any
) -> VirtualService:
    given = {"hosts": [build.HOST], "gateways": ["ways/front"], "http": list(http), **spec}
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": given}
    return msgspec.convert(body, VirtualService)


def rule(**fields: Any) -> dict[str, Any]:
    return {"route": [WEB], **fields}


def sent(*services: VirtualService, **lists: Any) -> list[Request]:
    found = build.requests(**{"gateways": HTTP_ONLY, "virtual_services": services, **lists})
    return [each for each in found if each.kind == "request" and each.route]


def skipped(*services: VirtualService) -> dict[str, str]:
    topology = build.topology(gateways=HTTP_ONLY, virtual_services=services)
    (listener,) = topology.listeners
    return {each.subject: each.why for each in requests(topology, listener).skipped}


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("ways/front", True),
        ("front.ways.svc.cluster.local", True),
        ("front.ways", True),
        ("./front", False),
        ("front", False),
        ("mesh", False),
    ],
)
def test_a_gateway_is_named_as_istio_accepts_it(name: str, bound: bool) -> None:
    assert bool(sent(service(rule(), gateways=[name]))) == bound


def test_a_gateway_of_the_same_namespace_is_named_without_it() -> None:
    assert sent(service(rule(), namespace="ways", gateways=["./front"]))
    assert sent(service(rule(), namespace="ways", gateways=["front"]))


@pytest.mark.parametrize(
    ("exported", "bound"), [(["*"], True), (["ways"], True), (["."], False), (["other"], False)]
)
def test_a_service_is_used_where_it_is_exported_to(exported: list[str], bound: bool) -> None:
    assert bool(sent(service(rule(), exportTo=exported))) == bound


@pytest.mark.parametrize(
    ("host", "bound"),
    [("payments/*.example.com", False), ("shop/*.example.com", True), ("./*", False)],
)
def test_a_server_limits_its_hosts_to_a_namespace(host: str, bound: bool) -> None:
    made = build.server()
    scoped = build.gateway(Server(port=made.port, hosts=(host,)))

    assert bool(sent(service(rule()), gateways=(scoped,))) == bound


@pytest.mark.parametrize(
    ("match", "planned"),
    [
        ({"scheme": {"exact": "https"}}, False),
        ({"scheme": {"exact": "http"}}, True),
        ({"gateways": ["mesh"]}, False),
        ({"gateways": ["mesh", "ways/front"], "sourceLabels": {"app": "web"}}, True),
        ({"sourceLabels": {"app": "web"}}, False),
        ({"sourceLabels": build.LABELS}, True),
        ({"sourceNamespace": "shop"}, False),
        ({"sourceNamespace": "ways"}, True),
        ({"withoutHeaders": {"x-a": {}}}, True),
        ({"withoutHeaders": {"User-Agent": {"prefix": "curl"}}}, False),
    ],
)
def test_a_match_is_for_clients_of_the_gateway(match: dict[str, Any], planned: bool) -> None:
    assert bool(sent(service(rule(match=[match])))) == planned


def test_a_delegate_serves_what_the_root_gives_it() -> None:
    root = service(
        {"match": [{"uri": {"prefix": "/pay"}}], "delegate": {"name": "pay", "namespace": "other"}}
    )
    pay = service(
        rule(name="v1", match=[{"uri": {"prefix": "/pay/v1/"}}]),
        rule(name="outside", match=[{"uri": {"prefix": "/admin"}}]),
        name="pay",
        namespace="other",
        hosts=[],
        gateways=[],
    )

    (asked,) = sent(root, pay)

    assert (asked.path, asked.route) == ("/pay/v1/", "VirtualService other/pay route v1")
    assert asked.backends == ("web.other.svc.cluster.local",)


def test_a_fault_on_purpose_is_expected() -> None:
    (asked,) = sent(service(rule(fault={"abort": {"httpStatus": 503}})))

    assert asked.expected == 503


def test_what_is_not_requested_has_a_reason() -> None:
    some = {"abort": {"httpStatus": 503, "percentage": {"value": 10}}}
    given = service(
        rule(name="a", match=[{"uri": {"regex": "/v[0-9]"}}]),
        rule(name="b", match=[{"uri": {"exact": "/b"}, "method": {"exact": "POST"}}]),
        rule(name="c", match=[{"uri": {"prefix": "/c"}}], fault=some),
        rule(name="d", match=[{"uri": {"prefix": "/d"}}]),
        rule(name="e", match=[{"uri": {"prefix": "/d/e"}}]),
    )

    assert skipped(given) == {
        "VirtualService shop/shop route a": "regular expression",
        "VirtualService shop/shop route b": "no safe method",
        "VirtualService shop/shop route c": "fault injection for a share of the requests",
        "VirtualService shop/shop route e": "an earlier route takes its requests",
    }


def hidden(*services: VirtualService) -> list[tuple[str, str]]:
    topology = build.topology(gateways=HTTP_ONLY, virtual_services=services)
    (listener,) = topology.listeners
    return [
        (each.rule.route, each.hidden_by.route)
        for each in hidden_routes(topology, listener)
        if each.hidden_by
    ]


def test_a_route_is_hidden_by_the_shorter_prefix_of_another_service() -> None:
    catalog = service(rule(name="all", match=[{"uri": {"prefix": "/catalog"}}]), name="a")
    admin = service(rule(name="admin", match=[{"uri": {"prefix": "/catalog/admin"}}]), name="b")

    assert hidden(admin, catalog) == [
        ("VirtualService shop/b route admin", "VirtualService shop/a route all")
    ]


def test_what_takes_everything_hides_nothing_of_another_service() -> None:
    everything = service(rule(name="all", match=[{"uri": {"prefix": "/"}}]), name="a")
    admin = service(rule(name="admin", match=[{"uri": {"prefix": "/admin"}}]), name="b")

    assert hidden(everything, admin) == []
    assert {each.path for each in sent(everything, admin)} == {"/", "/admin"}


def test_a_route_without_weight_is_not_a_backend() -> None:
    weighted = [
        {"destination": {"host": "web"}, "weight": 100},
        {"destination": {"host": "canary", "subset": "v9"}, "weight": 0},
    ]

    (asked,) = sent(service({"route": weighted}))

    assert asked.backends == ("web.shop.svc.cluster.local",)


def test_a_tcp_route_is_connected_to() -> None:
    tcp = (build.gateway(build.server(31400, "TCP", "*")),)
    ledger = {"destination": {"host": "ledger", "port": {"number": 5432}}}
    edge = service(hosts=["*"], tcp=[{"match": [{"port": 31400}], "route": [ledger]}])
    front = build.service(31400)

    (asked,) = build.requests(
        gateways=tcp,
        virtual_services=(edge,),
        services=(front,),
        endpoint_slices=(build.endpoints(31400),),
    )

    assert (asked.kind, asked.route) == ("connect", "VirtualService shop/shop")
    assert asked.backends == ("ledger.shop.svc.cluster.local:5432",)


def test_only_the_mesh_connects_to_an_istio_mutual_listener() -> None:
    egress = (build.gateway(build.server(443, "HTTPS", "vendor.example.com", mode="ISTIO_MUTUAL")),)
    topology = build.topology(gateways=egress)

    planned, skips = requests(topology, topology.listeners[0])

    assert planned == []
    assert [each.why for each in skips] == ["accepts only certificates of the mesh"]


def test_every_tls_listener_gets_a_handshake() -> None:
    wild = (build.gateway(build.server(443, "HTTPS", "*.example.com", mode="SIMPLE")),)
    regex = service(rule(match=[{"uri": {"regex": "/v.*"}}]))

    planned = build.requests(gateways=wild, virtual_services=(regex,))

    connects = [each.host for each in planned if not each.tls_version]
    assert connects == ["meshgate-probe.example.com"]
