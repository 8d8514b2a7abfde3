"""Pods of a mesh with sidecars that Istio's CNI plugin keeps from starting (CP016, DP010)."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.items import ITEMS
from meshgate.snapshot.kubernetes import (
    Condition,
    ContainerState,
    ContainerStatus,
    Event,
    Pod,
    Terminated,
    Waiting,
)
from meshgate.snapshot.model import Gap
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.ambient_builders import SHOP, daemon_set, sandbox_event
from tests.support.builders import (
    after,
    deployment,
    istiod,
    mesh,
    sidecar,
    terminated,
    waiting,
)

ISTIO_FAILED = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for "
    'sandbox "5f1": plugin type="istio-cni" name="istio-cni" failed (add): Unauthorized'
)
NOT_FOUND = 'Failed to create pod sandbox: failed to find plugin "istio-cni" in path [/opt/cni/bin]'
OTHER_FAILED = ISTIO_FAILED.replace("istio-cni", "calico")
CNI = daemon_set("istio-cni-node")


def starting(*init: ContainerStatus, node: str = "node-1", age: float = 600, **status: Any) -> Pod:
    """A pod with a sidecar whose containers wait, on a node, that was created `age` seconds ago."""
    made = sidecar("web-x", proxy=waiting("istio-proxy", "PodInitializing"), ready=False)
    return msgspec.structs.replace(
        made,
        metadata=msgspec.structs.replace(made.metadata, creation_timestamp=after(-age)),
        spec=msgspec.structs.replace(made.spec, node_name=node),
        status=msgspec.structs.replace(
            made.status, **{"phase": "Pending", "init_container_statuses": init, **status}
        ),
    )


def seen(message: str, age: float = 10) -> Event:
    """An event about that pod, `age` seconds ago."""
    return msgspec.structs.replace(sandbox_event("web-x", message), last_timestamp=after(-age))


def validation(code: int = 126, **state: Any) -> ContainerStatus:
    """The validation container, which ended with this code and has another state now."""
    ended = ContainerState(terminated=Terminated(reason="Error", exit_code=code))
    return ContainerStatus(name="istio-validation", state=ContainerState(**state), last_state=ended)


def observed(pod: Pod, *events: Event, **changes: Any) -> Mesh:
    found = {"daemon_sets": (CNI,), "pods": (istiod(), sidecar(), pod), "sandbox_events": events}
    web = deployment(name="web", namespace="shop", available=1)
    return mesh(**{**found, "deployments": (deployment(), web), **changes})


def reported(facts: Mesh) -> tuple[list[Finding], list[Finding]]:
    """What CP016 and DP010 fail with."""
    return facts.node_agents.broken, facts.workload_pods.missing


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (ISTIO_FAILED, 'plugin type="istio-cni" name="istio-cni" failed (add): Unauthorized'),
        (NOT_FOUND, NOT_FOUND),
    ],
    ids=["the plugin failed", "the plugin does not exist"],
)
def test_a_pod_whose_network_the_plugin_does_not_set_up(message: str, words: str) -> None:
    for found in reported(observed(starting(), seen(message), seen(OTHER_FAILED, age=60))):
        (finding,) = found
        assert finding.subject == "Pod shop/web-x"
        assert finding.seen == f"cannot start on node node-1: {words}"
        assert finding.transient


@pytest.mark.parametrize(
    "init",
    [
        validation(waiting=Waiting(reason="CrashLoopBackOff")),
        validation(running={}),
        terminated("istio-validation", 126),
    ],
    ids=["waits for its next start", "runs again", "has ended"],
)
def test_a_pod_whose_traffic_the_plugin_does_not_redirect(init: ContainerStatus) -> None:
    for found in reported(observed(starting(init, pod_ip="10.0.0.7"))):
        (finding,) = found
        assert finding.subject == "Pod shop/web-x"
        assert "istio-validation ends with exit code 126" in finding.seen
        assert finding.transient


@pytest.mark.parametrize(
    ("pod", "events"),
    [
        (starting(node=""), ()),
        (starting(age=1), ()),
        (starting(waiting("istio-validation", "PodInitializing"), age=1), ()),
        (starting(age=5), (seen(ISTIO_FAILED, age=60),)),
        (starting(), (seen(OTHER_FAILED), seen(ISTIO_FAILED, age=60))),
        (starting(pod_ip="10.0.0.7"), (seen(ISTIO_FAILED),)),
        (
            starting(conditions=(Condition(type="PodReadyToStartContainers", status="True"),)),
            (seen(ISTIO_FAILED),),
        ),
        (starting(validation(terminated=Terminated()), pod_ip="10.0.0.7"), ()),
        (starting(terminated("istio-validation", 126), phase="Running"), (seen(ISTIO_FAILED),)),
        (starting(terminated("istio-validation", 126), phase="Failed"), (seen(ISTIO_FAILED),)),
    ],
    ids=[
        "is not scheduled",
        "was created a moment ago, or waits for a volume",
        "has not been validated yet",
        "has the name of an earlier pod",
        "waits for another plugin now",
        "has an address and waits for an image",
        "has a network and waits for an image",
        "was redirected in the second attempt",
        "has started",
        "has ended",
    ],
)
def test_a_pod_that_does_not_wait_for_the_plugin(pod: Pod, events: tuple[Event, ...]) -> None:
    assert reported(observed(pod, *events)) == ([], [])


def test_a_pod_in_ambient_mode_is_reported_by_the_checks_of_ambient_mode() -> None:
    pod = sidecar("web-x", proxy=waiting("app", "ContainerCreating"), phase="Pending")
    ambient = msgspec.structs.replace(
        starting(),
        metadata=pod.metadata,
        spec=msgspec.structs.replace(pod.spec, init_containers=(), node_name="node-1"),
    )

    assert observed(ambient, seen(ISTIO_FAILED), namespaces=(SHOP,)).node_agents.broken == []


def test_a_pod_outside_the_mesh_stops_on_the_plugin_too() -> None:
    pod = starting()
    plain = msgspec.structs.replace(
        pod, spec=msgspec.structs.replace(pod.spec, containers=pod.spec.containers[:1])
    )

    agents, workloads = reported(observed(plain, seen(ISTIO_FAILED)))

    assert [each.subject for each in agents] == ["Pod shop/web-x"]
    assert workloads == []


def test_the_daemon_set_was_deleted_but_the_nodes_still_use_the_plugin() -> None:
    (found,) = observed(starting(), seen(NOT_FOUND), daemon_sets=()).node_agents.broken

    assert found.subject == "Pod shop/web-x"
    with pytest.raises(NotApplicable):
        _ = observed(starting(), daemon_sets=()).node_agents.broken


def test_events_that_could_not_be_read_prove_nothing() -> None:
    read = tuple(sorted(ITEMS - {"sandbox_events"}))
    gap = Gap(item="sandbox_events", why="no right to list events")

    facts = observed(starting(), read=read, gaps=(gap,))

    with pytest.raises(CouldNotVerify, match="no right to list events"):
        _ = facts.node_agents.broken
    with pytest.raises(CouldNotVerify, match="no right to list events"):
        _ = facts.workload_pods.missing


def test_a_recording_of_an_earlier_release_has_no_such_events() -> None:
    read = tuple(sorted(ITEMS - {"sandbox_events"}))

    assert reported(observed(starting(), read=read)) == ([], [])
