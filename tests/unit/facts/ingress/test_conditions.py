"""Whether objects of the Gateway API are in effect."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.conditions import TLS_ROUTES, GatewayConditions
from meshgate.snapshot.gateway_api import (
    AllowedListeners,
    GatewayClass,
    GatewayClassSpec,
    GatewayStatus,
    Listener,
    ListenerNamespaces,
    ListenerSet,
    ListenerSetParent,
    ListenerSetSpec,
    ListenerStatus,
    Route,
)
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import Metadata
from meshgate.snapshot.model import Before
from meshgate.verdict import Finding, NotApplicable
from tests.support import builders
from tests.support import ingress_builders as build
from tests.support.builders import AT, expecting
from tests.support.upgrade_builders import definition


def conditions(**changes: Any) -> GatewayConditions:
    return build.mesh(**changes).gateway_conditions


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


API = {
    "deployments": (
        builders.deployment(),
        build.gateway_deployment(labels={**build.LABELS, **build.API_LABELS}),
    ),
    "api_gateways": (build.api_gateway(),),
    "http_routes": (build.api_route(),),
}


def test_a_gateway_of_the_gateway_api_that_is_in_effect() -> None:
    assert conditions(**API).unaccepted == []
    with pytest.raises(NotApplicable, match="Gateway API"):
        _ = conditions().unaccepted


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (
            {
                "api_gateways": (
                    build.api_gateway(
                        build.condition("Accepted"),
                        build.condition("Programmed", "False", message="no address"),
                    ),
                )
            },
            "Gateway ways/api: Programmed=False (Because): no address (expected Programmed=True)",
        ),
        (
            {"api_gateways": (build.api_gateway(listening=build.IN_EFFECT[:2]),)},
            "Gateway ways/api listener http: has no condition ResolvedRefs",
        ),
        (
            {
                "api_gateways": (
                    build.api_gateway(
                        build.condition("Accepted", observed_generation=0), build.IN_EFFECT[1]
                    ),
                )
            },
            "Accepted is stale: observedGeneration 0, generation 1",
        ),
        (
            {
                "http_routes": (
                    build.api_route(
                        conditions=(
                            build.condition("Accepted"),
                            build.condition("ResolvedRefs", "False", message="no such Service"),
                        )
                    ),
                )
            },
            "HTTPRoute shop/web at Gateway ways/api: ResolvedRefs=False (Because): no such Service",
        ),
        (
            {"api_gateways": (build.api_gateway(listener=build.PASSED, attached=0),)},
            "Gateway ways/api listener tls: passes TLS through, and no TLSRoute is attached",
        ),
    ],
)
def test_what_is_not_in_effect(lists: dict[str, Any], words: str) -> None:
    assert words in told(conditions(**{**API, **lists}).unaccepted)


@pytest.mark.parametrize(
    ("generation", "transient"),
    [pytest.param(0, True, id="of what was there before"), pytest.param(1, False, id="of now")],
)
def test_what_is_said_of_an_older_generation_may_pass(generation: int, transient: bool) -> None:
    unresolved = build.condition("ResolvedRefs", "False", observed_generation=generation)
    route = build.api_route(conditions=(build.condition("Accepted"), unresolved))

    found = conditions(**API | {"http_routes": (route,)}).unaccepted

    assert "ResolvedRefs=False" in told(found)
    assert [each.transient for each in found] == [transient]


@pytest.mark.parametrize(
    ("routes", "transient"),
    [
        pytest.param((build.api_route(),), True, id="one is there, not counted yet"),
        pytest.param((), False, id="there is none"),
    ],
)
def test_a_tls_route_that_is_there_may_yet_be_attached(
    routes: tuple[Route, ...], transient: bool
) -> None:
    gateway = build.api_gateway(listener=build.PASSED, attached=0)

    found = conditions(**API | {"api_gateways": (gateway,), "tls_routes": routes}).unaccepted

    assert "no TLSRoute is attached" in told(found)
    assert [each.transient for each in found] == [transient]


def test_fewer_routes_than_before() -> None:
    before = Before(taken=AT, api_gateways=(build.api_gateway(attached=2),))

    found = conditions(**API, **expecting(before=before)).unaccepted

    assert "has 1 attached routes, 2 before the upgrade" in told(found)


# --- ListenerSets -------------------------------------------------------------------------------


def listener_set(*own: Any, of_listener: Any = build.IN_EFFECT, gateway: str = "api") -> Any:
    """A ListenerSet of a Gateway with one listener."""
    return ListenerSet(
        metadata=Metadata(name="more", namespace="ways"),
        spec=ListenerSetSpec(
            parent_ref=ListenerSetParent(name=gateway),
            listeners=(Listener(name="extra", port=81, protocol="HTTP"),),
        ),
        status=GatewayStatus(
            conditions=own,
            listeners=(ListenerStatus(name="extra", conditions=of_listener, attached_routes=1),),
        ),
    )


BOTH = (build.condition("Accepted"), build.condition("Programmed"))


def test_a_listener_set_that_is_in_effect() -> None:
    assert conditions(**API, listener_sets=(listener_set(*BOTH),)).unaccepted == []


@pytest.mark.parametrize(
    ("listeners", "words"),
    [
        (
            listener_set(build.condition("Accepted", "False", message="not allowed"), BOTH[1]),
            "ListenerSet ways/more: Accepted=False (Because): not allowed",
        ),
        (
            listener_set(*BOTH, of_listener=BOTH),
            "ListenerSet ways/more listener extra: has no condition ResolvedRefs",
        ),
    ],
)
def test_a_listener_set_that_is_not_in_effect(listeners: ListenerSet, words: str) -> None:
    assert words in told(conditions(**API, listener_sets=(listeners,)).unaccepted)


def test_a_listener_set_without_a_status_is_judged_by_what_its_gateway_permits() -> None:
    silent = listener_set()
    (refused,) = conditions(**API, listener_sets=(silent,)).unaccepted

    assert refused.subject == "ListenerSet ways/more"
    assert "allowedListeners of Gateway ways/api does not permit namespace ways" in refused.seen
    assert not refused.transient

    allows = AllowedListeners(namespaces=ListenerNamespaces(from_="Same"))
    gateway = build.api_gateway()
    spec = msgspec.structs.replace(gateway.spec, allowed_listeners=allows)
    lists = {**API, "api_gateways": (msgspec.structs.replace(gateway, spec=spec),)}
    found = conditions(**lists, listener_sets=(silent,)).unaccepted
    # istiod may still write it
    assert [each.problem for each in found] == ["no-condition", "no-condition"]
    assert all(each.transient for each in found)


def test_a_listener_of_an_accepted_listener_set_needs_a_status() -> None:
    made = listener_set(*BOTH)
    silent = msgspec.structs.replace(made, status=GatewayStatus(conditions=BOTH))

    (found,) = conditions(**API, listener_sets=(silent,)).unaccepted
    assert (found.subject, found.problem) == ("ListenerSet ways/more listener extra", "no-status")


def test_a_listener_set_of_another_gateway_is_not_judged() -> None:
    other = listener_set(gateway="of-another-controller")

    assert conditions(**API, listener_sets=(other,)).unaccepted == []


def test_a_route_of_a_listener_set_needs_a_status() -> None:
    route = build.api_route()
    parent = msgspec.structs.replace(route.spec.parent_refs[0], kind="ListenerSet", name="more")
    spec = msgspec.structs.replace(route.spec, parent_refs=(parent,))
    lists = {**API, "http_routes": (msgspec.structs.replace(route, spec=spec),)}

    found = conditions(**lists, listener_sets=(listener_set(*BOTH),)).unaccepted

    assert "HTTPRoute shop/web at ListenerSet ways/more: has no status from Istio" in told(found)


@pytest.mark.parametrize(
    ("definitions", "remedy"),
    [
        ((), "install the Gateway API bundle 1.5 or newer, and attach a TLSRoute"),
        ((definition(TLS_ROUTES, "v1"),), "attach a TLSRoute to Gateway ways/api listener tls"),
        ((definition(TLS_ROUTES, "v1alpha2"),), "bundle 1.5 or newer, whose TLSRoute is v1"),
    ],
)
def test_the_remedy_depends_on_the_installed_crd(definitions: Any, remedy: str) -> None:
    gateway = build.api_gateway(listener=build.PASSED, attached=0)
    lists = API | {"api_gateways": (gateway,), "definitions": definitions}

    (finding,) = [e for e in conditions(**lists).unaccepted if e.problem == "no-tls-route"]

    assert remedy in finding.remedy


def test_a_listener_for_other_networks_needs_no_route() -> None:
    gateway = build.api_gateway(
        listener=msgspec.structs.replace(build.PASSED, port=15443), attached=0
    )
    metadata = msgspec.structs.replace(
        gateway.metadata, labels={"topology.istio.io/network": "network1"}
    )
    networks = msgspec.structs.replace(gateway, metadata=metadata)

    found = conditions(**API | {"api_gateways": (networks,)}).unaccepted

    assert [each for each in found if each.problem == "no-tls-route"] == []


def test_an_istiod_may_have_another_controller_name() -> None:
    """Two meshes of one cluster: each serves the classes of its own controller."""
    own = "corp.example/gateways"
    config = (InjectorConfig(revision="default", gateway_controller=own),)

    def classes(controller: str) -> dict[str, Any]:
        spec = GatewayClassSpec(controller_name=controller)
        named = GatewayClass(metadata=Metadata(name="istio"), spec=spec)
        return {**API, "gateway_classes": (named,), "injector_configs": config}

    assert conditions(**classes(own)).gateways == {("ways", "api")}
    with pytest.raises(NotApplicable, match="no Gateway that Istio serves"):
        _ = conditions(**classes("istio.io/gateway-controller")).unaccepted
