"""The pods that a restart would create, and whether the API server would accept them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cached_property

import msgspec

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pod_security, quotas, workloads
from meshgate.semantics.pod_resources import Amounts, broken_limits, defaulted
from meshgate.semantics.quantities import amount, shown
from meshgate.semantics.webhooks import changing_pods
from meshgate.settings import flag
from meshgate.snapshot.kubernetes import Limits, Pod
from meshgate.snapshot.model import WEBHOOKS
from meshgate.snapshot.new_pods import (
    LimitRange,
    NewContainer,
    NewPod,
    ResourceQuota,
    ResourceQuotaStatus,
)
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# What a webhook that changes pods can correct.
CORRECTABLE = ("pod-security", "limit-range")

# As many workloads of a namespace with the same violation are one finding.
MANY = 4

# Workloads whose pods end by themselves.
ENDING = ("CronJob ", "Job ")


class NewPods:
    """The pods that injected workloads would get, judged by the rules of their namespace."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def all(self) -> tuple[NewPod, ...]:
        """The pods; raises NotApplicable if no workload is injected."""
        found = self._evidence.new_pods
        if found.skipped_reason:
            raise NotApplicable(found.skipped_reason)
        if not found.pods:
            raise NotApplicable("no injector selects the pods of any workload")
        return found.pods

    @property
    def refused(self) -> list[Finding]:
        """Workloads whose next pods could not be created.

        Raises CouldNotVerify if an injector did not answer for a workload, or if another webhook
        may correct what is wrong.
        """
        created = self._findings(each for each in self.all if _creates(each))
        found = [each for each in created if not self._changing(each)]
        silent = [each for each in self.all if each.error]
        if silent and not found:
            raise CouldNotVerify(
                f"{silent[0].webhook} did not answer for a pod of {silent[0].workload}"
                f"{_more(silent)}: {silent[0].error}",
                "correct the webhook first (see CP007)",
                transient=True,
            )
        if not found:
            self._need_no_change(created)
        return found

    @property
    def refused_later(self) -> list[Finding]:
        """The same for workloads that create no pod now, or that are accepted."""
        found = self._findings(each for each in self.all if not _creates(each))
        created = self._findings(each for each in self.all if _creates(each))
        return [*found, *(each for each in created if self._changing(each))]

    def _need_no_change(self, findings: Iterable[Finding]) -> None:
        """Raise CouldNotVerify for violations that another webhook may correct, unless accepted."""
        for finding in findings:
            changing = self._changing(finding)
            if changing and WEBHOOKS not in self._evidence.expectations.accepted_unverified:
                raise CouldNotVerify(
                    f"{finding.subject}: {finding.seen}; {changing[0]} may correct that when the "
                    "pod is created",
                    f"pass {flag('probes.dry_run_pods')}, which asks the API server; or verify "
                    "it by other means "
                    f"and pass {flag('criteria.accept_unverified', WEBHOOKS)}",
                )

    def _changing(self, finding: Finding) -> list[str]:
        """Return the other webhooks that may correct what a finding is about.

        A dry run includes them.
        """
        if finding.problem not in CORRECTABLE or self._evidence.new_pods.dry_run:
            return []
        kind, _, name = finding.subject.partition(" ")
        namespace = name if kind == "Namespace" else name.partition("/")[0]
        return [
            webhook
            for each in self._evidence.namespaces
            if each.metadata.name == namespace
            for webhook in changing_pods(self._evidence.mutating_webhooks, each)
        ]

    @property
    def left_out(self) -> str:
        """What was not checked, in words; empty if all was."""
        if self._evidence.new_pods.dry_run or self._evidence.new_pods.skipped_reason:
            return ""
        return f"policy engines were not asked about new pods (see {flag('probes.dry_run_pods')})"

    def _findings(self, pods: Iterable[NewPod]) -> list[Finding]:
        judged = [each for each in pods if not each.error]
        dry_run = self._evidence.new_pods.dry_run
        found = [finding for each in judged for finding in self._of(each)]
        # where the API server answered, its word on Pod Security counts
        insecure = () if dry_run else self._insecure(judged)
        return [*found, *insecure, *self._together(judged)]

    def _of(self, pod: NewPod) -> Iterator[Finding]:
        namespace = _namespace(pod)
        if pod.refused:
            yield _finding(
                pod,
                "injector-refuses",
                f"the injector refuses its new pods: {' '.join(pod.refused.split())}",
                "correct the annotations of its pod template",
            )
            return
        if pod.admission:
            yield _finding(
                pod,
                "admission-refuses",
                f"the API server refuses its new pods: {' '.join(pod.admission.split())}",
                "correct the pod template or the policy that is named",
            )
        complete = defaulted(pod, self._ranges.get(namespace, ()))
        for limit in () if self._evidence.new_pods.dry_run else self._ranges.get(namespace, ()):
            if words := list(broken_limits(complete, limit)):
                name = f"LimitRange {namespace}/{limit.metadata.name}"
                yield _finding(
                    pod,
                    "limit-range",
                    f"its new pods break {name}: {'; '.join(words)}",
                    f"change {name}, or set the resources of the sidecar by annotations "
                    "(sidecar.istio.io/proxyCPU, proxyMemory)",
                    about=(("limit-range", limit.metadata.name),),
                )
        for quota in self._quotas.get(namespace, ()):
            if not quotas.applies(quota, complete):
                continue
            words = [*quotas.missing(quota, complete), *self._exceeded(quota, complete)]
            if words:
                name = f"ResourceQuota {namespace}/{quota.metadata.name}"
                yield _finding(
                    pod,
                    "quota",
                    f"{name} refuses its new pods: {'; '.join(words)}",
                    f"raise the limits of {name}, or set the resources of the containers",
                    about=(("quota", quota.metadata.name),),
                )

    def _exceeded(self, quota: ResourceQuota, pod: NewPod) -> Iterator[str]:
        """Yield the resources of a quota that keep a workload's rollout from its end."""
        old, present = self._old(pod.workload), self._present(pod.workload)
        if pod.workload.startswith(ENDING):
            # its present pods end by themselves
            pod = msgspec.structs.replace(pod, unavailable=present)
        if pod.workload.startswith("Job "):
            # it waits until the quota has room: only a pod that never fits counts
            quota = msgspec.structs.replace(quota, status=ResourceQuotaStatus())
        return quotas.exceeded(quota, quotas.Rollout(pod, old, present))

    # --- Pod Security ---------------------------------------------------------------------------

    def _insecure(self, pods: Iterable[NewPod]) -> Iterator[Finding]:
        """Report violations of Pod Security, once where many workloads have the same."""
        labels = {e.metadata.name: e.metadata.labels for e in self._evidence.namespaces}
        found: defaultdict[tuple[str, str, str, bool], list[NewPod]] = defaultdict(list)
        for pod in pods:
            namespace = _namespace(pod)
            level, minor = pod_security.enforced(
                labels.get(namespace, {}), self._evidence.snapshot.kubernetes_version
            )
            if level and not pod.refused:
                violations = pod_security.violations(pod, level, minor)
                words = "; ".join(f"{each.control} ({each.words})" for each in violations)
                if words:
                    only = pod_security.injected_only(pod, violations)
                    found[namespace, level, words, only].append(pod)
        for (namespace, level, words, only), some in found.items():
            remedy = (
                "install the Istio CNI plugin, or change the label "
                if only
                else "change the pod template, or the label "
            ) + f"{pod_security.LABEL} of Namespace {namespace}"
            what = f'violate PodSecurity "{level}" of Namespace {namespace}: {words}'
            if len(some) < MANY:
                for pod in some:
                    yield _finding(pod, "pod-security", f"its new pods {what}", remedy)
            else:
                yield Finding(
                    f"Namespace {namespace}",
                    f"the new pods of {len(some)} workloads {what} (for example "
                    f"{some[0].workload})",
                    "pods that the API server accepts",
                    remedy,
                    problem="pod-security",
                )

    # --- quotas ---------------------------------------------------------------------------------

    def _together(self, pods: Iterable[NewPod]) -> Iterator[Finding]:
        """Report quotas that each rollout fits into, but not all of them."""
        by_namespace: defaultdict[str, list[NewPod]] = defaultdict(list)
        for pod in pods:
            if not pod.refused:
                by_namespace[_namespace(pod)].append(pod)
        for namespace, some in by_namespace.items():
            for quota in self._quotas.get(namespace, ()):
                yield from self._of_all(namespace, quota, some)

    def _of_all(
        self, namespace: str, quota: ResourceQuota, pods: Iterable[NewPod]
    ) -> Iterator[Finding]:
        ranges = self._ranges.get(namespace, ())
        more: defaultdict[str, Decimal] = defaultdict(Decimal)
        for pod in pods:
            complete = defaulted(pod, ranges)
            if not quotas.applies(quota, complete) or not _is_lasting(pod):
                continue
            present = self._present(pod.workload)
            old, new = self._old(pod.workload), quotas.usage(complete)
            if list(self._exceeded(quota, complete)):
                return  # reported for the workload
            for resource in new:
                own = old.get(resource, Decimal(0))
                more[resource] += (pod.replicas or present) * new[resource] - present * own
        for name, hard in quota.spec.hard.items():
            resource = quotas.counted_as(name)
            used = amount(quota.status.used.get(name, "0"))
            if more[resource] > 0 and used + more[resource] > amount(hard):
                yield Finding(
                    f"ResourceQuota {namespace}/{quota.metadata.name}",
                    f"a restart of all workloads needs {shown(more[resource], resource)} of "
                    f"{name} more than now: used {shown(used, resource)} of "
                    f"{shown(amount(hard), resource)}",
                    "a quota that the new sidecars fit into",
                    f"raise {name} of ResourceQuota {namespace}/{quota.metadata.name}",
                    problem="quota-of-all",
                    about=(("resource", name),),
                )

    @cached_property
    def _ranges(self) -> dict[str, list[LimitRange]]:
        found: defaultdict[str, list[LimitRange]] = defaultdict(list)
        for each in self._evidence.limit_ranges:
            found[each.metadata.namespace].append(each)
        return found

    @cached_property
    def _quotas(self) -> dict[str, list[ResourceQuota]]:
        found: defaultdict[str, list[ResourceQuota]] = defaultdict(list)
        for each in self._evidence.resource_quotas:
            found[each.metadata.namespace].append(each)
        return found

    @cached_property
    def _pods(self) -> dict[str, list[Pod]]:
        found: defaultdict[str, list[Pod]] = defaultdict(list)
        for pod in self._evidence.pods:
            if workloads.is_active(pod):
                found[workloads.owner(pod)].append(pod)
        return found

    def _present(self, workload: str) -> int:
        return len(self._pods.get(workload, ()))

    def _old(self, workload: str) -> Amounts:
        """Return what a present pod of a workload counts as."""
        found = self._pods.get(workload)
        return quotas.usage(_as_new(found[0])) if found else {}


def _as_new(pod: Pod) -> NewPod:
    return NewPod(
        workload="",
        containers=tuple(
            NewContainer(
                name=each.name,
                init=init,
                sidecar=init and (each.restart_policy == "Always" or each.name == workloads.PROXY),
                requests=_named(each.resources.requests),
                limits=_named(each.resources.limits),
            )
            for init, some in ((True, pod.spec.init_containers), (False, pod.spec.containers))
            for each in some
        ),
    )


def _named(limits: Limits) -> dict[str, str]:
    given = {"cpu": limits.cpu, "memory": limits.memory}
    return {name: quantity for name, quantity in given.items() if quantity}


def _finding(
    pod: NewPod, problem: str, seen: str, remedy: str, about: tuple[tuple[str, str], ...] = ()
) -> Finding:
    return Finding(
        pod.workload,
        seen,
        "pods that the API server accepts",
        remedy,
        problem=problem,
        about=about,
    )


def _namespace(pod: NewPod) -> str:
    return pod.workload.partition(" ")[2].partition("/")[0]


def _is_lasting(pod: NewPod) -> bool:
    return not pod.workload.startswith(ENDING)


def _creates(pod: NewPod) -> bool:
    """Return whether a restart or a schedule creates pods of the workload."""
    return pod.replicas > 0 or pod.workload.startswith(("DaemonSet ", "CronJob "))


def _more(pods: list[NewPod]) -> str:
    return f" and of {len(pods) - 1} more workloads" if len(pods) > 1 else ""
