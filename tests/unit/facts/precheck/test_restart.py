"""The restart, beforehand: who would lose the sidecar, and who would not be reached."""

from typing import Any

import msgspec
import pytest

from meshgate.snapshot.kubernetes import Condition, Owner, Pod
from meshgate.verdict import NotApplicable
from tests.support.builders import deployment, istiod, mesh, pod, running, sidecar
from tests.support.upgrade_builders import budget, workload
from tests.support.webhook_builders import namespace


def web(**of_the_pod: Any) -> Pod:
    return sidecar("web-1", **{"labels": {"app": "web"}, **of_the_pod})


def test_a_pod_that_is_injected_again_is_no_finding() -> None:
    found = mesh(pods=(istiod(), web()), workloads=(workload(),)).restart

    assert (found.lost, found.unreached, found.guarded) == ([], [], [])


def test_a_namespace_that_lost_its_label() -> None:
    (found,) = mesh(pods=(istiod(), web()), namespaces=(namespace(),)).restart.lost

    assert found.subject == "Pod shop/web-1"
    assert "no webhook would inject one again" in found.seen


@pytest.mark.parametrize(
    "labels", [{"gateway.istio.io/managed": "x", "app": "web"}, {"app": "ztunnel"}]
)
def test_what_istiod_or_a_chart_deploys_is_not_the_restarts(labels: dict[str, str]) -> None:
    found = mesh(pods=(istiod(), web(labels=labels)), namespaces=(namespace(),)).restart

    with pytest.raises(NotApplicable, match="that a restart would replace"):
        found.lost  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"paused": True}, "its rollout is paused"),
        ({"kind": "DaemonSet", "strategy": "OnDelete"}, "its update strategy is OnDelete"),
        ({"kind": "StatefulSet", "partition": 2, "replicas": 3}, "its partition is 2: a restart"),
        ({"proxied": True}, "its pod template contains the proxy"),
    ],
)
def test_a_workload_that_is_not_reached(changes: dict[str, Any], words: str) -> None:
    seen = mesh(
        pods=(istiod(), web()),
        workloads=(workload(**changes), workload("other", **changes)),
        namespaces=(namespace(),) if "proxied" in changes else (namespace(injection="enabled"),),
    )

    (found,) = seen.restart.unreached
    assert found.subject == f"{changes.get('kind', 'Deployment')} shop/web"
    assert found.seen.startswith(words)
    assert seen.restart.lost == []


@pytest.mark.parametrize(
    ("owners", "problems"),
    [
        ((), ["bare-pod"]),
        ((Owner(kind="Rollout", name="web", controller=True),), ["other-controller"]),
        ((Owner(kind="Job", name="web", controller=True),), []),
        ((Owner(kind="StatefulSet", name="web", controller=True),), []),
    ],
)
def test_pods_that_no_restart_reaches(owners: tuple[Owner, ...], problems: list[str]) -> None:
    alone = web()
    metadata = msgspec.structs.replace(alone.metadata, owner_references=owners)
    seen = mesh(pods=(istiod(), msgspec.structs.replace(alone, metadata=metadata)), workloads=())

    assert [each.problem for each in seen.restart.unreached] == problems


REFUSED = Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="quota")


def rollout(*more: Condition, name: str = "web", **status: Any) -> dict[str, Any]:
    """The mesh with a Deployment of shop, and a pod of the same labels that has a sidecar."""
    found = deployment(2, name=name, namespace="shop", **status)
    conditions = (*found.status.conditions, *more)
    found = msgspec.structs.replace(
        found, status=msgspec.structs.replace(found.status, conditions=conditions)
    )
    return {
        "pods": (istiod(), web()),
        "workloads": (workload(),),
        "deployments": (deployment(), found),
    }


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            rollout(gave_up=True, updated=1),
            "its rollout is stuck: 1 of 2 pods updated, 2 available",
        ),
        # the new pod of a single replica
        (rollout(gave_up=True, available=1), "its rollout is stuck: 2 of 2 pods updated, 1"),
        (rollout(REFUSED, updated=0), "its new pods cannot be created: quota"),
    ],
)
def test_a_rollout_that_is_stuck_before_the_upgrade(seen: dict[str, Any], words: str) -> None:
    restart = mesh(**seen).restart

    (found,) = restart.stuck
    assert (found.subject, found.problem) == ("Deployment shop/web", "rollout-stuck")
    assert found.seen.startswith(words)
    assert restart.lost == []


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(rollout(updated=1), id="in progress"),
        pytest.param(rollout(available=0), id="not available now"),
        pytest.param(rollout(gave_up=True, generation=2), id="changed since"),
        pytest.param(rollout(gave_up=True, name="other"), id="without a sidecar"),
        pytest.param(
            {**rollout(), "deployments": (deployment(0, name="web", namespace="shop"),)},
            id="no replicas",
        ),
        pytest.param(
            rollout(msgspec.structs.replace(REFUSED, status="False")), id="created in the end"
        ),
    ],
)
def test_a_rollout_that_is_not_stuck(seen: dict[str, Any]) -> None:
    assert mesh(**seen).restart.stuck == []


@pytest.mark.parametrize(("allowed", "app", "told"), [(0, "web", 1), (1, "web", 0), (0, "db", 0)])
def test_a_budget_that_allows_nothing(allowed: int, app: str, told: int) -> None:
    seen = mesh(pods=(istiod(), web()), disruption_budgets=(budget(app, allowed=allowed),))

    assert len(seen.restart.guarded) == told


def test_without_proxies_there_is_nothing_to_say() -> None:
    with pytest.raises(NotApplicable):
        mesh(pods=(istiod(), pod("db", containers=[running("db")]))).restart.lost  # noqa: B018
