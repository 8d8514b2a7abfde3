"""The restart of the workloads, before it is begun: whom it will not reach, and whom it would lose.

Workloads whose template brings its own proxy are looked at apart: no webhook injects those.
"""

from collections import defaultdict
from functools import cached_property

from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.selectors import selects
from meshgate.semantics.webhooks import Webhooks
from meshgate.snapshot.kubernetes import DisruptionBudget, Pod
from meshgate.snapshot.upgrade import Workload
from meshgate.verdict import Finding, NotApplicable


class Restart:
    """Pods that hold a proxy, and what is in the way of their getting a new one."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _proxied(self) -> list[Pod]:
        """Pods with a proxy that is not brought up to date by istiod or by a chart of its own."""
        found = Proxies(self._evidence).promised
        if not found:
            raise NotApplicable("no pod holds a proxy")
        return [
            pod
            for pod in found.values()
            if "gateway.istio.io/managed" not in pod.metadata.labels
            and pod.metadata.labels.get("app") != "ztunnel"
        ]

    @cached_property
    def _of(self) -> dict[tuple[str, str, str], list[Pod]]:
        """The pods of each workload that has some with a proxy."""
        found: defaultdict[tuple[str, str, str], list[Pod]] = defaultdict(list)
        by_namespace: defaultdict[str, list[Workload]] = defaultdict(list)
        for each in self._evidence.workloads:
            by_namespace[each.namespace].append(each)
        for pod in self._proxied:
            for each in by_namespace[pod.metadata.namespace]:
                if each.selector and selects(each.selector, pod.metadata.labels):
                    found[each.kind, each.namespace, each.name].append(pod)
        return found

    @cached_property
    def _workloads(self) -> list[Workload]:
        return [each for each in self._evidence.workloads if (_key(each) in self._of)]

    @property
    def lost(self) -> list[Finding]:
        """Pods that hold a sidecar now, and that no webhook would give one again."""
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
                "holds a sidecar, and no webhook would inject one again: it leaves the mesh when "
                "it restarts",
                "a label of its namespace or its own that a webhook selects",
                f"label the namespace {pod.metadata.namespace} again, or take it out on purpose",
            )
            for pod in self._proxied
            if pods.name(pod) not in own
            and (namespace := namespaces.get(pod.metadata.namespace))
            and not webhooks.selecting(namespace, pod.metadata.labels)
        ]

    @property
    def unreached(self) -> list[Finding]:
        """Workloads that a restart leaves as they are."""
        return [
            Finding(_subject(each), words, "a restart that replaces its pods", remedy)
            for each in self._workloads
            if (told := _in_the_way(each))
            for words, remedy in [told]
        ]

    @property
    def guarded(self) -> list[Finding]:
        """PodDisruptionBudgets that let nobody evict a pod with a proxy now."""
        return [
            Finding(
                f"PodDisruptionBudget {each.metadata.namespace}/{each.metadata.name}",
                f"allows no disruption, of {pods.name(guarded[0])} among others",
                "at least one at a time",
                "a restart by eviction (a drain) waits for ever: have one replica more",
            )
            for each in self._evidence.disruption_budgets
            if each.status.expected_pods and not each.status.disruptions_allowed
            if (guarded := self._guarded_by(each))
        ]

    def _guarded_by(self, budget: DisruptionBudget) -> list[Pod]:
        selector = budget.spec.selector
        return [
            pod
            for pod in self._proxied
            if selector is not None
            and pod.metadata.namespace == budget.metadata.namespace
            and selects(selector, pod.metadata.labels)
        ]


def _in_the_way(each: Workload) -> tuple[str, str] | None:
    if each.paused:
        return "its rollout is paused", "kubectl rollout resume, before its restart"
    if each.strategy == "OnDelete":
        return "replaces a pod only when somebody deletes it (OnDelete)", "delete its pods by hand"
    if each.proxied:
        return (
            "its template itself holds the proxy (istioctl kube-inject)",
            "inject it again with the target's istioctl",
        )
    return None


def _key(each: Workload) -> tuple[str, str, str]:
    return each.kind, each.namespace, each.name


def _subject(each: Workload) -> str:
    return f"{each.kind} {each.namespace}/{each.name}"
