"""What declared requests are sent to: sidecars, pods in ambient mode, and waypoints."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.pair_targets import PairTargets, Targets, pair_waypoints
from meshgate.snapshot.declared_pairs import DeclaredPair, PairWaypoint
from meshgate.snapshot.gateway_api import (
    AllowedRoutes,
    ApiGateway,
    GatewayClass,
    GatewayClassSpec,
    GatewaySpec,
    Listener,
    RouteNamespaces,
)
from meshgate.snapshot.kubernetes import LabelSelector, Metadata, Namespace, Pod, Service
from tests.support import ambient_builders as ambient
from tests.support.builders import HTTP, pod, running, sidecar
from tests.support.mtls_builders import declared_pair, service
from tests.support.webhook_builders import namespace

LABELS = {"app": "web"}
WEB = sidecar("web-1", labels=LABELS, ports=(HTTP,), ip="10.0.0.1")
APP = ambient.app("web-2", labels=LABELS, ports=(HTTP,), ip="10.0.0.2")
WAYPOINT = ambient.waypoint(ip="10.0.0.8")
USE = {"istio.io/use-waypoint": "waypoint"}
OF_SERVICES = PairWaypoint(name="shop/waypoint", admits=("shop",))
OF_ALL = msgspec.structs.replace(OF_SERVICES, scope="all")
OF_PODS = msgspec.structs.replace(OF_SERVICES, scope="workload")
SHOP = ambient.SHOP
PAIR = declared_pair()


def of(
    *pods: Pod,
    services: tuple[Service, ...] = (service(),),
    namespaces: tuple[Namespace, ...] = (SHOP,),
    waypoints: tuple[PairWaypoint, ...] = (OF_SERVICES,),
    pair: DeclaredPair = PAIR,
    sample: int = 0,
) -> Targets:
    """The targets of the pair."""
    return PairTargets(pods, services, namespaces, waypoints).of(pair, sample)


def keys(found: Targets) -> list[str]:
    """The pods with their ports or authorities; nothing may be missing."""
    assert found.missing == ""
    return [each.key for each in found.targets]


def web(*addresses: str, **labels: str) -> Service:
    """The Service web with these addresses and labels."""
    found = service()
    metadata = msgspec.structs.replace(found.metadata, labels=labels)
    spec = msgspec.structs.replace(found.spec, cluster_ips=addresses or ("10.96.0.9",))
    return msgspec.structs.replace(found, metadata=metadata, spec=spec)


def using(**labels: Any) -> Service:
    """The Service web, which uses the waypoint."""
    return web(**USE, **labels)


# --- pods ---------------------------------------------------------------------------------------


def test_a_request_goes_to_every_running_pod_whose_sidecar_captures_the_port() -> None:
    other = sidecar("web-2", labels=LABELS, ports=(HTTP,), ip="10.0.0.2")
    pending = sidecar("web-3", labels=LABELS, ports=(HTTP,))
    stranger = sidecar("api-1", labels={"app": "api"}, ports=(HTTP,), ip="10.0.0.4")

    assert keys(of(WEB, other, pending, stranger)) == ["shop/web-1 8080", "shop/web-2 8080"]
    assert len(of(WEB, other, sample=1).targets) == 1


def test_a_pod_in_ambient_mode_gets_the_request_in_a_tunnel() -> None:
    leaving = ambient.app("web-3", labels=LABELS, ip="10.0.0.3", deleted=True)

    assert keys(of(WEB, APP, leaving, WAYPOINT)) == ["shop/web-1 8080", "shop/web-2 10.0.0.2:8080"]
    # one of each kind: a sample of sidecars would show nothing of ambient mode
    assert len(of(WEB, APP, sample=1).targets) == 2


def test_a_captured_pod_with_a_sidecar_is_a_target_with_a_sidecar() -> None:
    both = sidecar("web-1", labels=LABELS, ip="10.0.0.1", annotations=ambient.CAPTURED)

    assert keys(of(both, WAYPOINT, services=(using(),))) == ["shop/web-1 8080"]


def test_an_address_of_ipv6_is_in_brackets() -> None:
    app = ambient.app("web-2", labels=LABELS, ports=(HTTP,), ip="fd00::2")
    dual = web("fd00:96::9", "10.96.0.9", **USE)

    assert keys(of(app)) == ["shop/web-2 [fd00::2]:8080"]
    assert keys(of(app, WAYPOINT, services=(dual,))) == ["shop/waypoint-1 [fd00:96::9]:80"]


@pytest.mark.parametrize(
    ("pair", "pods", "reason"),
    [
        (declared_pair(service="shop/api"), (WEB,), "Service shop/api does not exist"),
        (declared_pair(port=81), (WEB,), "has no port 81 (it has 80)"),
        (declared_pair(), (), "has no running pod in ambient mode, and none whose sidecar"),
        (
            declared_pair(),
            (pod("web-1", labels=LABELS, containers=[running("istio-proxy")], ip="10.0.0.1"),),
            "has no running pod in ambient mode",
        ),
    ],
)
def test_a_request_without_a_target_says_why(
    pair: DeclaredPair, pods: tuple[Pod, ...], reason: str
) -> None:
    found = of(*pods, pair=pair)

    assert not found.targets
    assert reason in found.missing


# --- waypoints ----------------------------------------------------------------------------------


def test_a_service_with_a_waypoint_is_reached_through_each_of_its_pods() -> None:
    second = ambient.waypoint("waypoint-2", ip="10.0.0.7")
    starting = ambient.waypoint("waypoint-3", phase="Pending")
    pods = (APP, WAYPOINT, second, starting)
    inherited = namespace("shop", **ambient.AMBIENT, **USE)
    through = ["shop/waypoint-1 10.96.0.9:80", "shop/waypoint-2 10.96.0.9:80"]

    assert keys(of(*pods, services=(using(),))) == through
    assert keys(of(*pods, services=(web(),), namespaces=(inherited,))) == through
    assert len(of(*pods, services=(using(),), sample=1).targets) == 1
    # a client does not send the request to a sidecar through it
    assert keys(of(WEB, *pods, services=(using(),))) == [*through, "shop/web-1 8080"]


@pytest.mark.parametrize(
    ("found", "waypoints"),
    [
        (web(), (OF_ALL,)),
        (using(), (OF_PODS,)),
        (web(**{**USE, "istio.io/use-waypoint": "none"}), (OF_ALL,)),
        (web(**USE, **{"gateway.istio.io/managed": "istio.io-mesh-controller"}), (OF_ALL,)),
    ],
    ids=["no label", "for workloads only", "opted out", "its own Service"],
)
def test_a_service_that_uses_no_waypoint_is_reached_directly(
    found: Service, waypoints: tuple[PairWaypoint, ...]
) -> None:
    pods = (APP, WAYPOINT)

    assert keys(of(*pods, services=(found,), waypoints=waypoints)) == ["shop/web-2 10.0.0.2:8080"]


def test_a_pods_waypoint_is_for_requests_to_its_address_only() -> None:
    """Clients of a headless Service connect to pods; others connect to the Service."""
    behind = ambient.app("web-2", labels={**LABELS, **USE}, ports=(HTTP,), ip="10.0.0.2")
    pods, headless, direct = (behind, WAYPOINT), web("None", **USE), ["shop/web-2 10.0.0.2:8080"]

    for waypoint in (OF_ALL, OF_PODS):
        assert keys(of(*pods, services=(headless,), waypoints=(waypoint,))) == [
            "shop/waypoint-1 10.0.0.2:8080"
        ]
    assert keys(of(*pods, services=(headless,), waypoints=(OF_SERVICES,))) == direct
    assert keys(of(*pods, services=(web(),), waypoints=(OF_ALL,))) == direct


def test_a_waypoint_of_another_namespace_that_admits_this_one() -> None:
    labels = {**USE, "istio.io/use-waypoint-namespace": "edge"}
    pods = (APP, WAYPOINT, ambient.waypoint("waypoint-9", "edge", ip="10.0.0.6"))

    def through(admits: tuple[str, ...] | None) -> Targets:
        other = PairWaypoint(name="edge/waypoint", admits=admits)
        return of(*pods, services=(web(**labels),), waypoints=(OF_ALL, other))

    assert (
        keys(through(None)) == keys(through(("edge", "shop"))) == ["edge/waypoint-9 10.96.0.9:80"]
    )
    denied = through(("edge",))
    assert denied.targets == ()
    assert denied.missing == "the waypoint edge/waypoint does not admit namespace shop"


def test_a_canary_waypoint_gets_the_request_as_well() -> None:
    canary = PairWaypoint(name="shop/canary", admits=("shop",))
    labels = {"gateway.networking.k8s.io/gateway-name": "canary"}
    of_canary = pod("canary-1", containers=[running("istio-proxy")], labels=labels, ip="10.0.0.7")
    pods = (APP, WAYPOINT, of_canary)
    services = (using(**{"istio.io/use-waypoint-canary": "canary"}),)

    found = of(*pods, services=services, waypoints=(OF_SERVICES, canary))
    assert keys(found) == ["shop/canary-1 10.96.0.9:80", "shop/waypoint-1 10.96.0.9:80"]
    assert of(*pods, services=services).missing.startswith("the waypoint shop/canary, which labels")


@pytest.mark.parametrize(
    ("pods", "found", "waypoints", "missing"),
    [
        ((APP, WAYPOINT), using(), (), "the waypoint shop/waypoint, which labels select, does not"),
        ((APP,), using(), (OF_SERVICES,), "the waypoint shop/waypoint has no running pod"),
        ((WEB, APP), using(), (OF_SERVICES,), "the waypoint shop/waypoint has no running pod"),
        ((APP, WAYPOINT), web("", **USE), (OF_SERVICES,), "Service shop/web has no cluster IP"),
    ],
)
def test_a_waypoint_that_cannot_be_used_is_never_left_out_silently(
    pods: tuple[Pod, ...], found: Service, waypoints: tuple[PairWaypoint, ...], missing: str
) -> None:
    targets = of(*pods, services=(found,), waypoints=waypoints)

    assert targets.missing.startswith(missing)
    assert all(not each.authority for each in targets.targets)


# --- the waypoints of a mesh --------------------------------------------------------------------


def gateway(allowed: RouteNamespaces | None, of_class: str = "istio-waypoint") -> ApiGateway:
    """A waypoint in the namespace edge, whose listener allows these namespaces."""
    routes = None if allowed is None else AllowedRoutes(namespaces=allowed)
    listener = Listener(name="mesh", port=15008, protocol="HBONE", allowed_routes=routes)
    return ApiGateway(
        metadata=Metadata(name="waypoint", namespace="edge"),
        spec=GatewaySpec(gateway_class_name=of_class, listeners=(listener,)),
    )


@pytest.mark.parametrize(
    ("allowed", "admits"),
    [
        (None, ("edge",)),
        (RouteNamespaces(), ("edge",)),
        (RouteNamespaces(from_="All"), None),
        (
            RouteNamespaces(from_="Selector", selector=LabelSelector(match_labels={"team": "a"})),
            ("shop",),
        ),
    ],
)
def test_a_waypoint_admits_what_its_listener_allows(
    allowed: RouteNamespaces | None, admits: tuple[str, ...] | None
) -> None:
    namespaces = (namespace("shop", team="a"), namespace("edge"))

    (found,) = pair_waypoints([gateway(allowed)], [], namespaces)

    assert found == PairWaypoint(name="edge/waypoint", of_class="istio-waypoint", admits=admits)
    assert pair_waypoints([gateway(allowed, "istio")], [], namespaces) == ()


def test_a_class_of_waypoints_says_what_they_are_for() -> None:
    metadata = Metadata(name="for-all", labels={"istio.io/waypoint-for": "all"})
    of_class = GatewayClass(
        metadata=metadata, spec=GatewayClassSpec(controller_name="istio.io/mesh-controller")
    )

    (found,) = pair_waypoints([gateway(None, "for-all")], [of_class], ())

    assert (found.of_class, found.scope) == ("for-all", "all")
