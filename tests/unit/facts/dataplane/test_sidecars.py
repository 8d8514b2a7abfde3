"""Who should have a sidecar, of which version it is, and what keeps it behind."""

from typing import Any

import pytest

from meshgate.snapshot.kubernetes import (
    Annotations,
    Controller,
    ControllerSpec,
    DisruptionBudget,
    DisruptionBudgetSpec,
    LabelSelector,
    Metadata,
    Owner,
    Pod,
    UpdateStrategy,
)
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.builders import (
    deployment,
    expecting,
    istiod,
    mesh,
    pod,
    reading,
    running,
    sidecar,
    sync,
    terminated,
)
from tests.webhook_builders import namespace

LABELS = {"app": "web", "pod-template-hash": "5d4f"}
OF_DEPLOYMENT = Owner(kind="ReplicaSet", name="web-5d4f", controller=True)
OLD = sync(version="1.28.2")


def bare(name: str = "bare", **more: Any) -> Pod:
    return pod(name, containers=[running("app")], **more)


def seen(*pods: Pod, **more: Any) -> dict[str, Any]:
    return {"pods": (istiod(), *pods), **more}


# --- who has one --------------------------------------------------------------------------------


def test_a_pod_without_the_sidecar_that_its_namespace_asks_for() -> None:
    (finding,) = mesh(**seen(sidecar(), bare())).sidecars.missing

    assert finding.subject == "Pod shop/bare"
    assert "has no sidecar" in finding.seen
    assert not finding.transient


@pytest.mark.parametrize(
    "exempt",
    [
        bare(host_network=True),
        bare(deleted=True),
        pod("job", containers=[terminated("app")], phase="Succeeded"),
        bare(annotations=Annotations(inject="false")),
        bare(annotations=Annotations(ambient="enabled")),
        pod("elsewhere", "legacy", containers=[running("app")]),
    ],
    ids=["host network", "leaving", "finished", "opted out", "ambient", "not enrolled"],
)
def test_a_pod_that_should_have_none(exempt: Pod) -> None:
    assert mesh(**seen(sidecar(), exempt)).sidecars.missing == []


def test_who_opted_out_is_told() -> None:
    facts = mesh(**seen(sidecar(), bare(annotations=Annotations(inject="false"))))

    assert [each.subject for each in facts.sidecars.opted_out] == ["Pod shop/bare"]


def test_without_an_injector_nobody_knows() -> None:
    with pytest.raises(CouldNotVerify, match="no injector"):
        _ = mesh(mutating_webhooks=()).sidecars.missing


def test_a_cluster_in_which_nothing_is_meshed() -> None:
    facts = mesh(pods=(istiod(),), namespaces=(namespace("shop"),))

    for name in ("missing", "outdated", "wrong_istiod"):
        with pytest.raises(NotApplicable):
            getattr(facts.sidecars, name)


# --- of which version ---------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_a_sidecar_of_the_old_version(native: bool) -> None:
    web = sidecar(native=native, owner=OF_DEPLOYMENT, labels=LABELS)

    (finding,) = mesh(**seen(web), istiod=(reading(proxies=[OLD]),)).sidecars.outdated

    assert str(finding) == (
        "Pod shop/web-1: its sidecar is 1.28.2: Deployment web was not restarted since; "
        "expected 1.29.1"
    )
    assert finding.remedy == "kubectl -n shop rollout restart deployment web"


def controller(kind: str, **more: Any) -> dict[str, Any]:
    spec = ControllerSpec(update_strategy=UpdateStrategy(type="OnDelete"))
    return {kind: (Controller(metadata=Metadata(name="web", namespace="shop"), spec=spec),), **more}


def of(kind: str) -> Owner:
    return Owner(kind=kind, name="web", controller=True)


def budget(allowed: int = 0, app: str = "web") -> dict[str, Any]:
    spec = DisruptionBudgetSpec(selector=LabelSelector(match_labels={"app": app}))
    made = DisruptionBudget(metadata=Metadata(name="pdb", namespace="shop"), spec=spec)
    return {"disruption_budgets": (made,)}


@pytest.mark.parametrize(
    ("of_the_pod", "beside", "reason"),
    [
        ({"annotations": Annotations(proxy_image="proxyv2:1.28.2")}, {}, "its image is pinned"),
        ({"owner": of("StatefulSet")}, controller("stateful_sets"), "update strategy OnDelete"),
        ({"owner": of("DaemonSet")}, controller("daemon_sets"), "update strategy OnDelete"),
        ({"owner": of("StatefulSet")}, {}, "StatefulSet web was not restarted since"),
        ({"owner": of("Job")}, {}, "Job web began before, and runs"),
        ({}, {}, "nothing makes it anew"),
        ({"owner": OF_DEPLOYMENT}, budget(), "PodDisruptionBudget shop/pdb allows no disruption"),
        ({"owner": OF_DEPLOYMENT}, budget(app="x"), "Deployment web was not restarted since"),
    ],
)
def test_the_reason_is_told(
    of_the_pod: dict[str, Any], beside: dict[str, Any], reason: str
) -> None:
    web = sidecar(**{"labels": LABELS, **of_the_pod})

    (finding,) = mesh(**seen(web, istiod=(reading(proxies=[OLD]),), **beside)).sidecars.outdated

    assert reason in finding.seen
    assert not finding.transient


def test_a_rollout_that_is_under_way_heals() -> None:
    web = sidecar(owner=OF_DEPLOYMENT, labels=LABELS)
    rolling = deployment(2, updated=1, name="web", namespace="shop")

    facts = mesh(**seen(web, istiod=(reading(proxies=[OLD]),), deployments=(deployment(), rolling)))

    (finding,) = facts.sidecars.outdated
    assert finding.transient
    assert "is not rolled out yet" in finding.seen


def test_the_target_counts_more_than_what_istiod_is() -> None:
    (finding,) = mesh(**expecting(target_version="1.30.0")).sidecars.outdated

    assert finding.expected == "1.30.0"


def test_a_version_that_nobody_says() -> None:
    with pytest.raises(CouldNotVerify, match="which version the sidecar"):
        _ = mesh(istiod=(reading(),)).sidecars.outdated


# --- whom it follows ----------------------------------------------------------------------------


def test_a_sidecar_that_follows_nobody() -> None:
    (finding,) = mesh(istiod=(reading(),)).sidecars.wrong_istiod

    assert finding.subject == "Pod shop/web-1"
    assert "not connected to istiod" in finding.seen


def test_a_sidecar_that_follows_the_old_istiod() -> None:
    old = reading("istiod-0", [sync()], version="1.28.2-abc-Clean")
    replicas = (istiod(), istiod("istiod-0"), sidecar())
    asked = expecting(target_version="1.29.1")

    (finding,) = mesh(pods=replicas, istiod=(reading(), old), **asked).sidecars.wrong_istiod

    assert "follows istiod-0, which is 1.28.2" in finding.seen
    moving = mesh(pods=replicas, istiod=(reading(proxies=[sync()]), old), **asked)
    assert moving.sidecars.wrong_istiod == []
