"""Who should have a sidecar, of which version it is, and what keeps it behind."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import (
    Annotations,
    Container,
    Controller,
    ControllerSpec,
    LabelSelector,
    Metadata,
    Owner,
    Pod,
    Requirement,
    RollingUpdate,
    UpdateStrategy,
)
from meshgate.snapshot.upgrade import DisruptionBudget, DisruptionBudgetSpec
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import (
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
from tests.support.webhook_builders import injector, namespace

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


def test_the_label_of_a_pod_comes_before_its_annotation() -> None:
    both = bare(labels={"sidecar.istio.io/inject": "true"}, annotations=Annotations(inject="false"))

    sidecars = mesh(**seen(sidecar(), both)).sidecars

    assert [each.subject for each in sidecars.missing] == ["Pod shop/bare"]
    assert sidecars.opted_out == []


def test_who_opted_out_is_told() -> None:
    facts = mesh(**seen(sidecar(), bare(annotations=Annotations(inject="false"))))

    assert [each.subject for each in facts.sidecars.opted_out] == ["Pod shop/bare"]


def test_without_an_injector_nobody_knows() -> None:
    with pytest.raises(CouldNotVerify, match="no injection webhook"):
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
        "Pod shop/web-1: its sidecar is 1.28.2: Deployment web was not restarted since the "
        "upgrade (expected 1.29.1)"
    )
    assert finding.remedy == "kubectl -n shop rollout restart deployment/web"


def controller(kind: str, partition: int = 0, **more: Any) -> dict[str, Any]:
    strategy = UpdateStrategy(
        type="RollingUpdate" if partition else "OnDelete",
        rolling_update=RollingUpdate(partition=partition),
    )
    spec = ControllerSpec(update_strategy=strategy)
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
        ({"owner": of("StatefulSet")}, controller("stateful_sets", 2), "has the partition 2"),
        # it is web-1, which this partition lets go
        ({"owner": of("StatefulSet")}, controller("stateful_sets", 1), "was not restarted since"),
        ({}, {}, "the pod has no controller"),
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
    assert "the rollout of Deployment web is not complete" in finding.seen


def test_the_target_counts_more_than_what_istiod_is() -> None:
    (finding,) = mesh(**expecting(target_version="1.30.0")).sidecars.outdated

    assert finding.expected == "1.30.0"


def test_a_version_that_nobody_says() -> None:
    with pytest.raises(CouldNotVerify, match="the sidecar version of Pod shop/web-1"):
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

    assert "connected to istiod-0, which is 1.28.2" in finding.seen
    moving = mesh(pods=replicas, istiod=(reading(proxies=[sync()]), old), **asked)
    assert moving.sidecars.wrong_istiod == []


# --- unusual and healthy ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nightly", "nightly-29391840"])
def test_the_pod_of_a_job_is_a_warning(name: str) -> None:
    web = sidecar(owner=Owner(kind="Job", name=name, controller=True))
    facts = mesh(**seen(web, istiod=(reading(proxies=[OLD]),)))

    (finding,) = facts.sidecars.outdated_jobs
    assert facts.sidecars.outdated == []
    assert "started it before the upgrade" in finding.seen
    assert finding.owner.endswith("Job shop/nightly")


def test_a_pod_of_a_job_without_sidecar_may_end_by_itself() -> None:
    job = bare(owner=Owner(kind="Job", name="nightly", controller=True))

    (finding,) = mesh(**seen(sidecar(), job)).sidecars.missing

    assert finding.transient


@pytest.mark.parametrize(("target", "right"), [("1.29", True), ("1.29.1", True), ("1.30", False)])
def test_a_target_without_a_patch_means_any(target: str, right: bool) -> None:
    facts = mesh(**expecting(target_version=target))

    assert (facts.sidecars.outdated == []) is right
    assert (facts.sidecars.wrong_istiod == []) is right


def test_a_target_that_is_not_a_version() -> None:
    with pytest.raises(CouldNotVerify, match="not a version"):
        _ = mesh(**expecting(target_version="latest")).sidecars.outdated


@pytest.mark.parametrize(
    "known_by",
    [{"labels": {"istio": "edge"}}, {"annotations": Annotations(templates="gateway,company")}],
)
def test_a_gateway_with_a_second_container_has_no_sidecar(known_by: dict[str, Any]) -> None:
    edge = pod("edge-1", containers=[running("agent"), running("istio-proxy")], **known_by)

    known = {"istiod": (reading(proxies=[sync(), sync("edge-1.shop")]),)}

    found = mesh(**seen(sidecar(), edge, **known)).sidecars

    assert found.outdated == []
    assert "edge-1.shop" not in found.with_sidecar


def test_a_template_beside_the_gateways_is_one_of_sidecars() -> None:
    web = sidecar(annotations=Annotations(templates="sidecar,company"))

    assert "web-1.shop" in mesh(**seen(web)).sidecars.with_sidecar


@pytest.mark.parametrize("label", ["istio", "app"])
def test_a_gateway_that_nobody_restarted_is_found_after_stage_c_too(label: str) -> None:
    proxy = Container(name="istio-proxy", image="x/proxyv2:1.26.0")
    egress = pod("egress-1", containers=[running("istio-proxy")], labels={label: "egress"})
    egress = replace(egress, spec=replace(egress.spec, containers=(proxy,)))

    (finding,) = mesh(**seen(sidecar(), egress)).sidecars.outdated

    assert (finding.subject, finding.problem) == ("Pod shop/egress-1", "wrong-version")


# --- other clusters, other meshes, ambient ------------------------------------------------------


def remote(proxy: str) -> Any:
    return msgspec.structs.replace(sync(proxy), cluster_id="remote")


def test_a_proxy_of_another_cluster_hides_nobody() -> None:
    """Two pods of one name in two clusters: only the other one is connected."""
    pods = (sidecar(), sidecar("web-2"), sidecar("web-3"))
    readings = (reading(proxies=[sync(), sync("web-2.shop"), remote("web-3.shop")]),)

    (finding,) = mesh(**seen(*pods, istiod=readings)).sidecars.wrong_istiod

    assert finding.subject == "Pod shop/web-3"
    assert finding.problem == "disconnected"


def test_a_proxy_of_another_cluster_causes_nothing() -> None:
    old = msgspec.structs.replace(remote("elsewhere.shop"), istio_version="1.27.0")
    facts = mesh(**seen(sidecar(), istiod=(reading(proxies=[sync(), old]),)))

    assert facts.sidecars.outdated == []
    assert facts.sidecars.wrong_istiod == []


def test_a_pod_of_a_second_mesh_is_not_ours() -> None:
    theirs = injector("sidecar-b", revision="mesh-b")
    other = sidecar("b-1", "team-b", annotations=Annotations(revision="mesh-b"))
    istiod_b = istiod("istiod-b", namespace="istio-system-b", revision="mesh-b")
    facts = mesh(**seen(sidecar(), other, istiod_b, mutating_webhooks=(injector(), theirs)))

    assert facts.sidecars.outdated == []
    assert facts.sidecars.wrong_istiod == []


def test_a_pod_of_a_revision_that_is_gone_is_ours() -> None:
    orphan = sidecar("b-1", annotations=Annotations(revision="gone"))

    (finding,) = mesh(**seen(sidecar(), orphan)).sidecars.wrong_istiod

    assert finding.subject == "Pod shop/b-1"


def test_a_forgotten_ztunnel() -> None:
    ztunnel = pod(
        "ztunnel-1", "istio-system", containers=[running("istio-proxy")], labels={"app": "ztunnel"}
    )
    old = sync("ztunnel-1.istio-system", version="1.26.0")
    facts = mesh(**seen(sidecar(), ztunnel, istiod=(reading(proxies=[sync(), old]),)))

    (finding,) = facts.sidecars.outdated
    assert finding.subject == "Pod istio-system/ztunnel-1"
    assert "its proxy is 1.26.0" in finding.seen


def test_pods_of_one_workload_have_the_same_problem() -> None:
    pods = [sidecar(name, owner=OF_DEPLOYMENT, labels=LABELS) for name in ("web-1", "web-2")]
    old = [OLD, sync("web-2.shop", version="1.28.2")]

    one, two = mesh(**seen(*pods, istiod=(reading(proxies=old),))).sidecars.outdated

    assert one.identity == two.identity
    older = [sync(version="1.27.5")]
    (worse,) = mesh(**seen(pods[0], istiod=(reading(proxies=older),))).sidecars.outdated
    assert worse.identity != one.identity


# --- the injector's own configuration -----------------------------------------------------------

BUILD = {"openshift.io/build.name": "web-1"}
NEVER = InjectorConfig(
    revision="default",
    never=(
        LabelSelector(
            match_expressions=(Requirement(key="openshift.io/build.name", operator="Exists"),)
        ),
    ),
)


@pytest.mark.parametrize(
    ("config", "labels", "excluded"),
    [
        (NEVER, BUILD, True),
        (NEVER, {}, False),
        (NEVER, {**BUILD, "sidecar.istio.io/inject": "true"}, False),
        (InjectorConfig(revision="default", policy="disabled"), {}, True),
        # only `true` and `false` are choices
        (
            InjectorConfig(revision="default", policy="disabled"),
            {"sidecar.istio.io/inject": "yes"},
            True,
        ),
        (
            InjectorConfig(
                revision="default",
                policy="disabled",
                always=(LabelSelector(match_labels=BUILD),),
            ),
            BUILD,
            False,
        ),
        # a selector without rows is ignored
        (InjectorConfig(revision="default", never=(LabelSelector(),)), BUILD, False),
        (msgspec.structs.replace(NEVER, revision="other"), BUILD, False),
    ],
)
def test_pods_that_the_injector_excludes(
    config: InjectorConfig, labels: dict[str, str], excluded: bool
) -> None:
    facts = mesh(**seen(sidecar(), bare(labels=labels), injector_configs=(config,))).sidecars

    assert (facts.missing == []) is excluded
    assert bool(facts.opted_out) is excluded
