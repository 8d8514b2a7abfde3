"""The CNI plugin and ztunnel: rolled out everywhere, and close enough to istiod."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.kubernetes import (
    Condition,
    Container,
    Controller,
    ControllerSpec,
    ControllerStatus,
    Metadata,
    Owner,
    PodSpec,
    PodTemplate,
    UpdateStrategy,
)
from meshgate.snapshot.upgrade import Node, NodeStatus
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import istiod, mesh, pod, reading, running, sidecar, sync, waiting

CNI_LABELS = {"k8s-app": "istio-cni-node"}


def daemon_set(
    *,
    tag: str = "1.29.1",
    nodes: int = 2,
    updated: int = 2,
    available: int = 2,
    labels: dict[str, str] | None = None,
    status: bool = True,
    **metadata: Any,
) -> Controller:
    """istio-cni-node on two nodes."""
    strategy = metadata.pop("strategy", "RollingUpdate")
    container = Container(name="install-cni", image=f"x/install-cni:{tag}")
    return Controller(
        metadata=Metadata(
            name="istio-cni-node",
            namespace="istio-system",
            labels=CNI_LABELS if labels is None else labels,
            **metadata,
        ),
        spec=ControllerSpec(
            update_strategy=UpdateStrategy(type=strategy),
            template=PodTemplate(spec=PodSpec(containers=(container,))),
        ),
        status=ControllerStatus(
            observed_generation=1,
            desired_number_scheduled=nodes,
            updated_number_scheduled=updated,
            number_available=available,
        )
        if status
        else None,
    )


def facts(*daemon_sets: Controller, **changes: Any) -> Mesh:
    return mesh(daemon_sets=daemon_sets, **changes)


def test_one_that_is_rolled_out_and_of_istiods_version_is_no_finding() -> None:
    agents = facts(daemon_set()).node_agents

    assert (agents.broken, agents.behind) == ([], [])


def test_a_mesh_without_either_has_nothing_to_check() -> None:
    other = daemon_set(labels={"app": "node-exporter"})

    with pytest.raises(NotApplicable, match="no istio-cni or ztunnel"):
        _ = facts(other).node_agents.broken


@pytest.mark.parametrize(
    ("changes", "transient"),
    [
        ({"updated": 1}, True),
        ({"available": 0}, True),
        ({"generation": 2}, True),
        ({"updated": 1, "strategy": "OnDelete"}, False),
    ],
)
def test_one_that_is_not_rolled_out(changes: Any, transient: bool) -> None:
    (found,) = facts(daemon_set(**changes)).node_agents.broken

    assert found.subject == "DaemonSet istio-system/istio-cni-node"
    assert found.seen.startswith("is not rolled out")
    assert found.transient is transient


def on_lost_node(of_daemon_set: str = "istio-cni-node", lost: int = 1) -> dict[str, Any]:
    """Three nodes of which some are lost, and a pod of a DaemonSet on the first of them."""
    nodes = tuple(ready_node(f"node-{n}", "Unknown" if n < lost else "True") for n in range(3))
    owner = Owner(kind="DaemonSet", name=of_daemon_set, controller=True)
    agent = pod("agent-x", "istio-system", containers=[running("install-cni")], owner=owner)
    spec = msgspec.structs.replace(agent.spec, node_name="node-0")
    return {
        "nodes": nodes,
        "pods": (istiod(), sidecar(), msgspec.structs.replace(agent, spec=spec)),
    }


def ready_node(name: str, status: str) -> Node:
    conditions = (Condition(type="Ready", status=status),)
    return Node(metadata=Metadata(name=name), status=NodeStatus(conditions=conditions))


def test_a_pod_on_a_lost_node_is_not_waited_for() -> None:
    two_of_three = daemon_set(nodes=3, updated=2, available=2)

    assert facts(two_of_three, **on_lost_node()).node_agents.broken == []


@pytest.mark.parametrize(
    "changes",
    [
        on_lost_node(lost=0),  # the pod fails on a node that works
        on_lost_node(lost=2),  # an outage
        on_lost_node("node-exporter"),
    ],
)
def test_a_lost_node_explains_only_its_own_pods(changes: dict[str, Any]) -> None:
    two_of_three = daemon_set(nodes=3, updated=2, available=2)

    (found,) = facts(two_of_three, **changes).node_agents.broken

    assert found.seen.startswith("is not rolled out: 2 of 3 pods updated, 2 available")


def test_an_image_that_cannot_be_pulled_is_permanent() -> None:
    stuck = pod(
        "istio-cni-node-x",
        "istio-system",
        containers=[waiting("install-cni", "ImagePullBackOff")],
        phase="Pending",
        ready=False,
        owner=Owner(kind="DaemonSet", name="istio-cni-node", controller=True),
    )

    (found,) = facts(daemon_set(available=1), pods=(istiod(), sidecar(), stuck)).node_agents.broken

    assert "ImagePullBackOff" in found.seen
    assert not found.transient


@pytest.mark.parametrize(
    ("tag", "broken", "behind"),
    [("1.27.0", 1, 0), ("1.28.2", 0, 1), ("1.29.0", 0, 1), ("1.30.0", 0, 1), ("1.31.0", 1, 0)],
)
def test_one_minor_version_away_is_supported(tag: str, broken: int, behind: int) -> None:
    agents = facts(daemon_set(tag=tag)).node_agents

    assert (len(agents.broken), len(agents.behind)) == (broken, behind)


def test_the_label_says_the_version_where_the_tag_does_not() -> None:
    old = {**CNI_LABELS, "app.kubernetes.io/version": "1.27.0"}

    (found,) = facts(daemon_set(tag="latest", labels=old)).node_agents.broken
    assert "is of version 1.27.0, but istiod is 1.29.1" in found.seen
    with pytest.raises(CouldNotVerify, match="cannot determine the version"):
        _ = facts(daemon_set(tag="latest")).node_agents.broken


def test_one_that_runs_nowhere_is_not_compared() -> None:
    agents = facts(daemon_set(tag="1.20.0", nodes=0, updated=0, available=0)).node_agents

    assert agents.broken == []


def test_a_snapshot_without_its_status_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="no status"):
        _ = facts(daemon_set(status=False)).node_agents.broken


def test_a_ztunnel_that_was_forgotten_is_judged_by_what_it_reports() -> None:
    ztunnel = pod(
        "ztunnel-x", "istio-system", containers=[running("istio-proxy")], labels={"app": "ztunnel"}
    )
    known = (reading(proxies=[sync(), sync("ztunnel-x.istio-system", version="1.26.0")]),)

    (found,) = facts(pods=(istiod(), sidecar(), ztunnel), istiod=known).node_agents.broken

    assert found.subject == "Pod istio-system/ztunnel-x"
    assert found.seen == "is of version 1.26.0, but istiod is 1.29.1"


@pytest.mark.parametrize("version", ["", "unknown"])
def test_without_istiods_version_nothing_is_compared(version: str) -> None:
    with pytest.raises(CouldNotVerify, match="no replica of istiod reports its version"):
        _ = facts(daemon_set(), istiod=(reading(version=version),)).node_agents.broken
