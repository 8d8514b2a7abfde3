"""What is planned to be sent: safe, derived from listeners and routes, no guesses."""

from typing import Any

import msgspec
import pytest

from meshgate.snapshot.gateway_api import (
    AllowedListeners,
    GatewayStatus,
    ListenerNamespaces,
    ListenerSet,
    ListenerSetParent,
    ListenerSetSpec,
    MethodMatch,
    ParentReference,
    PathMatch,
    RouteMatch,
)
from meshgate.snapshot.gateway_api import Listener as ApiListener
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.istio import (
    DirectResponse,
    HttpMatch,
    Redirect,
    StringMatch,
    TlsMatch,
    TlsRoute,
    VirtualServiceSpec,
)
from meshgate.snapshot.istio import VirtualService as Virtual
from meshgate.snapshot.kubernetes import (
    LabelSelector,
    Metadata,
    Namespace,
    Service,
    ServicePort,
    ServiceSpec,
)
from tests.support import ingress_builders as build


def urls(requests: list[Request]) -> list[str]:
    return [
        f"{each.method} {each.kind} {each.url}{each.way}"
        for each in requests
        if not each.tls_version
    ]


def test_http_is_asked_and_https_is_shaken_hands_with_too() -> None:
    assert urls(build.requests()) == [
        "GET request http://shop.example.com:80/",
        "GET connect https://shop.example.com:443",
        "GET request https://shop.example.com:443/",
        "GET request https://shop.example.com:443/ over HTTP/2",
    ]


def test_every_version_of_tls_is_offered_once_a_server_that_serves_a_certificate() -> None:
    hosts = ("a.example.com", "b.example.com")
    secured = build.server(443, "HTTPS", *hosts, mode="SIMPLE")
    passed = build.server(443, "TLS", mode="PASSTHROUGH")

    sent = build.requests(gateways=(build.gateway(build.server(), secured, passed),))

    assert [(each.host, each.tls_version) for each in sent if each.tls_version] == [
        ("a.example.com", "TLSv1"),
        ("a.example.com", "TLSv1.1"),
        ("a.example.com", "TLSv1.2"),
        ("a.example.com", "TLSv1.3"),
    ]


def test_a_request_says_which_route_leads_where() -> None:
    (asked, *_) = build.requests()

    assert asked.route == "VirtualService shop/shop route web"
    assert asked.backends == (build.WEB,)


@pytest.mark.parametrize(
    ("match", "planned"),
    [
        (HttpMatch(uri=StringMatch(prefix="/orders/")), ["GET /orders/"]),
        (HttpMatch(uri=StringMatch(exact="/one")), ["GET /one"]),
        (HttpMatch(method=StringMatch(exact="HEAD")), ["HEAD /"]),
        (HttpMatch(query_params={"a": StringMatch(exact="1")}), ["GET /?a=1"]),
        (HttpMatch(uri=StringMatch(regex=".*")), []),
        (HttpMatch(method=StringMatch(exact="POST")), []),
        (HttpMatch(headers={"x": StringMatch(prefix="a")}), []),
        (HttpMatch(port=8443), []),
    ],
)
def test_a_match_is_met_or_not_tried(match: HttpMatch, planned: list[str]) -> None:
    sent = build.requests(
        virtual_services=(build.virtual_service(build.rule(match)),),
        gateways=(build.gateway(build.server()),),
    )

    assert [f"{each.method} {each.path}" for each in sent if each.kind == "request"] == planned


def test_what_a_match_without_conditions_hides_is_not_tried() -> None:
    hidden = build.rule(HttpMatch(uri=StringMatch(prefix="/late/")), name="late")

    sent = build.requests(virtual_services=(build.virtual_service(build.rule(), hidden),))

    assert not any("late" in each.route for each in sent)


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"redirect": Redirect(redirect_code=308)}, 308),
        ({"direct_response": DirectResponse(status=204)}, 204),
    ],
)
def test_what_the_gateway_answers_itself_is_expected(rule: dict[str, Any], status: int) -> None:
    (asked, *_) = build.requests(virtual_services=(build.virtual_service(build.rule(**rule)),))

    assert asked.expected == status


def test_a_listener_that_redirects_is_asked_for_that_alone() -> None:
    (asked,) = build.requests(gateways=(build.gateway(build.server(redirects=True)),))

    assert (asked.url, asked.expected) == ("http://shop.example.com:80/", 301)


MUTUAL = (build.gateway(build.server(443, "HTTPS", mode="MUTUAL")),)


def test_mutual_tls_is_asked_once_a_host_without_a_certificate() -> None:
    (asked, *versions) = build.requests(gateways=MUTUAL)

    assert (asked.tls, asked.kind, asked.route) == ("MUTUAL", "request", "")
    assert all(each.tls_version for each in versions)


def test_with_a_certificate_to_show_mutual_tls_is_asked_for_its_routes_too() -> None:
    assert urls(build.requests(True, gateways=MUTUAL)) == [
        "GET request https://shop.example.com:443/",
        "GET connect https://shop.example.com:443 with a certificate",
        "GET request https://shop.example.com:443/ with a certificate",
        "GET request https://shop.example.com:443/ over HTTP/2 with a certificate",
    ]


def test_what_is_passed_through_is_shaken_hands_with_for_each_sni() -> None:
    passed = build.server(443, "TLS", "*.example.com", mode="PASSTHROUGH")
    service = Virtual(
        metadata=Metadata(name="passed", namespace="shop"),
        spec=VirtualServiceSpec(
            gateways=(f"{build.NAMESPACE}/front",),
            tls=(TlsRoute(match=(TlsMatch(sni_hosts=("db.example.com",)),), route=(build.to(),)),),
        ),
    )

    sent = build.requests(gateways=(build.gateway(passed),), virtual_services=(service,))

    assert urls(sent) == ["GET connect https://db.example.com:443"]
    assert sent[0].backends == (build.WEB,)


def test_a_wildcard_is_asked_by_a_name_that_it_stands_for() -> None:
    sent = build.requests(
        gateways=(build.gateway(build.server(80, "HTTP", "*.example.com")),),
        virtual_services=(build.virtual_service(hosts=("*.example.com",)),),
    )

    assert sent[0].host == "meshgate-probe.example.com"


def api(**lists: Any) -> list[Request]:
    return build.requests(
        **{
            "gateways": (),
            "virtual_services": (),
            "api_gateways": (build.api_gateway(),),
            "deployments": (build.gateway_deployment(labels={**build.LABELS, **build.API_LABELS}),),
            **lists,
        }
    )


@pytest.mark.parametrize(
    ("match", "planned"),
    [
        (RouteMatch(path=PathMatch(value="/v1")), ["GET /v1"]),
        (RouteMatch(method="POST"), []),
        (RouteMatch(path=PathMatch(type="RegularExpression", value="/.*")), []),
    ],
)
def test_an_http_route_is_met_or_not_tried(match: RouteMatch, planned: list[str]) -> None:
    sent = api(http_routes=(build.api_route(match),))

    assert [f"{each.method} {each.path}" for each in sent if each.kind == "request"] == planned


def test_a_grpc_method_is_a_path() -> None:
    (asked,) = api(
        grpc_routes=(build.api_route(RouteMatch(method=MethodMatch(service="shop.Orders"))),)
    )

    assert (asked.method, asked.path) == ("GET", "/shop.Orders/Meshgate")
    assert asked.route == "GRPCRoute shop/web rule 0"
    assert asked.http2
    assert asked.grpc


@pytest.mark.parametrize(
    ("named", "grpc"),
    [
        ({"name": "grpc"}, True),
        ({"name": "grpc-api"}, True),
        ({"name": "http", "app_protocol": "grpc"}, True),
        ({"name": "grpc-web"}, False),
        ({"name": "http"}, False),
    ],
)
def test_a_grpc_server_is_one_that_its_service_says_to_be(
    named: dict[str, str], grpc: bool
) -> None:
    web = Service(
        metadata=Metadata(name="web", namespace="shop"),
        spec=ServiceSpec(ports=(ServicePort(port=80, **named),)),  # type: ignore[arg-type]
    )

    (asked, *_) = build.requests(services=(build.service(), web))

    assert (asked.route, asked.grpc) == ("VirtualService shop/shop route web", grpc)


def test_a_tls_route_is_shaken_hands_with() -> None:
    (asked,) = api(
        api_gateways=(build.api_gateway(listener=build.PASSED),),
        tls_routes=(build.api_route(),),
    )

    assert (asked.kind, asked.tls, asked.route) == ("connect", "PASSTHROUGH", "TLSRoute shop/web")


def test_the_gateway_of_another_controller_is_left_alone() -> None:
    assert api(deployments=()) == []


def of_listener_set(allowed: str, *status: Any, **selector: Any) -> list[tuple[int, str]]:
    """Port and Gateway of each request by a ListenerSet of shop, which a Gateway of ways allows."""
    added = ApiListener(name="extra", port=8080, protocol="HTTP", hostname=build.HOST)
    parent = ListenerSetParent(name="api", namespace=build.NAMESPACE)
    extra = ListenerSet(
        metadata=Metadata(name="team", namespace="shop", generation=1),
        spec=ListenerSetSpec(parent_ref=parent, listeners=(added,)),
        status=GatewayStatus(conditions=status),
    )
    gateway = build.api_gateway()
    allows = AllowedListeners(namespaces=ListenerNamespaces(from_=allowed, **selector))
    gateway_spec = msgspec.structs.replace(gateway.spec, allowed_listeners=allows)
    route = build.api_route()
    reference = ParentReference(name="team", kind="ListenerSet")
    spec = msgspec.structs.replace(route.spec, parent_refs=(reference,))

    sent = api(
        api_gateways=(msgspec.structs.replace(gateway, spec=gateway_spec),),
        listener_sets=(extra,),
        services=(build.service(80, 8080),),
        http_routes=(msgspec.structs.replace(route, spec=spec),),
        namespaces=(Namespace(metadata=Metadata(name="shop", labels={"team": "shop"})),),
    )
    return [(each.port, each.gateway) for each in sent if each.route]


ADDED = [(8080, "Gateway ways/api")]
SHOP = {"selector": LabelSelector(match_labels={"team": "shop"})}
BY_NAME = {"selector": LabelSelector(match_labels={"kubernetes.io/metadata.name": "shop"})}
PAY = {"selector": LabelSelector(match_labels={"team": "pay"})}
NOT_ALLOWED = build.condition("Accepted", "False", reason="NotAllowed")


@pytest.mark.parametrize(
    ("allowed", "status", "selector", "added"),
    [
        ("All", (), {}, ADDED),
        ("Same", (), {}, []),
        ("None", (), {}, []),
        ("Selector", (), SHOP, ADDED),
        ("Selector", (), BY_NAME, ADDED),
        ("Selector", (), PAY, []),
        ("Selector", (), {}, []),
        # istiod's word counts more, also where a recording does not contain allowedListeners
        ("None", (build.condition("Accepted"),), {}, ADDED),
        ("All", (NOT_ALLOWED,), {}, []),
        # accepted or not for another reason: its listeners are there
        ("All", (build.condition("Accepted", "False", reason="ListenersNotValid"),), {}, ADDED),
        # a status of an older generation says nothing
        ("All", (msgspec.structs.replace(NOT_ALLOWED, observed_generation=0),), {}, ADDED),
    ],
)
def test_a_listener_set_adds_listeners_to_a_gateway_that_permits_it(
    allowed: str, status: tuple[Any, ...], selector: dict[str, Any], added: list[tuple[int, str]]
) -> None:
    assert of_listener_set(allowed, *status, **selector) == added


def test_a_tcp_route_leads_a_tcp_listener_to_its_backend() -> None:
    listener = ApiListener(name="tcp", port=80, protocol="TCP")

    (asked,) = api(
        api_gateways=(build.api_gateway(listener=listener),),
        tcp_routes=(build.api_route(),),
    )

    assert (asked.kind, asked.route, asked.backends) == (
        "connect",
        "TCPRoute shop/web",
        (build.WEB,),
    )
