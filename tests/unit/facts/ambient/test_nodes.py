"""Nodes with pods in ambient mode: agents, captured pods, and what ztunnels serve."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.node_agents import CNI, ZTUNNEL
from meshgate.snapshot.ambient import ZtunnelReading
from meshgate.snapshot.hbone import Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.kubernetes import Annotations, Condition, Pod
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ambient_builders as build
from tests.support.builders import after, istiod, mesh, waiting

STUCK = build.app(
    "new-1",
    phase="Pending",
    ip="",
    ready=False,
    annotations=Annotations(),
    containers=[waiting("app", "ContainerCreating")],
    conditions=[Condition(type="PodReadyToStartContainers", status="False")],
)
FAILED = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for "
    'sandbox "5f1": plugin type="istio-cni" name="istio-cni" failed (add): no ztunnel connection'
)
EVENT = build.sandbox_event("new-1", FAILED)


def nodes(**changes: Any) -> Any:
    return build.ambient_mesh(**changes).ambient_nodes


def lines(found: Any) -> list[str]:
    return [str(each) for each in found]


def without(*names: str) -> tuple[Pod, ...]:
    return tuple(each for each in build.PODS if not each.metadata.name.startswith(names))


def test_a_healthy_mesh() -> None:
    found = nodes()

    assert found.missing(CNI) == found.missing(ZTUNNEL) == found.unserved == found.differing == []
    assert found.count == 1


def test_no_pod_is_in_ambient_mode() -> None:
    for facts in (mesh().ambient_nodes, nodes(pods=(istiod(),))):
        assert facts.missing(CNI) == []
        with pytest.raises(NotApplicable, match="no pod is in ambient mode"):
            _ = facts.unserved


# --- agents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [(CNI, "istio-cni-node"), (ZTUNNEL, "ztunnel")])
def test_a_node_without_an_agent(kind: str, name: str) -> None:
    daemon_sets = tuple(
        each for each in build.DAEMON_SETS if not each.metadata.name.startswith(name)
    )

    (gone,) = nodes(pods=without(name), daemon_sets=daemon_sets).missing(kind)
    (rolling,) = nodes(pods=without(name)).missing(kind)

    assert str(gone).startswith(f"Node node-1: has 1 pod in ambient mode and no Ready {name}")
    assert not gone.transient
    assert gone.remedy == f"Install the DaemonSet {name}."
    assert rolling.transient


def test_an_agent_on_another_node_or_that_is_not_ready() -> None:
    elsewhere = (*without("ztunnel"), build.agent("ztunnel-2", node="node-2"))
    starting = (*without("ztunnel"), build.agent("ztunnel-1", ready=False))
    failing = [waiting("istio-proxy", "ErrImagePull")]
    broken = build.agent("ztunnel-1", ready=False, containers=failing)

    assert nodes(pods=elsewhere).missing(ZTUNNEL)
    (finding,) = nodes(pods=starting).missing(ZTUNNEL)
    assert "Pod istio-system/ztunnel-1" in finding.seen
    assert finding.transient
    (permanent,) = nodes(pods=(*without("ztunnel"), broken)).missing(ZTUNNEL)
    assert not permanent.transient


def test_a_recording_without_nodes() -> None:
    old = build.app(node="")

    with pytest.raises(CouldNotVerify, match="does not contain the node of Pod shop/web-1"):
        nodes(pods=(*build.PODS[:-1], old)).missing(CNI)


# --- pods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("redirection", [None, "pending"])
def test_a_pod_that_bypasses_ztunnel(redirection: str | None) -> None:
    bare = build.app(annotations=Annotations(ambient=redirection))

    (finding,) = nodes(pods=(*build.PODS, bare)).unserved

    assert str(finding).startswith("Pod shop/web-1: is in ambient mode by its labels, but the CNI")
    assert (f"redirection: {redirection}" in finding.seen) == bool(redirection)


def test_a_pod_whose_network_cannot_be_set_up() -> None:
    older = msgspec.structs.replace(
        build.sandbox_event("new-1", "older"), last_timestamp=after(-60)
    )
    newest = msgspec.structs.replace(EVENT, last_timestamp=after(-1))

    (finding,) = nodes(pods=(*build.PODS, STUCK), sandbox_events=(newest, older)).unserved

    words = 'Pod shop/new-1: cannot start on node node-1: plugin type="istio-cni" name="istio-cni"'
    assert str(finding).startswith(words)
    assert finding.transient


@pytest.mark.parametrize(
    "pods",
    [
        (*build.PODS, msgspec.structs.replace(STUCK, spec=build.on("", STUCK).spec)),
        (*build.PODS, build.app("new-1")),
        (*build.PODS, build.app("new-1", phase="Pending")),
    ],
    ids=["not scheduled", "started since", "has a network"],
)
def test_an_event_of_a_pod_that_is_not_stuck(pods: tuple[Pod, ...]) -> None:
    assert nodes(pods=pods, sandbox_events=(EVENT,)).unserved == []


def test_a_pod_that_is_pending_for_another_reason() -> None:
    assert nodes(pods=(*build.PODS, STUCK)).unserved == []


# --- what ztunnels serve ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"active": 0}, "serves 0 of 1 captured pod on node node-1"),
        ({"active": 1, "pending": 2}, "2 waiting"),
    ],
)
def test_a_ztunnel_that_does_not_serve_every_pod(reading: dict[str, Any], words: str) -> None:
    seen = ZtunnelReading(pod="istio-system/ztunnel-1", **reading)

    (finding,) = lines(nodes(ztunnels=(seen,)).differing)

    assert finding.startswith("Pod istio-system/ztunnel-1: ")
    assert words in finding


CLOSED = Tunnel(end="unreachable", error="[Errno 111] Connection refused")
TIMED_OUT = Tunnel(end="unreachable", error="timed out")
REFUSING = Tunnel(end="refused", error="tlsv13 alert certificate required")


def connected(anonymous: Tunnel, pod: str = "shop/web-1") -> TunnelProbes:
    probe = TunnelProbe(pod=pod, authority="10.0.0.9:8080", port=8080, anonymous=anonymous)
    return TunnelProbes(probes=(probe,))


def test_a_pod_that_another_one_hides_in_the_number() -> None:
    (finding,) = lines(nodes(ambient_probes=connected(CLOSED)).differing)

    words = "Pod shop/web-1: no ztunnel on node node-1 serves it: port 15008 is closed"
    assert finding.startswith(words)


@pytest.mark.parametrize(
    "probes",
    [
        connected(REFUSING),
        connected(TIMED_OUT),
        connected(CLOSED, "shop/gone"),
        TunnelProbes(skipped_reason="a port-forward ends inside the pod"),
    ],
    ids=["served", "a firewall", "another pod", "outside the cluster"],
)
def test_connections_that_show_no_problem(probes: TunnelProbes) -> None:
    assert nodes(ambient_probes=probes).differing == []


def test_pods_that_are_leaving_may_still_be_served() -> None:
    seen = ZtunnelReading(pod="istio-system/ztunnel-1", active=5)

    assert nodes(ztunnels=(seen,)).differing == []


@pytest.mark.parametrize(
    "readings",
    [
        (),
        (ZtunnelReading(pod="istio-system/ztunnel-1", error="timed out"),),
        (ZtunnelReading(pod="istio-system/ztunnel-1"),),
    ],
    ids=["not read", "silent", "without the metric"],
)
def test_a_ztunnel_that_does_not_report(readings: tuple[ZtunnelReading, ...]) -> None:
    with pytest.raises(CouldNotVerify, match="Pod istio-system/ztunnel-1 did not report"):
        _ = nodes(ztunnels=readings).differing
