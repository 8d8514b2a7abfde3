"""The waypoints that istiod makes clients use, compared with the labels that select them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.ambient import (
    AmbientService,
    Hostname,
    NetworkAddress,
    WaypointAddress,
    WeightedWaypoint,
)
from meshgate.snapshot.gateway_api import ApiGateway, GatewaySpec
from meshgate.snapshot.istio import ServiceEntry, ServiceEntrySpec
from meshgate.snapshot.kubernetes import Metadata, Service, ServiceSpec
from tests.support import ambient_builders as build
from tests.support.webhook_builders import namespace

USE = "istio.io/use-waypoint"
BY_ADDRESS = WaypointAddress(address=NetworkAddress(address=b"10.96.0.5"))
OTHER = WaypointAddress(hostname=Hostname(namespace="infra", hostname="other.infra.svc.x"))


def gateway(scope: str = "all", **of: str) -> ApiGateway:
    return ApiGateway(
        metadata=Metadata(
            name=of.get("name", "waypoint"),
            namespace=of.get("namespace", "shop"),
            labels={"istio.io/waypoint-for": scope} if scope else {},
        ),
        spec=GatewaySpec(gateway_class_name="istio-waypoint"),
    )


def service(name: str = "web", *addresses: str, **labels: str) -> Service:
    return Service(
        metadata=Metadata(name=name, namespace="shop", labels=labels),
        spec=ServiceSpec(cluster_ips=addresses or ("10.96.0.9",)),
    )


def own_service(name: str = "waypoint") -> Service:
    """The Service that istiod creates for the waypoint."""
    labels = {
        "gateway.istio.io/managed": "istio.io-mesh-controller",
        "gateway.networking.k8s.io/gateway-name": "waypoint",
    }
    return service(name, "10.96.0.5", **labels)


def wrong(
    pod: WaypointAddress | None,
    web: WaypointAddress | None,
    *,
    labels: dict[str, str] | None = None,
    **changes: Any,
) -> list[str]:
    """The findings of CP025 where istiod names these waypoints for the pod and the Service.

    Args:
        pod: the pod's.
        web: the Service's.
        labels: those of the namespace; by default they select the waypoint.
        changes: other parts of the mesh.

    Returns:
        The findings, as they are printed.
    """
    sent = (
        AmbientService(
            name="web", namespace="shop", hostname="web.shop.svc.cluster.local", waypoint=web
        ),
        AmbientService(name="web", namespace="shop", hostname="outside.example", waypoint=OTHER),
        AmbientService(name="waypoint", namespace="shop"),
    )
    selecting = {USE: "waypoint"} if labels is None else labels
    seen = {
        "namespaces": (namespace("shop", **build.AMBIENT, **selecting), namespace("istio-system")),
        "services": (service(), own_service()),
        "api_gateways": (gateway(),),
        "ambient_index": (build.index(build.workload(waypoint=pod), services=sent),),
        **changes,
    }
    return [str(each) for each in build.ambient_mesh(**seen).ambient_index.wrong]


@pytest.mark.parametrize("address", [build.WAYPOINT, BY_ADDRESS], ids=["host name", "address"])
def test_the_waypoint_of_the_namespace(address: WaypointAddress) -> None:
    assert wrong(address, address) == []


def test_no_waypoint_is_selected_and_none_is_used() -> None:
    assert wrong(None, None, labels={}) == []
    assert wrong(None, None, labels={USE: "none"}) == []


@pytest.mark.parametrize(
    ("pod", "web", "line"),
    [
        (
            None,
            build.WAYPOINT,
            "Pod shop/web-1: istiod makes clients use no waypoint, although its labels select "
            "shop/waypoint",
        ),
        (
            build.WAYPOINT,
            OTHER,
            "Service shop/web: istiod makes clients use the waypoint infra/other, although its "
            "labels select shop/waypoint",
        ),
    ],
)
def test_another_waypoint_than_the_labels_select(
    pod: WaypointAddress | None, web: WaypointAddress | None, line: str
) -> None:
    (finding,) = wrong(pod, web)

    assert finding.startswith(line)


def test_a_waypoint_that_no_label_selects() -> None:
    (finding,) = wrong(build.WAYPOINT, None, labels={})

    assert finding.startswith(
        "Pod shop/web-1: istiod makes clients use the waypoint shop/waypoint, which its labels do "
        "not select"
    )


def test_a_waypoint_that_does_not_exist() -> None:
    found = wrong(None, None, api_gateways=())

    assert [each.partition(" (")[0] for each in found] == [
        f"{each}: its labels select the waypoint shop/waypoint, which does not exist"
        for each in ("Pod shop/web-1", "Service shop/web")
    ]


@pytest.mark.parametrize(
    ("scope", "pod", "web"),
    [
        ("", None, build.WAYPOINT),
        ("service", None, build.WAYPOINT),
        ("workload", build.WAYPOINT, None),
        ("none", None, None),
    ],
)
def test_what_a_waypoint_is_for(
    scope: str, pod: WaypointAddress | None, web: WaypointAddress | None
) -> None:
    assert wrong(pod, web, api_gateways=(gateway(scope),)) == []
    assert len(wrong(build.WAYPOINT, build.WAYPOINT, api_gateways=(gateway(scope),))) == (
        2 - bool(pod) - bool(web)
    )


def test_labels_of_the_object_come_first() -> None:
    selecting = {USE: "other", "istio.io/use-waypoint-namespace": "infra"}
    pod = msgspec.structs.replace(
        build.app(), metadata=msgspec.structs.replace(build.app().metadata, labels=selecting)
    )
    changes: dict[str, Any] = {
        "pods": (*build.PODS[:-1], pod),
        "services": (service("web", **{USE: "none"}), own_service()),
        "api_gateways": (gateway(), gateway(name="other", namespace="infra")),
    }

    assert wrong(OTHER, None, **changes) == []
    assert len(wrong(build.WAYPOINT, build.WAYPOINT, **changes)) == 2


def test_a_waypoint_whose_service_has_another_name() -> None:
    named = WaypointAddress(hostname=Hostname(namespace="shop", hostname="wp.shop.svc.x"))

    assert wrong(named, named, services=(service(), own_service("wp"))) == []


def test_a_pod_that_is_not_in_ambient_mode_is_not_compared() -> None:
    pods = tuple(each for each in build.PODS if each.metadata.name != "web-1")

    assert wrong(None, build.WAYPOINT, pods=pods) == []


def of_entry(waypoint: WaypointAddress | None, **labels: str) -> list[str]:
    """The findings about the ServiceEntry shop/api, whose clients use this waypoint."""
    entry = ServiceEntry(
        metadata=Metadata(name="api", namespace="shop", labels=labels),
        spec=ServiceEntrySpec(hosts=("api.example", "unsent.example")),
    )
    sent = AmbientService(name="api", namespace="shop", hostname="api.example", waypoint=waypoint)
    index = (build.index(build.workload(waypoint=None), services=(sent,)),)
    return wrong(None, None, labels={}, service_entries=(entry,), ambient_index=index)


def test_the_waypoint_of_a_service_entry() -> None:
    assert of_entry(None) == []
    assert of_entry(build.WAYPOINT, **{USE: "waypoint"}) == []
    (finding,) = of_entry(None, **{USE: "waypoint"})
    assert finding.startswith(
        "ServiceEntry shop/api: istiod makes clients use no waypoint, although its labels select "
        "shop/waypoint"
    )


CANARY = "istio.io/use-waypoint-canary"
SECOND = WaypointAddress(hostname=Hostname(namespace="shop", hostname="second.shop.svc.x"))


def with_canary(
    *weighted: WaypointAddress,
    own: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """The findings where istiod names these waypoints beside the Service's own.

    Args:
        weighted: the waypoints.
        own: the labels of the Service.
        labels: those of the namespace, beside its waypoint.
    """
    sent = AmbientService(
        name="web",
        namespace="shop",
        hostname="web.shop.svc.cluster.local",
        waypoint=build.WAYPOINT,
        weighted_waypoints=tuple(WeightedWaypoint(destination=each) for each in weighted),
    )
    return wrong(
        build.WAYPOINT,
        None,
        labels={USE: "waypoint", **(labels or {})},
        services=(service("web", **(own or {})), own_service()),
        api_gateways=(gateway(), gateway(name="second")),
        ambient_index=(build.index(build.workload(waypoint=build.WAYPOINT), services=(sent,)),),
    )


@pytest.mark.parametrize(
    ("own", "labels"),
    [
        ({}, {CANARY: "second"}),
        ({CANARY: "second"}, {}),
        ({USE: "waypoint", CANARY: "second"}, {CANARY: "other"}),
    ],
)
def test_a_canary_waypoint_that_labels_select(own: dict[str, str], labels: dict[str, str]) -> None:
    assert with_canary(build.WAYPOINT, SECOND, own=own, labels=labels) == []
    (finding,) = with_canary(own=own, labels=labels)
    assert finding.startswith(
        "Service shop/web: istiod does not know its canary waypoint shop/second"
    )


def test_a_canary_waypoint_that_does_not_count() -> None:
    assert with_canary(own={CANARY: "none"}) == []
    # a Service that names a waypoint itself does not inherit the namespace's canary
    assert with_canary(own={USE: "waypoint"}, labels={CANARY: "second"}) == []
    (finding,) = with_canary(labels={CANARY: "absent"})
    assert "the canary waypoint shop/absent, which does not exist" in finding
