"""Whether the nodes have room for the pods that a rolling restart creates before it removes one."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.capacity import SCALED, Room, eligible, kept_apart, missing, rooms
from meshgate.semantics.pod_resources import Amounts, defaulted, totals
from meshgate.semantics.topology_spread import too_skewed
from meshgate.snapshot.new_pods import LimitRange, NewPod
from meshgate.verdict import Finding, NotApplicable


class Capacity:
    """Room for one more pod of each workload that a restart adds pods for."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def surging(self) -> tuple[NewPod, ...]:
        """Workloads that get an additional pod during a rollout.

        Raises NotApplicable if there is none.
        """
        found = self._evidence.new_pods
        if found.skipped_reason:
            raise NotApplicable(found.skipped_reason)
        pods = tuple(each for each in found.pods if each.injected and each.replicas and each.surge)
        if not pods:
            raise NotApplicable("a restart creates no additional pod of any injected workload")
        return pods

    @cached_property
    def _rooms(self) -> list[Room]:
        nodes = self._evidence.nodes
        if not any(each.status.allocatable for each in nodes):
            raise NotApplicable("this snapshot has no allocatable resources of nodes")
        return rooms(nodes, self._evidence.pods)

    @cached_property
    def _ranges(self) -> dict[str, list[LimitRange]]:
        found: defaultdict[str, list[LimitRange]] = defaultdict(list)
        for each in self._evidence.limit_ranges:
            found[each.metadata.namespace].append(each)
        return found

    @property
    def stuck(self) -> list[Finding]:
        """Workloads whose rolling restart could not begin: no node has room for one more pod."""
        return [
            finding
            for finding, progresses in self._without_room()
            if not progresses and not self._scaled
        ]

    @property
    def tight(self) -> list[Finding]:
        """The same where the rollout may remove a pod first, or an autoscaler may add a node.

        Also what was not evaluated.
        """
        found = [finding for finding, goes_on in self._without_room() if goes_on or self._scaled]
        return [*found, *self._undecided()]

    def _undecided(self) -> Iterator[Finding]:
        """Report workloads that have room, as far as the constraints that are evaluated show."""
        without = {finding.subject for finding, _ in self._without_room()}
        pods = [e for e in self.surging if e.constraints and e.workload not in without]
        if pods:
            names = ", ".join(each.workload for each in pods[:3])
            more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""
            what = ", ".join(sorted({each for pod in pods for each in pod.constraints}))
            yield Finding(
                "the nodes",
                f"have room for {names}{more} as far as was evaluated, which does not include "
                f"{what}",
                remedy="Check by other means that these pods can be scheduled.",
                problem="constraints-not-evaluated",
            )

    @cached_property
    def _scaled(self) -> bool:
        """Whether an autoscaler may add nodes, as far as labels and names of Deployments show."""
        labels = {name for each in self._evidence.nodes for name in each.metadata.labels}
        names = [each.metadata.name for each in self._evidence.deployments]
        return bool(labels & set(SCALED)) or any(
            "cluster-autoscaler" in name or name == "karpenter" for name in names
        )

    def _without_room(self) -> Iterator[tuple[Finding, bool]]:
        """Yield workloads without room, and whether their rollout progresses nevertheless."""
        for pod in self.surging:
            namespace = pod.workload.partition(" ")[2].partition("/")[0]
            needed = totals(defaulted(pod, self._ranges[namespace]), "requests")
            if why := self._why(pod, needed, self._rooms):
                yield (
                    Finding(
                        pod.workload,
                        f"its rolling restart creates a pod before it removes one, and {why}",
                        "one node with room for one more pod",
                        "add a node, lower the requests, or set maxSurge to 0 and maxUnavailable "
                        f"to 1 in {pod.workload} for the restart",
                        problem="no-room",
                    ),
                    bool(pod.unavailable) or self._preempts(pod, needed),
                )

    def _why(self, pod: NewPod, needed: Amounts, there: list[Room]) -> str:
        """Return why no node takes the pod; empty if one does."""
        possible = [each for each in there if eligible(pod, each.node)]
        if not possible:
            return (
                "no node that is Ready and schedulable matches its nodeSelector, node affinity and "
                "tolerations"
            )
        namespace = pod.workload.partition(" ")[2].partition("/")[0]
        nodes, pods = self._evidence.nodes, self._evidence.pods
        apart = kept_apart(pod, namespace, nodes, pods) if pod.apart else frozenset()
        separate = [each for each in possible if each.node.metadata.name not in apart]
        if not separate:
            return "its podAntiAffinity forbids every node that matches, for the pods there now"
        skewed = too_skewed(pod, namespace, nodes, pods) if pod.spread else frozenset()
        free = [each for each in separate if each.node.metadata.name not in skewed]
        if not free:
            keys = ", ".join(sorted({each.topology_key for each in pod.spread}))
            return (
                f"its topologySpreadConstraints ({keys}) forbid every node that matches, for the "
                "pods there now"
            )
        lacking = {each.node.metadata.name: missing(needed, each.left) for each in free}
        if not all(lacking.values()):
            return ""
        name, words = min(lacking.items())
        which = "that its constraints permit " if len(free) < len(possible) else ""
        return f"no node {which}has room for it: for example, Node {name} lacks {words}"

    def _preempts(self, pod: NewPod, needed: Amounts) -> bool:
        """Return whether a node has room without the pods of a lower priority.

        The priority of a workload is that of its present pods.
        """
        pods = self._evidence.pods
        own = [e.spec.priority for e in pods if workloads.owner(e) == pod.workload]
        remaining = [e for e in pods if e.spec.priority >= max(own, default=0)]
        if len(remaining) == len(pods):
            return False
        return not self._why(pod, needed, rooms(self._evidence.nodes, remaining))
