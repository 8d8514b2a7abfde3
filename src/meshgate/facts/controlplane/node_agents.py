"""The CNI plugin and ztunnel: rolled out on every node, and of a version that istiod supports."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.dataplane.pod_findings import target
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.node_agents import ZTUNNEL, is_supported, kind_of, version_of
from meshgate.semantics.versions import Target, Version
from meshgate.snapshot.kubernetes import Controller, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class NodeAgents:
    """Istio's DaemonSets."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)
        self._proxies = evidence.facts(Proxies)

    @cached_property
    def daemon_sets(self) -> list[Controller]:
        """Those of the CNI plugin and of ztunnel."""
        return [each for each in self._evidence.daemon_sets if kind_of(each.metadata.labels)]

    @cached_property
    def _istiod(self) -> Version:
        """The newest version that a replica of istiod reports."""
        found = (Version.parse(each.version) for each in self._control_plane.answers)
        versions = [version for version in found if version]
        if not versions:
            raise CouldNotVerify(
                "no replica of istiod reports its version",
                f"kubectl -n {self._control_plane.namespace} get pods -l app=istiod",
                transient=True,
            )
        return max(versions)

    @property
    def broken(self) -> list[Finding]:
        """DaemonSets that are not rolled out, or whose version istiod does not support."""
        if not self.daemon_sets and not self.ztunnels:
            raise NotApplicable("there is no istio-cni or ztunnel DaemonSet")
        wrong = [finding for finding, supported in self._other_versions if not supported]
        return self.unfinished + wrong

    @property
    def behind(self) -> list[Finding]:
        """DaemonSets of another version that istiod supports: they should be upgraded next."""
        return [finding for finding, supported in self._other_versions if supported]

    def of(self, kind: str) -> list[Controller]:
        """Return the DaemonSets of one kind, CNI or ZTUNNEL."""
        return [each for each in self.daemon_sets if kind_of(each.metadata.labels) == kind]

    def not_at_target(self, kind: str) -> list[Finding]:
        """Return the DaemonSets of one kind that are not rolled out in the target version.

        Without `--target-version` it is istiod's.
        """
        wanted = target(self._evidence) or Target(self._istiod)
        found = [finding for each in self.of(kind) for finding in self._rollout(each)]
        for each in self.of(kind):
            version = version_of_set(each)
            if not wanted.met_by(version):
                subject = subject_of(each)
                found.append(
                    Finding(
                        subject,
                        f"is of version {version}",
                        f"{wanted}",
                        f"upgrade {subject} to {wanted}",
                        problem="wrong-version",
                        about=(("version", str(version)),),
                    )
                )
        return found

    @property
    def unfinished(self) -> list[Finding]:
        """DaemonSets that are not rolled out."""
        return [finding for each in self.daemon_sets for finding in self._rollout(each)]

    # --- rollout --------------------------------------------------------------------------------

    def _rollout(self, each: Controller) -> Iterator[Finding]:
        subject = subject_of(each)
        describe = f"kubectl -n {each.metadata.namespace} describe daemonset/{each.metadata.name}"
        status = each.status
        if status is None:
            raise CouldNotVerify(f"the snapshot has no status of {subject}", "capture it again")
        failing = [
            pod
            for pod in self._evidence.pods
            if workloads.owner(pod) == subject and pods.fails_permanently(pod)
        ]
        current = status.observed_generation >= each.metadata.generation
        wanted, updated = status.desired_number_scheduled, status.updated_number_scheduled
        least = wanted - self._on_lost_nodes(subject)
        if not (current and least <= updated <= wanted and least <= status.number_available):
            yield Finding(
                subject,
                f"is not rolled out: {updated} of {wanted} pods updated, "
                f"{status.number_available} available"
                + "".join(
                    f"; {pods.name(pod)}: {pods.reason_not_ready(pod)}" for pod in failing[:1]
                ),
                f"{wanted} pods, all updated and available",
                describe,
                transient=not failing and each.spec.update_strategy.type != "OnDelete",
                problem="not-rolled-out",
            )

    def _on_lost_nodes(self, subject: str) -> int:
        """Return how many pods of a DaemonSet are on nodes whose kubelet does not report."""
        found = self._evidence.on_lost_nodes()
        return sum(workloads.owner(pod) == subject for pod in found)

    # --- versions -------------------------------------------------------------------------------

    @cached_property
    def ztunnels(self) -> list[Pod]:
        """Active ztunnel pods that no DaemonSet accounts for."""
        owners = {subject_of(each) for each in self.daemon_sets}
        return [
            pod
            for pod in self._proxies.promised.values()
            if kind_of(pod.metadata.labels) == ZTUNNEL and workloads.owner(pod) not in owners
        ]

    @cached_property
    def _other_versions(self) -> list[tuple[Finding, bool]]:
        """Agents of another version than istiod, and whether istiod supports that."""
        try:
            return [
                (self._other(subject, owner, version), is_supported(version, self._istiod))
                for subject, owner, version in self._versions()
                if version != self._istiod
            ]
        except CouldNotVerify:
            if self.unfinished:  # that is known without any version
                return []
            raise

    def _versions(self) -> Iterator[tuple[str, str, Version]]:
        """Each DaemonSet, and each ztunnel without one: its name, its owner and its version."""
        for each in self.daemon_sets:
            if each.status and each.status.desired_number_scheduled == 0:
                continue  # it runs nowhere
            yield subject_of(each), "", version_of_set(each)
        connected = self._proxies.connected
        for pod in self.ztunnels:
            known = connected.get(f"{pod.metadata.name}.{pod.metadata.namespace}")
            container = workloads.proxy(pod)
            version = (Version.parse(known.istio_version) if known else None) or (
                Version.of_image(container.image) if container else None
            )
            if version is None:
                raise CouldNotVerify(f"cannot determine the version of {pods.name(pod)}")
            yield pods.name(pod), workloads.owner(pod), version

    def _other(self, subject: str, owner: str, version: Version) -> Finding:
        return Finding(
            subject,
            f"is of version {version}, but istiod is {self._istiod}",
            f"{self._istiod}",
            f"upgrade {owner or subject} to {self._istiod}",
            problem="wrong-version",
            owner=owner,
            about=(("version", str(version)),),
        )


def version_of_set(each: Controller) -> Version:
    """Return the version of a DaemonSet; raise CouldNotVerify if it names none."""
    if (version := version_of(each)) is None:
        raise CouldNotVerify(
            f"cannot determine the version of {subject_of(each)}: neither its image's tag nor its "
            "labels name one",
            f"set the label app.kubernetes.io/version on {subject_of(each)}",
        )
    return version


def subject_of(each: Controller) -> str:
    """Return `DaemonSet namespace/name`."""
    return f"DaemonSet {each.metadata.namespace}/{each.metadata.name}"
