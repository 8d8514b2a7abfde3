"""Whether the API server would accept the pods that a restart creates, and what changed in them."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.kubernetes import Metadata, Namespace, Owner, Pod
from meshgate.snapshot.model import Before
from meshgate.snapshot.new_pods import LimitRange, NewPod, NewPods, ResourceQuota
from meshgate.snapshot.webhooks import WebhookConfiguration
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import AT, expecting, snapshot
from tests.support.builders import pod as build_pod

INIT = {
    "name": "istio-init",
    "init": True,
    "injected": True,
    "security": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
}
PROXY = {"name": "istio-proxy", "injected": True, "image": "hub/proxyv2:1.29.1"}


def pod(workload: str = "Deployment shop/web", *containers: dict[str, Any], **more: Any) -> NewPod:
    """The pod of an injected workload with one replica."""
    body = {
        "workload": workload,
        "replicas": 1,
        "webhook": "MutatingWebhookConfiguration istio-sidecar-injector",
        "injected": True,
        "containers": list(containers or (INIT, {"name": "app"}, PROXY)),
        **more,
    }
    return msgspec.convert(body, NewPod)


def running_pod(name: str, owner: str) -> Pod:
    """A running pod of a Job."""
    return build_pod(name, owner=Owner(kind="Job", name=owner, controller=True))


def mesh(*pods: NewPod, labels: dict[str, str] | None = None, **more: Any) -> Mesh:
    """A mesh whose restart creates these pods."""
    namespaces = (Namespace(metadata=Metadata(name="shop", labels=labels or {})),)
    return Mesh(snapshot(namespaces=namespaces, new_pods=NewPods(pods=pods), **more))


BASELINE = {"pod-security.kubernetes.io/enforce": "baseline"}


def test_a_pod_that_violates_the_namespaces_level_is_a_finding() -> None:
    (found,) = mesh(pod(), labels=BASELINE).new_pods.refused

    assert found.subject == "Deployment shop/web"
    assert 'PodSecurity "baseline" of Namespace shop' in found.seen
    assert "NET_ADMIN" in found.seen
    assert "CNI plugin" in found.remedy


def test_a_namespace_without_a_level_accepts_it() -> None:
    assert mesh(pod()).new_pods.refused == []


def test_the_same_violation_of_many_workloads_is_one_finding() -> None:
    many = [pod(f"Deployment shop/web-{number}") for number in range(5)]

    (found,) = mesh(*many, labels=BASELINE).new_pods.refused

    assert found.subject == "Namespace shop"
    assert "5 workloads" in found.seen


def test_a_workload_that_is_scaled_to_zero_is_a_warning() -> None:
    found = mesh(pod(replicas=0), labels=BASELINE).new_pods

    assert found.refused == []
    assert [each.problem for each in found.refused_later] == ["pod-security"]


def test_a_daemon_set_has_no_replicas_and_creates_pods() -> None:
    found = mesh(pod("DaemonSet shop/agent", replicas=0), labels=BASELINE).new_pods

    assert [each.problem for each in found.refused] == ["pod-security"]


def test_the_injectors_refusal_is_quoted() -> None:
    (found,) = mesh(pod(injected=False, refused="invalid\nannotations")).new_pods.refused

    assert found.seen == "the injector refuses its new pods: invalid annotations"


def test_the_answer_to_a_dry_run_is_quoted() -> None:
    (found,) = mesh(pod(admission="denied by kyverno")).new_pods.refused

    assert found.problem == "admission-refuses"
    assert "denied by kyverno" in found.seen


def test_a_limit_range_is_named() -> None:
    limits = [{"type": "Container", "min": {"cpu": "50m"}}]
    body = {"metadata": {"name": "small", "namespace": "shop"}, "spec": {"limits": limits}}

    (found,) = mesh(pod(), limit_ranges=(msgspec.convert(body, LimitRange),)).new_pods.refused

    assert "its new pods break LimitRange shop/small" in found.seen
    assert found.about == (("limit-range", "small"),)


def quota(hard: dict[str, str], used: dict[str, str]) -> ResourceQuota:
    """A ResourceQuota of the namespace."""
    body = {
        "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"hard": hard},
        "status": {"used": used},
    }
    return msgspec.convert(body, ResourceQuota)


def test_a_quota_without_room_for_the_surge_is_a_finding() -> None:
    full = quota({"pods": "3"}, {"pods": "3"})

    (found,) = mesh(pod(), resource_quotas=(full,)).new_pods.refused

    assert found.seen.startswith("ResourceQuota shop/all refuses its new pods: one new pod needs 1")


def test_a_quota_into_which_each_rollout_fits_but_not_all_of_them_is_a_finding() -> None:
    needs = {"name": "app", "requests": {"cpu": "300m"}}
    pods = [pod(f"Deployment shop/{name}", needs, unavailable=1) for name in ("a", "b")]
    room = quota({"requests.cpu": "500m"}, {"requests.cpu": "0"})

    (found,) = mesh(*pods, resource_quotas=(room,)).new_pods.refused

    assert found.subject == "ResourceQuota shop/all"
    assert "a restart of all workloads needs 600m of requests.cpu" in found.seen


def test_a_job_that_creates_a_pod_is_judged_and_one_that_may_is_a_warning() -> None:
    suspended = mesh(pod("Job shop/import"), labels=BASELINE).new_pods
    running = mesh(pod("Job shop/import", replicas=0), labels=BASELINE).new_pods

    assert [each.problem for each in suspended.refused] == ["pod-security"]
    assert running.refused == []
    assert [each.problem for each in running.refused_later] == ["pod-security"]


def test_a_job_waits_until_a_quota_has_room_unless_it_never_fits() -> None:
    needs = pod("Job shop/import", {"name": "app", "requests": {"cpu": "300m"}})
    full = quota({"requests.cpu": "500m"}, {"requests.cpu": "500m"})
    small = quota({"requests.cpu": "200m"}, {"requests.cpu": "0"})
    # what a container must set does not depend on what is used
    unset = quota({"limits.cpu": "2"}, {"limits.cpu": "0"})

    assert mesh(needs, resource_quotas=(full,)).new_pods.refused == []
    (found,) = mesh(needs, resource_quotas=(small,)).new_pods.refused
    assert "one new pod needs 300m of requests.cpu: used 0 of 200m" in found.seen
    (found,) = mesh(needs, resource_quotas=(unset,)).new_pods.refused
    assert "must specify limits.cpu for: app" in found.seen


def test_the_next_pod_of_a_cron_job_gets_the_room_of_the_present_one() -> None:
    present = running_pod("nightly-29000000-abc", owner="nightly-29000000")
    next_one = pod("CronJob shop/nightly")
    one = quota({"pods": "1"}, {"pods": "1"})

    assert mesh(next_one, pods=(present,), resource_quotas=(one,)).new_pods.refused == []
    (found,) = mesh(next_one, resource_quotas=(one,)).new_pods.refused
    assert "one new pod needs 1 of pods" in found.seen


def test_an_injector_that_does_not_answer_is_unknown_unless_something_is_wrong() -> None:
    silent = pod("Deployment shop/other", injected=False, error="timed out")

    with pytest.raises(CouldNotVerify, match=r"Deployment shop/other.*timed out"):
        _ = mesh(pod(), silent).new_pods.refused
    assert mesh(pod(), silent, labels=BASELINE).new_pods.refused


def test_without_injected_workloads_it_does_not_apply() -> None:
    with pytest.raises(NotApplicable):
        _ = mesh().new_pods.all


# --- before and now -------------------------------------------------------------------------------


def compared(before: NewPod, *now: NewPod, others: tuple[str, ...] = ()) -> Any:
    """The changes between the pods of a baseline and those of now."""
    then = Before(taken=AT, new_pods=NewPods(pods=(before,)))
    pods = NewPods(pods=now, others=others)
    return Mesh(snapshot(new_pods=pods, **expecting(before=then))).injection_changes


def with_proxy(**more: Any) -> NewPod:
    """A pod whose proxy has these fields too."""
    return pod("Deployment shop/web", {"name": "app"}, {**PROXY, **more})


def test_the_same_injection_is_no_change() -> None:
    found = compared(with_proxy(), with_proxy(image="hub/proxyv2:1.30.4"))

    assert (found.losses, found.changes) == ([], [])


def test_a_workload_that_is_not_injected_any_more_loses_its_sidecar() -> None:
    (found,) = compared(with_proxy(), others=("Deployment shop/web",)).losses

    assert (found.subject, found.problem) == ("Deployment shop/web", "lost-sidecar")


def test_a_deleted_workload_loses_nothing() -> None:
    with pytest.raises(NotApplicable):
        _ = compared(with_proxy()).losses


def test_a_probe_that_is_not_rewritten_any_more_is_a_loss() -> None:
    def app(path: str) -> NewPod:
        probes = {"readinessProbe": f"httpGet {path}"}
        return pod("Deployment shop/web", {"name": "app", "probes": probes}, PROXY)

    (found,) = compared(app("/app-health/app/readyz"), app("/ready")).losses

    assert "readinessProbe of container app" in found.seen


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        ({}, True),
        ({"hooks": ["postStart"]}, False),
        ({"init": True, "sidecar": True, "probes": {"startupProbe": "httpGet /x"}}, False),
    ],
)
def test_the_hold_may_take_another_form(now: dict[str, Any], lost: bool) -> None:
    found = compared(with_proxy(hooks=["postStart"]), with_proxy(**now)).losses

    assert [each.problem for each in found] == (["lost-hold"] if lost else [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init": True, "sidecar": True}, "kind of container istio-proxy is native sidecar"),
        ({"image": "other/proxyv2:1.29.1"}, "image of container istio-proxy is other/proxyv2"),
        ({"requests": {"cpu": "1"}}, "resources of container istio-proxy gain requests.cpu=1"),
        ({"variables": ["A"]}, "environment variables of container istio-proxy gain A"),
        ({"security": {"runAsUser": 0}}, "security context of container istio-proxy gain runAs"),
        ({"ports": ["15090/TCP"]}, "ports of container istio-proxy gain 15090/TCP"),
    ],
)
def test_other_changes_are_listed(change: dict[str, Any], words: str) -> None:
    (found,) = compared(with_proxy(), with_proxy(**change)).changes

    assert words in found.seen


def test_a_change_that_all_workloads_share_is_one_line() -> None:
    names = ("Deployment shop/a", "Deployment shop/b")
    then = Before(taken=AT, new_pods=NewPods(pods=tuple(pod(n, PROXY) for n in names)))
    now = NewPods(pods=tuple(pod(n, {**PROXY, "variables": ["A"]}) for n in names))

    (found,) = Mesh(snapshot(new_pods=now, **expecting(before=then))).injection_changes.changes

    assert found.subject.startswith("MutatingWebhookConfiguration ")
    assert "all 2 workloads" in found.seen


def test_without_a_baseline_nothing_is_compared() -> None:
    with pytest.raises(NotApplicable):
        _ = Mesh(snapshot(new_pods=NewPods(pods=(pod(),)))).injection_changes.losses


# --- other webhooks -------------------------------------------------------------------------------


def webhook(name: str = "kyverno", **rule: Any) -> WebhookConfiguration:
    """A mutating webhook for new pods."""
    asked = {"operations": ["CREATE"], "apiGroups": [""], "resources": ["pods"], **rule}
    body = {
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"{name}.example.com",
                "clientConfig": {},
                "rules": [asked],
                "namespaceSelector": {"matchLabels": {"policy": "on"}},
            }
        ],
    }
    return msgspec.convert(body, WebhookConfiguration)


GOVERNED = {**BASELINE, "policy": "on"}


def test_a_violation_that_another_webhook_may_correct_is_unknown() -> None:
    facts = mesh(pod(), labels=GOVERNED, mutating_webhooks=(webhook(),)).new_pods

    with pytest.raises(CouldNotVerify, match=r"Deployment shop/web.*NET_ADMIN.*kyverno") as raised:
        _ = facts.refused
    assert "--dry-run-pods" in raised.value.remedy
    assert "--accept-unverified=webhooks" in raised.value.remedy


def test_it_is_a_warning_where_that_is_accepted() -> None:
    accepted = expecting(accepted_unverified=("webhooks",))
    facts = mesh(pod(), labels=GOVERNED, mutating_webhooks=(webhook(),), **accepted).new_pods

    assert facts.refused == []
    assert [each.problem for each in facts.refused_later] == ["pod-security"]


@pytest.mark.parametrize(
    ("labels", "configuration"),
    [
        (BASELINE, webhook()),  # it is for other namespaces
        (GOVERNED, webhook(resources=["services"])),
        (GOVERNED, webhook(operations=["UPDATE"])),
        (GOVERNED, webhook(apiGroups=["apps"])),
    ],
)
def test_a_webhook_that_does_not_change_the_pod_corrects_nothing(
    labels: dict[str, str], configuration: WebhookConfiguration
) -> None:
    (found,) = mesh(pod(), labels=labels, mutating_webhooks=(configuration,)).new_pods.refused

    assert found.problem == "pod-security"


def test_what_no_webhook_can_correct_still_fails() -> None:
    facts = mesh(
        pod(),
        pod("Deployment shop/other", injected=False, refused="invalid annotations"),
        labels=GOVERNED,
        mutating_webhooks=(webhook(),),
    ).new_pods

    assert [each.problem for each in facts.refused] == ["injector-refuses"]


@pytest.mark.parametrize(("answer", "problems"), [("", []), ("forbidden", ["admission-refuses"])])
def test_the_answer_to_a_dry_run_replaces_the_evaluation(answer: str, problems: list[str]) -> None:
    pods = NewPods(pods=(pod(admission=answer),), dry_run=True)
    namespaces = (Namespace(metadata=Metadata(name="shop", labels=GOVERNED)),)
    facts = Mesh(
        snapshot(namespaces=namespaces, new_pods=pods, mutating_webhooks=(webhook(),))
    ).new_pods

    assert [each.problem for each in facts.refused] == problems
