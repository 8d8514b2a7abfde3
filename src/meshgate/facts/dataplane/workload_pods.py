"""Workloads whose pods do not exist or are not available, with the error of their admission."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.cni_failures import cni_failures
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import injector, pods, workloads
from meshgate.semantics.config_revisions import LABEL
from meshgate.semantics.webhooks import IGNORED, Webhooks
from meshgate.snapshot.kubernetes import (
    Controller,
    Deployment,
    Job,
    Metadata,
    Namespace,
    Pod,
    PodTemplate,
    TemplateMetadata,
    Terminated,
)
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable, counted

OOM_KILLED = "OOMKilled"
# An older end of a proxy says nothing about the upgrade.
RECENT = timedelta(hours=1)
MANY_RESTARTS = 3

# A refusal that no retry resolves; a quota may be free a moment later.
_REFUSED = ("denied the request", "violates PodSecurity", "is invalid:")


class _Workload(NamedTuple):
    """A Deployment, StatefulSet, DaemonSet or Job, by what decides whether it is in the mesh."""

    kind: str
    metadata: Metadata
    template: PodTemplate

    @property
    def name(self) -> str:
        return f"{self.kind} {self.metadata.namespace}/{self.metadata.name}"

    def finding(self, problem: str, seen: str, expected: str, *, transient: bool) -> Finding:
        """Return a finding about the workload.

        Args:
            problem: the code of the kind of problem.
            seen: what is wrong, on one line or several.
            expected: what was expected instead.
            transient: whether time alone may resolve it.

        Returns:
            The finding, with a command that describes the workload.
        """
        kind, namespace, name = self.kind.lower(), self.metadata.namespace, self.metadata.name
        return Finding(
            self.name,
            " ".join(seen.split()),
            expected,
            f"kubectl -n {namespace} describe {kind} {name}",
            transient=transient,
            problem=problem,
        )


class WorkloadPods:
    """The pods that the mesh's workloads ask for, and those that they have."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def missing(self) -> list[Finding]:
        """Workloads whose pods cannot be created, are not available, or whose proxies are killed.

        Raises NotApplicable if no workload is in the mesh, CouldNotVerify if a workload has no
        pods and its status is not in the snapshot.
        """
        found: list[Finding] = []
        for workload, status in self._workloads:
            match status:
                case Deployment():
                    found += self._of_deployment(workload, status)
                case Controller():
                    found += self._of_controller(workload, status)
                case Job():
                    found += self._of_job(workload, status)
        proxied = [each for each in self._evidence.pods if workloads.proxy(each)]
        stuck = cni_failures(self._evidence, self._evidence.own_mesh.own(proxied))
        return [*found, *stuck, *self._killed()]

    @property
    def count(self) -> int:
        """How many workloads are in the mesh."""
        return len(self._workloads)

    @cached_property
    def _workloads(self) -> list[tuple[_Workload, Deployment | Controller | Job]]:
        """The workloads in the mesh, with their objects; raises NotApplicable without any."""
        objects: list[tuple[str, Deployment | Controller | Job]] = [
            *(("Deployment", each) for each in self._evidence.deployments),
            *(("StatefulSet", each) for each in self._evidence.stateful_sets),
            *(("DaemonSet", each) for each in self._evidence.daemon_sets),
            *(("Job", each) for each in self._evidence.jobs),
        ]
        found = [
            (workload, each)
            for kind, each in objects
            if self._in_mesh(workload := _Workload(kind, each.metadata, each.spec.template))
        ]
        if not found:
            raise NotApplicable("no Deployment, StatefulSet, DaemonSet or Job is in the mesh")
        return found

    # --- scope ----------------------------------------------------------------------------------

    def _in_mesh(self, workload: _Workload) -> bool:
        """Return whether a pod of the workload gets a proxy, or is in ambient mode."""
        template = workload.template
        containers = (*template.spec.init_containers, *template.spec.containers)
        namespace = self._namespaces.get(workload.metadata.namespace)
        if self._is_foreign(namespace, template.metadata):
            return False
        if any(each.name == workloads.PROXY for each in containers):
            return True
        if namespace is None or namespace.metadata.name in IGNORED:
            return False
        labels = template.metadata.labels
        inherited = namespace.metadata.labels.get(workloads.DATAPLANE_MODE, "")
        if labels.get(workloads.DATAPLANE_MODE, inherited) == "ambient":
            return True
        if template.spec.host_network or injector.declined(template.metadata):
            return False
        return bool(self._webhooks.selecting(namespace, labels))

    def _is_foreign(self, namespace: Namespace | None, template: TemplateMetadata) -> bool:
        """Return whether pods of a template belong to another mesh in this cluster."""
        own = self._evidence.own_mesh
        inherited = namespace.metadata.labels.get(LABEL) if namespace else None
        revision = template.annotations.revision or template.labels.get(LABEL, inherited)
        return revision in own.foreign_revisions or bool(namespace and not own.discovers(namespace))

    @cached_property
    def _namespaces(self) -> dict[str, Namespace]:
        return {each.metadata.name: each for each in self._evidence.namespaces}

    @cached_property
    def _webhooks(self) -> Webhooks:
        return Webhooks(self._evidence.mutating_webhooks, (), (), (), self._evidence.own_mesh)

    @cached_property
    def _pods(self) -> dict[str, list[Pod]]:
        """Active pods by their workload."""
        found: defaultdict[str, list[Pod]] = defaultdict(list)
        for pod in self._evidence.pods:
            if workloads.is_active(pod):
                found[workloads.owner(pod)].append(pod)
        return found

    # --- status ---------------------------------------------------------------------------------

    def _of_deployment(self, workload: _Workload, deployment: Deployment) -> Iterator[Finding]:
        desired, status = deployment.spec.replicas, deployment.status
        conditions = {each.type: each for each in status.conditions}
        failure, progressing = conditions.get("ReplicaFailure"), conditions.get("Progressing")
        stuck = progressing is not None and progressing.reason == "ProgressDeadlineExceeded"
        if not desired:
            return
        if failure and failure.status == "True":
            message = failure.message or failure.reason
            yield workload.finding(
                "pods-not-created",
                f"its new pods cannot be created: {message}",
                f"{desired} pods of the current template",
                transient=not _is_permanent(message),
            )
        elif status.available_replicas == 0:
            yield self._unavailable(workload, desired, transient=not stuck)
        elif stuck and status.updated_replicas < desired:
            yield workload.finding(
                "rollout-stuck",
                f"its rollout is stuck: {status.updated_replicas} of {desired} pods are updated, "
                f"{self._trouble(workload)}",
                f"{desired} updated pods",
                transient=False,
            )

    def _of_controller(self, workload: _Workload, controller: Controller) -> Iterator[Finding]:
        status = controller.status
        if status is None:
            if not self._pods.get(workload.name):
                raise CouldNotVerify(
                    f"{workload.name} has no pods, and the snapshot lacks its status",
                    "capture it again",
                )
            return
        if workload.kind == "DaemonSet":
            desired, exist = status.desired_number_scheduled, status.current_number_scheduled
            available = status.number_available
        else:
            desired, exist = controller.spec.replicas, status.replicas
            available = status.available_replicas
        if exist < desired:
            message = self._creation_error(workload)
            yield workload.finding(
                "pods-not-created",
                f"{exist} of {desired} pods exist: {message or 'no event contains the error'}",
                f"{desired} pods",
                transient=not _is_permanent(message),
            )
        elif workload.kind == "StatefulSet" and (message := self._not_replaced(workload, desired)):
            yield workload.finding(
                "pods-not-created",
                f"its pods cannot be created: {message}",
                f"{desired} pods",
                transient=not _is_permanent(message),
            )
        elif desired and available == 0:
            yield self._unavailable(workload, desired, transient=True)

    def _of_job(self, workload: _Workload, job: Job) -> Iterator[Finding]:
        """Report a Job that runs and has no pod because none could be created."""
        ended = any(
            each.type in ("Complete", "Failed") and each.status == "True"
            for each in job.status.conditions
        )
        message = self._creation_error(workload)
        if message and not ended and not job.spec.suspend and not job.status.active:
            yield workload.finding(
                "pods-not-created",
                f"its pods cannot be created: {message}",
                "a pod",
                transient=not _is_permanent(message),
            )

    def _not_replaced(self, workload: _Workload, desired: int) -> str:
        """Return the newest creation error of a StatefulSet that lacks one of its pods."""
        found = len(self._pods.get(workload.name, ()))
        return self._creation_error(workload) if found < desired else ""

    def _creation_error(self, workload: _Workload) -> str:
        """Return what the newest Event says of why a pod could not be created; empty for none.

        An Event that is older than the workload's newest pod says nothing any more.
        """
        namespace, name = workload.metadata.namespace, workload.metadata.name
        oldest = self._evidence.snapshot.taken.replace(year=1970)
        created = self._newest_pods.get(workload.name, oldest)
        events = [
            each
            for each in self._evidence.creation_events
            if (
                each.involved_object.kind,
                each.involved_object.namespace,
                each.involved_object.name,
            )
            == (workload.kind, namespace, name)
            and (each.last_timestamp is None or each.last_timestamp >= created)
        ]
        events.sort(key=lambda each: each.last_timestamp or oldest)
        return events[-1].message if events else ""

    @cached_property
    def _newest_pods(self) -> dict[str, datetime]:
        """When each workload's newest pod was created, also one that has ended."""
        found: dict[str, datetime] = {}
        for pod in self._evidence.pods:
            created = pod.metadata.creation_timestamp
            for each in pod.metadata.owner_references if created else ():
                # a CronJob's Jobs count for themselves
                name = f"{each.kind} {pod.metadata.namespace}/{each.name}"
                if each.controller and created:
                    found[name] = max(created, found.get(name, created))
        return found

    # --- proxies that are killed ----------------------------------------------------------------

    def _killed(self) -> Iterator[Finding]:
        """Yield the proxies that were killed for their memory lately, or that keep restarting."""
        for pod in self._evidence.own_mesh.own(self._evidence.pods):
            if not workloads.is_active(pod):
                continue
            for status in pods.statuses(pod):
                ended = status.last_state.terminated
                if status.name == workloads.PROXY and ended and self._is_recent(ended):
                    yield from _restarts(pod, status.restart_count, ended)

    def _is_recent(self, ended: Terminated) -> bool:
        age = self._evidence.snapshot.taken - ended.finished_at if ended.finished_at else None
        return age is not None and age <= RECENT

    def _unavailable(self, workload: _Workload, desired: int, *, transient: bool) -> Finding:
        permanent = any(pods.fails_permanently(pod) for pod in self._pods.get(workload.name, ()))
        return workload.finding(
            "no-available-pods",
            f"none of {desired} pods is available: {self._trouble(workload)}",
            "at least one available pod",
            transient=transient and not permanent,
        )

    def _trouble(self, workload: _Workload) -> str:
        found = self._pods.get(workload.name, [])
        waiting = [pod for pod in found if not pods.ready(pod)]
        if waiting:
            return f"{pods.name(waiting[0])} {pods.reason_not_ready(waiting[0])}"
        return "its pods are Ready, but not available yet" if found else "no pod exists"


def _restarts(pod: Pod, count: int, ended: Terminated) -> Iterator[Finding]:
    """Yield what the last end of a pod's proxy means.

    Args:
        pod: the pod.
        count: how often its proxy restarted.
        ended: how the proxy ended last.
    """
    if ended.reason == OOM_KILLED:
        kind, _, name = workloads.lasting(pod).partition(" ")
        yield pod_finding(
            pod,
            f"its proxy was killed because it reached its memory limit ({OOM_KILLED}, "
            f"{counted(count, 'restart')})",
            "a proxy that keeps running",
            f"raise the annotation sidecar.istio.io/proxyMemoryLimit in the template of {kind} "
            f"{name}",
            problem="proxy-out-of-memory",
        )
    elif count >= MANY_RESTARTS and ended.reason != pods.NODE_STOPPED:
        yield pod_finding(
            pod,
            f"its proxy keeps restarting: {count} times, the last time with exit code "
            f"{ended.exit_code}",
            "a proxy that keeps running",
            f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} -c {workloads.PROXY} "
            "--previous",
            problem="proxy-restarts",
        )


def _is_permanent(message: str) -> bool:
    return any(words in message for words in _REFUSED)
