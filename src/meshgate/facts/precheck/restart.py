"""The restart of the workloads, before it begins: pods it would not reach, or leave unmeshed.

Workloads whose template contains its own proxy are handled separately: no webhook injects those.
"""

from collections import defaultdict
from functools import cached_property

from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.selectors import selects
from meshgate.semantics.webhooks import Webhooks
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.snapshot.upgrade import DisruptionBudget, Workload
from meshgate.verdict import Finding, NotApplicable


class Restart:
    """Pods with a proxy that a restart would not replace."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def proxied(self) -> list[Pod]:
        """Pods whose proxy neither istiod nor a separate chart updates; NotApplicable without."""
        found = [
            pod
            for pod in self._evidence.facts(Proxies).promised.values()
            if "gateway.istio.io/managed" not in pod.metadata.labels
            and pod.metadata.labels.get("app") != "ztunnel"
        ]
        if not found:
            raise NotApplicable("no pod has a proxy that a restart would replace")
        return found

    @cached_property
    def _of(self) -> dict[tuple[str, str, str], list[Pod]]:
        """The pods of each workload that has some with a proxy."""
        found: defaultdict[tuple[str, str, str], list[Pod]] = defaultdict(list)
        by_namespace: defaultdict[str, list[Workload]] = defaultdict(list)
        for each in self._evidence.workloads:
            by_namespace[each.namespace].append(each)
        for pod in self.proxied:
            for each in by_namespace[pod.metadata.namespace]:
                if each.selector and selects(each.selector, pod.metadata.labels):
                    found[each.kind, each.namespace, each.name].append(pod)
        return found

    @cached_property
    def _workloads(self) -> list[Workload]:
        return [each for each in self._evidence.workloads if (_key(each) in self._of)]

    @property
    def lost(self) -> list[Finding]:
        """Pods with a sidecar that no webhook would inject again."""
        webhooks = Webhooks(self._evidence.mutating_webhooks, (), (), ())
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        own = {
            pods.name(pod)
            for each in self._workloads
            if each.proxied
            for pod in self._of[_key(each)]
        }
        return [
            Finding(
                pods.name(pod),
                "has a sidecar, and no webhook would inject one again: it leaves the mesh when "
                "it restarts",
                "a label of its namespace or its template that a webhook selects",
                f"restore the injection label of the namespace {pod.metadata.namespace}",
                problem="not-reinjected",
                owner=workloads.owner(pod),
            )
            for pod in self.proxied
            if pods.name(pod) not in own
            and (namespace := namespaces.get(pod.metadata.namespace))
            and not webhooks.selecting(namespace, pod.metadata.labels)
        ]

    @property
    def unreached(self) -> list[Finding]:
        """Workloads and pods that a restart of the workloads leaves as they are."""
        return [
            *(
                Finding(
                    _subject(each),
                    words,
                    "a restart that replaces all its pods",
                    remedy,
                    problem=problem,
                )
                for each in self._workloads
                if (obstacle := _obstacle(each))
                for problem, words, remedy in [obstacle]
            ),
            *self._not_restartable(),
        ]

    def _not_restartable(self) -> list[Finding]:
        """Bare pods and pods of other controllers; Jobs end by themselves."""
        selected = {pods.name(pod) for some in self._of.values() for pod in some}
        found: dict[tuple[str, str], Pod] = {}
        for pod in self.proxied:
            if pods.name(pod) in selected:
                continue
            kind, _, name = workloads.workload(pod).partition(" ")
            if workloads.is_active(pod) and kind not in (*workloads.RESTARTABLE, *ENDING):
                found.setdefault((f"{kind} {pod.metadata.namespace}/{name}", kind), pod)
        return [
            Finding(
                subject,
                "nothing creates this pod again: a restart of the workloads does not reach it"
                if kind == "Pod"
                else f"its pods belong to a {kind}, which kubectl cannot restart",
                "a restart that replaces all its pods",
                _restarting(kind, subject),
                problem="bare-pod" if kind == "Pod" else "other-controller",
            )
            for (subject, kind), pod in sorted(found.items(), key=lambda item: item[0])
        ]

    @property
    def stuck(self) -> list[Finding]:
        """Deployments whose rollout is stuck now: a restart waits for the same pods."""
        return [
            Finding(
                f"Deployment {each.metadata.namespace}/{each.metadata.name}",
                f"{stuck}: a restart waits for its pods too",
                "a complete rollout",
                f"kubectl -n {each.metadata.namespace} describe deployment {each.metadata.name}",
                problem="rollout-stuck",
            )
            for each in self._evidence.deployments
            if ("Deployment", each.metadata.namespace, each.metadata.name) in self._of
            if (stuck := _stuck(each))
        ]

    @property
    def guarded(self) -> list[Finding]:
        """PodDisruptionBudgets that allow no eviction of a pod with a proxy now."""
        return [
            Finding(
                f"PodDisruptionBudget {each.metadata.namespace}/{each.metadata.name}",
                f"allows no disruption, for example of {pods.name(guarded[0])}",
                "at least one disruption",
                "add a replica to its workload: a node drain waits for it, a rolling restart "
                "does not",
                problem="no-disruption-allowed",
            )
            for each in self._evidence.disruption_budgets
            if each.status.expected_pods and not each.status.disruptions_allowed
            if (guarded := self._guarded_by(each))
        ]

    def _guarded_by(self, budget: DisruptionBudget) -> list[Pod]:
        selector = budget.spec.selector
        return [
            pod
            for pod in self.proxied
            if selector is not None
            and pod.metadata.namespace == budget.metadata.namespace
            and selects(selector, pod.metadata.labels)
        ]


# Kinds whose pods end by themselves; the next one gets the new sidecar.
ENDING = ("Job", "CronJob")


def _restarting(kind: str, subject: str) -> str:
    """Return how pods get the target's sidecar that `kubectl rollout restart` does not reach."""
    namespace, _, name = subject.partition(" ")[2].partition("/")
    if kind == "Rollout":
        return f"kubectl argo rollouts -n {namespace} restart {name}"
    if kind == "Pod":
        return f"delete and create {subject} again with the target's sidecar"
    return f"restart {subject} the way its controller documents"


def _obstacle(each: Workload) -> tuple[str, str, str] | None:
    """Return the problem, words and remedy of a workload that a restart does not fully replace."""
    name = f"{each.kind.lower()}/{each.name}"
    kubectl = f"kubectl -n {each.namespace}"
    if each.paused:
        return "paused", "its rollout is paused", f"{kubectl} rollout resume {name}"
    if each.strategy == "OnDelete":
        return (
            "on-delete",
            "its update strategy is OnDelete: a pod is replaced only after it is deleted",
            f"delete the pods of {_subject(each)} one by one after the upgrade",
        )
    if each.partition:
        count = f" of {each.replicas}" if each.replicas is not None else ""
        return (
            "partitioned",
            f"its partition is {each.partition}: a restart skips the first {each.partition}"
            f"{count} pods",
            f"{kubectl} patch {name} --type=merge "
            '-p \'{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}\'',
        )
    if each.proxied:
        return (
            "proxy-in-template",
            "its pod template contains the proxy (istioctl kube-inject)",
            f"inject {_subject(each)} again with the target's istioctl",
        )
    return None


def _stuck(deployment: Deployment) -> str:
    """Return why a Deployment's rollout does not proceed; empty if it may."""
    desired, status = deployment.spec.replicas, deployment.status
    if not desired or status.observed_generation < deployment.metadata.generation:
        return ""
    for each in status.conditions:
        if each.type == "ReplicaFailure" and each.status == "True":
            return "its new pods cannot be created: " + " ".join(
                (each.message or each.reason).split()
            )
        if each.type == "Progressing" and each.reason == "ProgressDeadlineExceeded":
            return (
                f"its rollout is stuck: {status.updated_replicas} of {desired} pods updated, "
                f"{status.available_replicas} available"
            )
    return ""


def _key(each: Workload) -> tuple[str, str, str]:
    return each.kind, each.namespace, each.name


def _subject(each: Workload) -> str:
    return f"{each.kind} {each.namespace}/{each.name}"
