"""Waypoints: what is deployed, and what passes through them."""

from typing import Any

import msgspec
import pytest

from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass, GatewayClassSpec
from meshgate.snapshot.hbone import Tunnel, TunnelProbes
from meshgate.snapshot.istio import AuthorizationPolicy, AuthorizationPolicySpec, TargetRef
from meshgate.snapshot.kubernetes import Annotations, Metadata, ServicePort, ServiceSpec
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import expecting, istiod, mesh, reading, sync
from tests.support.mtls_builders import US, labeled, leaf
from tests.support.tunnel_builders import (
    OPEN,
    REFUSED,
    behind,
    waypoint_gateway,
    waypoint_mesh,
    waypoint_pod,
    waypoint_probe,
)
from tests.unit.facts.dataplane.test_authorization import CLIENT

RBAC = Tunnel(end="open", connect=200, status=403, denied=True, reason="RBAC")


def policy(kind: str = "Service", name: str = "catalog") -> AuthorizationPolicy:
    """A policy that allows only a client that the verifier is not."""
    return AuthorizationPolicy(
        metadata=Metadata(name="catalog", namespace="library"),
        spec=AuthorizationPolicySpec(
            target_refs=(TargetRef(kind=kind, name=name),), rules=(CLIENT,)
        ),
    )


def test_a_healthy_waypoint() -> None:
    facts = waypoint_mesh().waypoints

    assert facts.broken == []
    assert facts.unproven == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "anonymous": Tunnel(end="unreachable", error="Connection refused"),
                "mesh": None,
                "chain": (),
            },
            "does not serve HBONE",
        ),
        ({"chain": (leaf("spiffe://cluster.local/ns/x/sa/y"),)}, "serves HBONE as spiffe://"),
        ({"foreign": OPEN}, "accepts a client certificate of an unknown CA"),
        ({"mesh": REFUSED}, "refuses a certificate that istiod signed"),
        (
            {"mesh": Tunnel(end="declined", connect=404)},
            "answers CONNECT for Service library/catalog with 404",
        ),
        (
            {"mesh": Tunnel(end="open", connect=200, status=503, reason="UH")},
            "answers 503 (UH) by itself to a request to Service library/catalog",
        ),
        (
            {"mesh": Tunnel(end="open", connect=200, error="the connection was closed")},
            "does not pass a request to Service library/catalog: the connection was closed",
        ),
        ({"mesh": RBAC}, "denies a request to Service library/catalog (RBAC), although"),
    ],
)
def test_a_broken_waypoint(changes: dict[str, Any], words: str) -> None:
    (finding,) = waypoint_mesh(waypoint_probe(**changes)).waypoints.broken

    assert finding.subject == "Gateway library/waypoint"
    assert words in finding.seen


@pytest.mark.parametrize(("kind", "name"), [("Service", "catalog"), ("Gateway", "waypoint")])
def test_a_policy_of_the_waypoint_is_enforced(kind: str, name: str) -> None:
    policies = {"authorization_policies": (policy(kind, name),)}
    denied = waypoint_mesh(waypoint_probe(mesh=RBAC), **policies).waypoints

    assert denied.broken == []
    assert [each.problem for each in denied.unproven] == ["nothing-passed"]
    (finding,) = waypoint_mesh(**policies).waypoints.broken
    assert f"answers 200 to a request of {US}" in finding.seen


def test_a_policy_of_another_service_is_not_meant() -> None:
    assert waypoint_mesh(authorization_policies=(policy(name="other"),)).waypoints.broken == []


@pytest.mark.parametrize(("revision", "denied"), [("1-29", False), ("1-30", True)])
def test_a_policy_of_another_revision_is_not_enforced(revision: str, denied: bool) -> None:
    own = labeled(policy(), "1-30")
    pod = waypoint_pod(annotations=Annotations(revision=revision))
    facts = waypoint_mesh(pods=(istiod(), pod), authorization_policies=(own,)).waypoints

    assert bool(facts.broken) is denied


@pytest.mark.parametrize(
    "probes",
    [
        TunnelProbes(identity=US),
        TunnelProbes(skipped_reason="no wire"),
        TunnelProbes(unsigned="another CA"),
        TunnelProbes(identity=US, probes=(waypoint_probe(authority="10.96.0.1:80"),)),
        TunnelProbes(identity=US, probes=(waypoint_probe(mesh=Tunnel(end="silent", error="x")),)),
    ],
)
def test_what_was_not_seen_is_unknown(probes: TunnelProbes) -> None:
    with pytest.raises(CouldNotVerify):
        _ = waypoint_mesh(waypoint_probes=probes).waypoints.broken


def test_a_waypoint_of_workloads_passes_no_request_to_services() -> None:
    gateway = waypoint_gateway(**{"istio.io/waypoint-for": "workload"})
    probe = waypoint_probe(
        service="", authority="10.0.0.8:15008", port=15008, mesh=Tunnel(end="open", connect=200)
    )
    facts = waypoint_mesh(probe, api_gateways=(gateway,)).waypoints

    assert facts.broken == []
    assert [each.problem for each in facts.unproven] == ["nothing-passed"]


def test_a_waypoint_through_which_no_request_can_be_sent_is_unknown() -> None:
    tcp = msgspec.structs.replace(
        behind(), spec=ServiceSpec(ports=(ServicePort(port=80, name="tcp"),), cluster_ips=("10.9",))
    )
    own = behind("waypoint", **{"gateway.istio.io/managed": "istio.io-mesh-controller"})
    probe = waypoint_probe(
        service="", authority="10.0.0.8:15008", port=15008, mesh=Tunnel(end="open", connect=200)
    )

    with pytest.raises(CouldNotVerify, match="nothing behind it is known to be HTTP") as raised:
        _ = waypoint_mesh(probe, services=(tcp,)).waypoints.broken
    assert "--accept-unverified=ambient" in raised.value.remedy
    accepted = expecting(accepted_unverified=("ambient",))
    assert waypoint_mesh(probe, services=(tcp,), **accepted).waypoints.broken == []
    assert waypoint_mesh(probe, services=(own,)).waypoints.broken == []


def test_the_class_of_a_waypoint_says_what_it_is_for() -> None:
    of_class = GatewayClass(
        metadata=Metadata(
            name="istio-waypoint", namespace="", labels={"istio.io/waypoint-for": "workload"}
        ),
        spec=GatewayClassSpec(controller_name="istio.io/mesh-controller"),
    )
    (by_class,) = waypoint_mesh(gateway_classes=(of_class,)).waypoints.all
    gateways = (waypoint_gateway(**{"istio.io/waypoint-for": "all"}),)
    (own,) = waypoint_mesh(gateway_classes=(of_class,), api_gateways=gateways).waypoints.all

    assert (by_class.scope, by_class.services) == ("workload", ())
    assert (own.scope, len(own.services)) == ("all", 1)


def test_a_service_may_opt_out() -> None:
    service = behind(**{"istio.io/use-waypoint": "none"})
    (waypoint,) = waypoint_mesh(services=(service,)).waypoints.all

    assert waypoint.services == ()


# --- rollout ------------------------------------------------------------------------------------


def test_a_rolled_out_waypoint() -> None:
    proxies = [sync("waypoint-1.library", version="1.29.1")]
    facts = waypoint_mesh(istiod=(reading(proxies=proxies),), **expecting(target_version="1.29.1"))

    assert facts.waypoints.unfinished == []


def test_an_old_waypoint() -> None:
    proxies = [sync("waypoint-1.library", version="1.28.2")]
    facts = waypoint_mesh(istiod=(reading(proxies=proxies),), **expecting(target_version="1.29.1"))

    (finding,) = facts.waypoints.unfinished
    assert (finding.subject, finding.seen) == ("Pod library/waypoint-1", "its proxy is 1.28.2")


def test_a_waypoint_that_is_not_ready() -> None:
    proxies = [sync("waypoint-1.library", version="1.29.1")]
    facts = waypoint_mesh(pods=(waypoint_pod(ready=False),), istiod=(reading(proxies=proxies),))

    assert [each.problem for each in facts.waypoints.unfinished] == ["not-ready"]


def test_a_waypoint_that_was_never_deployed() -> None:
    facts = waypoint_mesh(pods=())

    (finding,) = facts.waypoints.unfinished
    assert finding.subject == "Gateway library/waypoint"
    assert "has not deployed this waypoint" in finding.seen


@pytest.mark.parametrize("gateways", [(), (ApiGateway(metadata=Metadata(name="a")),)])
def test_without_waypoints_there_is_nothing_to_check(gateways: tuple[ApiGateway, ...]) -> None:
    facts = mesh(api_gateways=gateways, waypoint_probes=None).waypoints

    for read in ("unfinished", "broken"):
        with pytest.raises(NotApplicable):
            getattr(facts, read)
