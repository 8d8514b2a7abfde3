"""Why a pod still runs its old sidecar, and the command that replaces the pod."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.selectors import selects
from meshgate.snapshot.kubernetes import Deployment, Pod

JOBS = ("Job", "CronJob")


class RestartObstacles:
    """What kept a restart from replacing a pod."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def reason(self, pod: Pod) -> str:
        """Return why the pod was not replaced, as far as the cluster shows it."""
        if image := pod.metadata.annotations.proxy_image:
            return f"its image is pinned by sidecar.istio.io/proxyImage: {image}"
        kind, _, name = workloads.workload(pod).partition(" ")
        if self._on_delete(pod):
            return f"{kind} {name} has the update strategy OnDelete, and the pod was not deleted"
        if partition := self._partition(pod):
            return f"{kind} {name} has the partition {partition}, and replaces only pods from it on"
        if kind == "Pod":
            return "the pod has no controller that would replace it"
        if kind in JOBS:
            return f"{kind} {name} started it before the upgrade, and it still runs"
        if budget := self._budget(pod):
            return f"PodDisruptionBudget {budget} allows no disruption"
        if self.is_rolling(pod):
            return f"the rollout of {kind} {name} is not complete"
        return f"{kind} {name} was not restarted since the upgrade"

    def remedy(self, pod: Pod) -> str:
        """Return the command that replaces the pod, and what must be changed before it."""
        restart = workloads.restart_command(pod)
        if pod.metadata.annotations.proxy_image:
            return f"remove the annotation from the template, then {restart}"
        if self._on_delete(pod):
            return f"kubectl -n {pod.metadata.namespace} delete pod {pod.metadata.name}"
        if self._partition(pod):
            _, _, name = workloads.workload(pod).partition(" ")
            return (
                f"kubectl -n {pod.metadata.namespace} patch statefulset/{name} --type=merge "
                '-p \'{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}\''
            )
        if budget := self._budget(pod):
            return f"allow a disruption in PodDisruptionBudget {budget}, then {restart}"
        return restart

    def is_rolling(self, pod: Pod) -> bool:
        """Return whether the pod's Deployment is still replacing its pods."""
        deployment = self._deployments.get(workloads.owner(pod))
        if deployment is None:
            return False
        status = deployment.status
        return (
            status.updated_replicas < deployment.spec.replicas
            or status.observed_generation < deployment.metadata.generation
            or status.replicas > status.updated_replicas
        )

    @cached_property
    def _deployments(self) -> dict[str, Deployment]:
        return {
            f"Deployment {each.metadata.namespace}/{each.metadata.name}": each
            for each in self._evidence.deployments
        }

    def _on_delete(self, pod: Pod) -> bool:
        return workloads.owner(pod) in self._replaced_on_delete

    @cached_property
    def _replaced_on_delete(self) -> frozenset[str]:
        kinds = {
            "StatefulSet": self._evidence.stateful_sets,
            "DaemonSet": self._evidence.daemon_sets,
        }
        return frozenset(
            f"{kind} {each.metadata.namespace}/{each.metadata.name}"
            for kind, controllers in kinds.items()
            for each in controllers
            if each.spec.update_strategy.type == "OnDelete"
        )

    def _partition(self, pod: Pod) -> int:
        """Return the partition that keeps a pod's StatefulSet from replacing it; else 0."""
        number = pod.metadata.name.rpartition("-")[2]
        found = self._partitions.get(workloads.owner(pod), 0)
        return found if number.isdigit() and int(number) < found else 0

    @cached_property
    def _partitions(self) -> dict[str, int]:
        return {
            f"StatefulSet {each.metadata.namespace}/{each.metadata.name}": rolling.partition
            for each in self._evidence.stateful_sets
            if (rolling := each.spec.update_strategy.rolling_update)
        }

    def _budget(self, pod: Pod) -> str:
        return next(
            (
                f"{each.metadata.namespace}/{each.metadata.name}"
                for each in self._evidence.disruption_budgets
                if each.metadata.namespace == pod.metadata.namespace
                and each.status.disruptions_allowed == 0
                and each.spec.selector is not None
                and selects(each.spec.selector, pod.metadata.labels)
            ),
            "",
        )
