"""Routes of the Gateway API that an older route hides."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.requests import hidden_routes, requests
from meshgate.snapshot.gateway_api import ApiGateway, Route
from meshgate.snapshot.kubernetes import Metadata, Namespace
from tests.support import ingress_builders as build

GATEWAY = build.api_gateway()
CART = {"path": {"type": "PathPrefix", "value": "/cart"}}
EXACT = {"path": {"type": "Exact", "value": "/cart"}}
WEB = {"name": "web", "port": 80}


def route(name: str, *rules: list[dict[str, Any]], day: int = 1, **spec: Any) -> Route:
    """A route of the Gateway `api`; each rule is a list of matches."""
    body = {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": f"2026-01-0{day}T00:00:00Z",
        },
        "spec": {
            "parentRefs": [{"name": "api", "namespace": "ways"}],
            "hostnames": [build.HOST],
            "rules": [{"matches": matches, "backendRefs": [WEB]} for matches in rules],
            **spec,
        },
    }
    return msgspec.convert(body, Route)


def hidden(*routes: Route) -> dict[str, str]:
    lists = {"gateways": (), "virtual_services": ()}
    topology = build.topology(**lists, api_gateways=(GATEWAY,), http_routes=routes)
    (listener,) = topology.listeners
    return {each.rule.route: each.by.route for each in hidden_routes(topology, listener)}


def test_the_oldest_of_equal_matches_counts() -> None:
    old, new = route("z", [CART], day=1), route("a", [CART], day=2)

    assert hidden(new, old) == {"HTTPRoute shop/a route 0": "HTTPRoute shop/z route 0"}


def test_without_a_match_a_rule_takes_every_path() -> None:
    root = {"path": {"type": "PathPrefix", "value": "/"}}

    assert hidden(route("a", []), route("b", [root], day=2))


def test_a_rule_with_a_match_of_its_own_is_used() -> None:
    assert hidden(route("a", [CART]), route("b", [CART, EXACT], day=2)) == {}
    assert hidden(route("a", [CART]), route("b", [EXACT], day=2)) == {}
    elsewhere = [{"name": "other", "namespace": "ways"}]
    assert hidden(route("a", [CART]), route("b", [CART], day=2, parentRefs=elsewhere)) == {}


def test_a_route_does_not_hide_itself() -> None:
    assert hidden(route("a", [CART], [CART])) == {}


@pytest.mark.parametrize("backends", [[], [{**WEB, "weight": 0}]])
def test_a_rule_without_a_backend_blocks_its_paths(backends: list[dict[str, Any]]) -> None:
    rules = [{"matches": [CART], "backendRefs": backends}, {"backendRefs": [WEB]}]
    topology = build.topology(
        gateways=(),
        virtual_services=(),
        api_gateways=(GATEWAY,),
        http_routes=(route("a", rules=rules),),
    )

    found = requests(topology, topology.listeners[0])

    assert [each.route for each in found.planned] == ["HTTPRoute shop/a rule 1"]
    assert [each.subject for each in found.skipped] == ["HTTPRoute shop/a rule 0"]


NAMESPACES = (
    Namespace(metadata=Metadata(name="shop", labels={"team": "a"})),
    Namespace(metadata=Metadata(name="ways")),
)
PLAIN = {"name": "http", "port": 80, "protocol": "HTTP"}


def listening(*listeners: dict[str, Any]) -> ApiGateway:
    """The Gateway `api` with these listeners."""
    spec = {"gatewayClassName": "istio", "listeners": listeners}
    body = {"metadata": {"name": "api", "namespace": "ways"}, "spec": spec}
    return msgspec.convert(body, ApiGateway)


def planned(gateway: ApiGateway, **routes: tuple[Route, ...]) -> dict[str, list[str]]:
    """The hosts of the routes' requests, by the name of the listener."""
    topology = build.topology(
        gateways=(),
        virtual_services=(),
        api_gateways=(gateway,),
        namespaces=NAMESPACES,
        **routes,
    )
    return {
        each.section: [found.host for found in requests(topology, each).planned if found.route]
        for each in topology.listeners
    }


@pytest.mark.parametrize(
    ("allowed", "asked"),
    [
        (None, True),  # of an older snapshot
        ({"namespaces": {"from": "All"}}, True),
        ({"namespaces": {"from": "Same"}}, False),
        ({}, False),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}}, True),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "b"}}}}, False),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}, True),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}, False),
    ],
)
def test_a_route_is_asked_for_where_the_listener_allows_it(
    allowed: dict[str, Any] | None, asked: bool
) -> None:
    gateway = listening({**PLAIN, "allowedRoutes": allowed})

    assert bool(planned(gateway, http_routes=(route("web", [CART]),))["http"]) == asked


def test_a_route_without_a_section_is_at_the_listeners_that_allow_it() -> None:
    everyone, own = {"namespaces": {"from": "All"}}, {"namespaces": {"from": "Same"}}
    gateway = listening(
        {**PLAIN, "allowedRoutes": own},
        {**PLAIN, "name": "apps", "port": 8080, "allowedRoutes": everyone},
    )

    found = planned(gateway, http_routes=(route("web", [CART]),))

    assert found == {"http": [], "apps": [build.HOST]}


def test_a_host_belongs_to_the_listener_that_has_it_most_exactly() -> None:
    gateway = listening(
        {**PLAIN, "name": "wild", "hostname": "*.example.com"},
        {**PLAIN, "name": "exact", "hostname": build.HOST},
        {**PLAIN, "name": "other", "hostname": build.HOST, "port": 8080},
    )

    found = planned(gateway, http_routes=(route("web", [CART]),))

    assert found == {"wild": [], "exact": [build.HOST], "other": [build.HOST]}
    assert planned(
        listening({**PLAIN, "hostname": "*.example.com"}), http_routes=(route("web", [CART]),)
    ) == {"http": [build.HOST]}


def test_a_tls_route_is_at_a_listener_that_terminates_tls() -> None:
    gateway = listening({"name": "tls", "port": 443, "protocol": "TLS", "tls": {}})

    assert build.HOST in planned(gateway, tls_routes=(route("db", []),))["tls"]


def test_a_tcp_listener_has_one_route() -> None:
    old, new = route("z", [], day=1, hostnames=[]), route("a", [], day=2, hostnames=[])
    topology = build.topology(
        gateways=(),
        virtual_services=(),
        api_gateways=(listening({"name": "tcp", "port": 5432, "protocol": "TCP"}),),
        tcp_routes=(new, old),
    )

    found = hidden_routes(topology, topology.listeners[0])

    assert [(each.rule.owner, each.by.owner) for each in found] == [
        ("TCPRoute shop/a", "TCPRoute shop/z")
    ]
