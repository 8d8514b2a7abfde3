"""The rules of VirtualServices as a gateway has them."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.hosts import PROBE
from meshgate.semantics.requests import hidden_routes, requests
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.istio import Gateway, GatewaySpec, Server, VirtualService
from meshgate.snapshot.kubernetes import Metadata
from tests.support import ingress_builders as build
from tests.support.builders import after

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


def test_the_mesh_config_says_where_a_service_without_export_is_used() -> None:
    private = {"default_export": (".",)}

    assert sent(service(rule()), **private) == []
    assert sent(service(rule(), exportTo=["*"]), **private)
    assert sent(service(rule(), namespace="ways", gateways=["front"]), **private)


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
    assert skipped(root, pay) == {
        "VirtualService other/pay route outside": (
            "its matches are not within those of VirtualService shop/shop"
        )
    }


@pytest.mark.parametrize(
    ("outer", "inner", "used"),
    [
        ([{"uri": {"prefix": "/pay"}}], [{"uri": {"exact": "/pay/1"}}], True),
        ([{"uri": {"prefix": "/pay"}}], [{"method": {"exact": "HEAD"}}], True),
        ([{"uri": {"prefix": "/pay"}}], [], True),
        ([], [{"uri": {"prefix": "/any"}}], True),
        # one match outside, and Istio leaves out the whole rule
        ([{"uri": {"prefix": "/pay"}}], [{"uri": {"prefix": "/pay"}}, {"uri": {"prefix": "/"}}], 0),
        ([{"uri": {"exact": "/pay"}}], [{"uri": {"prefix": "/pay"}}], False),
        ([{"method": {"exact": "GET"}}], [{"method": {"exact": "HEAD"}}], False),
        ([{"headers": {"x": {"exact": "a"}}}], [{"headers": {"x": {"exact": "b"}}}], False),
        ([{"uri": {"prefix": "/pay"}}], [{"uri": {"prefix": "/pay"}, "ignoreUriCase": True}], 0),
        (
            [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}],
            [{"uri": {"prefix": "/b/1"}}],
            True,
        ),
    ],
)
def test_a_delegates_matches_are_within_those_of_the_root(
    outer: list[dict[str, Any]], inner: list[dict[str, Any]], used: bool
) -> None:
    root = service({"match": outer, "delegate": {"name": "pay"}})
    pay = service(rule(match=inner), name="pay", hosts=[], gateways=[])

    assert bool(sent(root, pay)) == bool(used)
    assert bool(skipped(root, pay)) != bool(used)


def test_a_delegate_of_two_roots_is_used_where_one_of_them_fits() -> None:
    root = service(
        {"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "pay"}},
        {"match": [{"uri": {"prefix": "/b"}}], "delegate": {"name": "pay"}},
    )
    pay = service(rule(match=[{"uri": {"prefix": "/b/1"}}]), name="pay", hosts=[], gateways=[])

    assert [each.path for each in sent(root, pay)] == ["/b/1"]
    assert skipped(root, pay) == {}


def test_a_delegate_has_the_fault_of_its_root() -> None:
    fault = {"abort": {"httpStatus": 418, **ALL}}
    root = service({"delegate": {"name": "pay"}, "fault": fault})

    (asked,) = sent(root, service(rule(), name="pay", hosts=[], gateways=[]))

    assert asked.expected == 418


ALL = {"percentage": {"value": 100}}


def test_a_fault_on_purpose_is_expected() -> None:
    (asked,) = sent(service(rule(fault={"abort": {"httpStatus": 503, **ALL}})))

    assert asked.expected == 503


def test_a_fault_without_a_percentage_aborts_no_request() -> None:
    (asked,) = sent(service(rule(fault={"abort": {"httpStatus": 503}})))

    assert asked.expected == 0


def test_the_answer_of_a_fault_with_a_grpc_status_is_not_predicted() -> None:
    given = service(rule(fault={"abort": {"grpcStatus": "UNAVAILABLE", **ALL}}))

    assert sent(given) == []
    assert skipped(given) == {
        "VirtualService shop/shop route 0": "fault injection with a gRPC status"
    }


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
    return [(each.rule.route, each.by.route) for each in hidden_routes(topology, listener)]


def test_a_route_is_hidden_by_the_shorter_prefix_of_another_service() -> None:
    catalog = service(rule(name="all", match=[{"uri": {"prefix": "/catalog"}}]), name="a")
    admin = service(rule(name="admin", match=[{"uri": {"prefix": "/catalog/admin"}}]), name="b")

    assert hidden(admin, catalog) == [
        ("VirtualService shop/b route admin", "VirtualService shop/a route all")
    ]


@pytest.mark.parametrize(
    ("first", "second", "request_of_second"),
    [
        ([{"uri": {"exact": "/catalog"}}], [{"uri": {"prefix": "/catalog"}}], "GET /catalog/PROBE"),
        ([{"uri": {"exact": "/"}}], [{"uri": {"prefix": "/"}}], "GET /PROBE"),
        ([{"uri": {"exact": "/"}}], [], "GET /PROBE"),
        (
            [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}}],
            [{"uri": {"prefix": "/api"}}],
            "HEAD /api",
        ),
        (
            [{"uri": {"prefix": "/foo"}}, {"uri": {"prefix": "/"}}],
            [{"uri": {"prefix": "/b"}}],
            "GET /b",
        ),
        ([{"uri": {"prefix": "/Api"}}], [{"uri": {"prefix": "/api"}}], "GET /api"),
        (
            [{"uri": {"exact": "/api"}}],
            [{"uri": {"prefix": "/API"}, "ignoreUriCase": True}],
            "GET /API",
        ),
        (
            [{"uri": {"prefix": "/"}, "scheme": {"exact": "https"}}],
            [{"uri": {"prefix": "/b"}}],
            "GET /b",
        ),
    ],
)
def test_a_route_of_which_another_takes_some_requests_is_not_hidden(
    first: list[dict[str, Any]], second: list[dict[str, Any]], request_of_second: str
) -> None:
    some, rest = service(rule(match=first), name="a"), service(rule(match=second), name="b")

    assert hidden(some, rest) == []
    asked = {each.route: f"{each.method} {each.path}" for each in sent(some, rest)}
    assert asked["VirtualService shop/b route 0"] == request_of_second.replace("PROBE", PROBE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"uri": {"prefix": "/api"}}, {"uri": {"prefix": "/api/x"}, "method": {"exact": "POST"}}),
        (
            {"uri": {"prefix": "/api"}},
            {"uri": {"exact": "/api/x"}, "headers": {"x": {"regex": "a"}}},
        ),
        ({"uri": {"prefix": "/API"}, "ignoreUriCase": True}, {"uri": {"prefix": "/api/x"}}),
        ({"headers": {"X-Team": {}}}, {"headers": {"x-team": {"exact": "a"}}}),
        ({"uri": {"regex": "/v[0-9]"}}, {"uri": {"regex": "/v[0-9]"}}),
    ],
)
def test_a_route_is_hidden_also_if_no_request_can_be_derived_from_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, other = service(rule(match=[first]), name="a"), service(rule(match=[second]), name="b")

    assert hidden(one, other) == [
        ("VirtualService shop/b route 0", "VirtualService shop/a route 0")
    ]


def front(name: str, *servers: Server, created: float = 0) -> Gateway:
    """A Gateway of the same pods as all others."""
    return msgspec.structs.replace(
        build.gateway(*servers),
        metadata=Metadata(name=name, namespace="ways", creation_timestamp=after(created)),
    )


CATALOG = [{"uri": {"prefix": "/catalog"}}]
ADMIN = [{"uri": {"prefix": "/catalog/admin"}}]


def hidden_over(*gateways: Gateway, services: tuple[VirtualService, ...]) -> dict[str, str]:
    topology = build.topology(gateways=gateways, virtual_services=services)
    return {
        each.rule.route: each.by.route
        for listener in topology.listeners
        for each in hidden_routes(topology, listener)
    }


def test_gateways_of_the_same_pods_share_their_virtual_hosts() -> None:
    catalog = service(rule(name="all", match=CATALOG), name="z", gateways=["ways/old"])
    admin = service(rule(name="admin", match=ADMIN), name="a", gateways=["ways/new"])
    old, new = front("old", build.server()), front("new", build.server(), created=60)
    is_hidden = {"VirtualService shop/a route admin": "VirtualService shop/z route all"}

    assert hidden_over(new, old, services=(catalog, admin)) == is_hidden
    # the older Gateway has the longer path
    younger = front("old", build.server(), created=120)
    assert hidden_over(new, younger, services=(catalog, admin)) == {}


@pytest.mark.parametrize(
    "other",
    [
        front("new", build.server(80, "HTTP", "*.example.org"), created=60),
        front("new", build.server(8080), created=60),
        front("new", build.server(443, "HTTPS", mode="SIMPLE"), created=60),
        msgspec.structs.replace(
            front("new", build.server(), created=60), spec=GatewaySpec(selector={"istio": "other"})
        ),
    ],
    ids=["other host", "other port", "TLS", "other pods"],
)
def test_other_gateways_share_nothing(other: Gateway) -> None:
    catalog = service(rule(name="all", match=CATALOG), name="z", gateways=["ways/old"])
    admin = service(rule(name="admin", match=ADMIN), name="a", gateways=["ways/new"], hosts=["*"])

    assert hidden_over(front("old", build.server()), other, services=(catalog, admin)) == {}


def test_a_service_of_two_gateways_does_not_hide_itself() -> None:
    both = service(rule(name="all"), gateways=["ways/old", "ways/new"])
    gateways = (front("old", build.server()), front("new", build.server(), created=60))

    assert hidden_over(*gateways, services=(both,)) == {}
    assert len(sent(both, gateways=gateways)) == 1
    topology = build.topology(gateways=gateways, virtual_services=(both,))
    assert [each.skipped for each in (requests(topology, e) for e in topology.listeners)] == [
        [],
        [],
    ]


def test_two_servers_of_a_gateway_have_the_rules_once() -> None:
    one = front("front", build.server(), build.server(80, "HTTP", "*"))

    assert hidden_over(one, services=(service(rule()),)) == {}


def test_gateways_that_select_the_same_pods_by_other_labels_share_their_virtual_hosts() -> None:
    catalog = service(rule(name="all", match=CATALOG), name="a", gateways=["ways/old"])
    admin = service(rule(name="admin", match=ADMIN), name="b", gateways=["ways/new"])
    labels = {**build.LABELS, "app": "front"}
    by_app = msgspec.structs.replace(
        front("new", build.server(), created=60),
        spec=GatewaySpec(selector={"app": "front"}, servers=(build.server(),)),
    )

    topology = build.topology(
        gateways=(front("old", build.server()), by_app),
        virtual_services=(catalog, admin),
        pods=(build.gateway_pod(labels=labels),),
        deployments=(build.gateway_deployment(labels=labels),),
    )
    found = [
        (each.rule.route, each.by.route)
        for listener in topology.listeners
        for each in hidden_routes(topology, listener)
    ]

    assert found == [("VirtualService shop/b route admin", "VirtualService shop/a route all")]


def test_a_gateway_without_a_selector_is_for_gateways_and_no_sidecar() -> None:
    everywhere = msgspec.structs.replace(
        build.gateway(), spec=GatewaySpec(servers=(build.server(),))
    )

    topology = build.topology(gateways=(everywhere,), pods=(*build.HEALTHY["pods"],))

    assert [each.metadata.name for each in topology.pods_of(topology.listeners[0])] == ["front-1"]


def test_a_wildcard_may_be_a_part_of_a_label() -> None:
    previews = (build.gateway(build.server(80, "HTTP", "*-preview.example.com")),)

    (asked,) = sent(service(rule(), hosts=["7-preview.example.com"]), gateways=previews)

    assert asked.host == "7-preview.example.com"
    assert sent(service(rule(), hosts=["7.example.com"]), gateways=previews) == []


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


def connections(server: Server, *services: VirtualService) -> tuple[list[str], dict[str, str]]:
    """The routes that are connected to, and the hidden ones with what hides them."""
    topology = build.topology(gateways=(build.gateway(server),), virtual_services=services)
    (listener,) = topology.listeners
    asked = [each.route for each in requests(topology, listener).planned if each.route]
    found = hidden_routes(topology, listener)
    return asked, {each.rule.owner: each.by.owner for each in found}


def test_a_tcp_listener_uses_the_first_route_alone() -> None:
    tcp = [{"match": [{"port": 31400}], "route": [WEB]}]
    one, other = (service(name=name, hosts=[name], tcp=tcp) for name in "ab")

    assert connections(build.server(31400, "TCP", "*"), other, one) == (
        ["VirtualService shop/a"],
        {"VirtualService shop/b": "VirtualService shop/a"},
    )
    elsewhere = service(name="b", hosts=["b"], tcp=[{"match": [{"port": 31401}], "route": [WEB]}])
    assert connections(build.server(31400, "TCP", "*"), elsewhere, one)[1] == {}


def test_a_tcp_route_for_certain_sources_is_used_by_gateways() -> None:
    tcp = [{"match": [{"port": 31400, "sourceLabels": {"app": "web"}}], "route": [WEB]}]

    asked, _ = connections(build.server(31400, "TCP", "*"), service(tcp=tcp, hosts=["a"]))

    assert asked == ["VirtualService shop/shop"]


def test_a_name_of_tls_leads_to_the_first_route_alone() -> None:
    def passing(name: str, *names: str) -> VirtualService:
        match = [{"port": 443, "sniHosts": [*names]}]
        return service(name=name, hosts=[*names], tls=[{"match": match, "route": [WEB]}])

    one, other = passing("a", "x.example.com"), passing("b", "x.example.com")
    server = build.server(443, "TLS", "*.example.com", mode="PASSTHROUGH")

    assert connections(server, one, other) == (
        ["VirtualService shop/a"],
        {"VirtualService shop/b": "VirtualService shop/a"},
    )
    assert connections(server, one, passing("b", "y.example.com"))[1] == {}


def test_what_is_passed_through_is_tls_also_as_https() -> None:
    match = [{"port": 443, "sniHosts": ["x.example.com"]}]
    passing = service(hosts=["x.example.com"], tls=[{"match": match, "route": [WEB]}])

    asked, _ = connections(build.server(443, "HTTPS", "*.example.com", mode="PASSTHROUGH"), passing)

    assert asked == ["VirtualService shop/shop"]


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


def test_istio_completes_a_host_without_a_dot() -> None:
    anywhere = (build.gateway(build.server(80, "HTTP", "*")),)
    short = service(rule(), hosts=["web"])

    assert [each.host for each in sent(short, gateways=anywhere)] == ["web.shop.svc.cluster.local"]
    # a gateway for that very name never gets the VirtualService
    named = (build.gateway(build.server(80, "HTTP", "web")),)
    assert sent(short, gateways=named) == []
    wide = service(rule(), hosts=["*"])
    assert [each.host for each in sent(wide, gateways=anywhere)] == [f"{PROBE}.invalid"]
