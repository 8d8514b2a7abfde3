"""Whether objects of the Gateway API are in effect."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.conditions import TLS_ROUTES, GatewayConditions
from meshgate.facts.mesh import notes_about
from meshgate.snapshot.gateway_api import (
    AllowedListeners,
    ApiGateway,
    GatewayClass,
    GatewayClassSpec,
    GatewayStatus,
    Listener,
    ListenerNamespaces,
    ListenerSet,
    ListenerSetParent,
    ListenerSetSpec,
    ListenerStatus,
    ObservedCondition,
    Route,
)
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.items import ITEMS
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


# --- no address ---------------------------------------------------------------------------------

PENDING = (
    "Assigned to service(s) front.ways.svc.cluster.local:80, but failed to assign to all requested "
    'addresses: address pending for hostname "front.ways.svc.cluster.local"'
)


def unassigned(message: str = PENDING, **more: Any) -> ApiGateway:
    """A Gateway whose LoadBalancer has no address."""
    reason = {"reason": "AddressNotAssigned", "message": message, **more}
    return build.api_gateway(
        build.condition("Accepted"), build.condition("Programmed", "False", **reason)
    )


def without_load_balancer(*gateways: ApiGateway, **sent: Any) -> dict[str, Any]:
    """A LoadBalancer without an address, and what a request from outside returned; {}: none."""
    labels = {**build.LABELS, **build.API_LABELS}
    lists = {
        **API,
        "pods": (builders.istiod(), build.gateway_pod(labels=labels)),
        "services": (build.service(type="LoadBalancer", selector=labels),),
        "api_gateways": gateways or (unassigned(),),
        "gateways": (),
        "virtual_services": (),
    }
    if not sent:
        return lists
    requests = [
        msgspec.structs.replace(each, vantage="outside") for each in build.requests(**lists)
    ]
    exchanges = [build.answered(each, **sent) for each in requests]
    return {**lists, "ingress": build.traffic(*exchanges)}


def test_a_gateway_without_an_address_that_was_reached_is_a_warning() -> None:
    found = conditions(**without_load_balancer(status=200))

    assert found.unaccepted == []
    assert told(found.addressless).startswith("Gateway ways/api: Programmed=False (AddressNotAss")


def test_the_listener_set_of_such_a_gateway_has_no_address_either() -> None:
    lists = without_load_balancer(status=200)
    added = listener_set(*unassigned().status.conditions)
    added = msgspec.structs.replace(
        added, metadata=msgspec.structs.replace(added.metadata, generation=1)
    )

    found = conditions(**lists | {"listener_sets": (added,)})

    assert found.unaccepted == []
    assert "ListenerSet ways/more: Programmed=False" in told(found.addressless)


@pytest.mark.parametrize(
    "lists",
    [
        without_load_balancer(),
        without_load_balancer(stage="connect", error="timed out"),
        without_load_balancer(
            unassigned(
                PENDING + '; no instances found for hostname "other.ways.svc.cluster.local"'
            ),
            status=200,
        ),
        without_load_balancer(unassigned(reason="Invalid"), status=200),
        without_load_balancer(unassigned(observed_generation=0), status=200),
        {
            **without_load_balancer(status=200),
            "ingress": build.traffic(*(map(build.answered, build.requests(**API)))),
        },
    ],
    ids=[
        "nothing was sent",
        "nothing answered",
        "another problem too",
        "another reason",
        "an older generation",
        "answered from inside only",
    ],
)
def test_a_gateway_without_an_address_that_was_not_reached_is_not_in_effect(
    lists: dict[str, Any],
) -> None:
    found = conditions(**lists)

    assert "Gateway ways/api: Programmed=False" in told(found.unaccepted)
    assert found.addressless == []


# --- classes ------------------------------------------------------------------------------------


def of_class(name: str, *conditions: ObservedCondition) -> ApiGateway:
    """The Gateway `other`, of this class."""
    made = build.api_gateway(*conditions)
    return msgspec.structs.replace(
        made,
        metadata=msgspec.structs.replace(made.metadata, name="other"),
        spec=msgspec.structs.replace(made.spec, gateway_class_name=name),
    )


NGINX = GatewayClass(
    metadata=Metadata(name="nginx"), spec=GatewayClassSpec(controller_name="example.com/nginx")
)


def test_a_gateway_of_a_class_that_does_not_exist() -> None:
    both = {**API, "api_gateways": (build.api_gateway(), of_class("isito"))}

    found = conditions(**both)

    assert found.unaccepted == []
    assert told(found.without_class).startswith(
        "Gateway ways/other: its GatewayClass isito does not exist: istiod ignores the Gateway"
    )
    with pytest.raises(NotApplicable, match="GatewayClass isito does not exist"):
        _ = conditions(api_gateways=(of_class("isito"),)).unaccepted


def test_a_class_that_istiod_creates_needs_no_object() -> None:
    waits = build.condition("Accepted", "Unknown", reason="Pending")

    found = conditions(**API | {"api_gateways": (of_class("istio", waits),)})

    assert found.without_class == []
    assert "Gateway ways/other: Accepted=Unknown (Pending)" in told(found.unaccepted)


# Of istiod with PILOT_ENABLE_AGENTGATEWAY: its proxy is not Envoy.
AGENTGATEWAY = GatewayClass(
    metadata=Metadata(name="istio-agentgateway"),
    spec=GatewayClassSpec(controller_name="istio.io/agentgateway-controller"),
)


@pytest.mark.parametrize("other", [NGINX, AGENTGATEWAY], ids=lambda each: each.metadata.name)
def test_a_gateway_of_another_controller_is_only_noted(other: GatewayClass) -> None:
    name = other.metadata.name
    both = (build.api_gateway(), of_class(name, build.condition("Accepted", "False")))
    lists = {**API, "api_gateways": both, "gateway_classes": (other,)}

    found = conditions(**lists)

    assert (found.unaccepted, found.without_class) == ([], [])
    (note,) = [each for each in notes_about(build.mesh(**lists), ITEMS) if "controllers" in each]
    assert note == f"not verified: 1 Gateway of other controllers: ways/other (class {name})"
    assert not [each for each in notes_about(build.mesh(**API), ITEMS) if "controllers" in each]
