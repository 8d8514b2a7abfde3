"""Ztunnels and waypoints: the istiod that each is connected to, and its version."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.meshes import revision
from meshgate.semantics.node_agents import ZTUNNEL, kind_of
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import Finding, NotApplicable


class AmbientProxies:
    """The ztunnels and waypoints of this mesh, by what istiod reports about them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)
        self._proxies = evidence.facts(Proxies)

    @cached_property
    def all(self) -> dict[str, Pod]:
        """Them by `pod.namespace`; raise NotApplicable if there are none."""
        found = {
            identity: pod
            for identity, pod in self._proxies.promised.items()
            if workloads.is_ambient_proxy(pod)
        }
        if not found:
            raise NotApplicable("no ztunnel and no waypoint is running")
        return found

    @property
    def disconnected(self) -> list[Finding]:
        """Those that are not connected to istiod, or only to one of another revision."""
        names = {pods.name(pod) for pod in self.all.values()}
        lost = [each for each in self._proxies.disconnected if each.subject in names]
        return [*lost, *self._of_another_revision()]

    @property
    def disconnected_ztunnels(self) -> list[Finding]:
        """The same of ztunnels only; none if no ztunnel is running."""
        names = {
            pods.name(pod)
            for pod in self._proxies.promised.values()
            if kind_of(pod.metadata.labels) == ZTUNNEL
        }
        return [each for each in self.disconnected if each.subject in names] if names else []

    def _of_another_revision(self) -> Iterator[Finding]:
        replicas = {pod.metadata.name: pod for pod in self._control_plane.replicas}
        revisions = {revision(pod.metadata.labels) for pod in replicas.values()}
        connections: defaultdict[str, list[Pod]] = defaultdict(list)
        for reading in self._control_plane.answers:
            for proxy in reading.proxies:
                known = self._proxies.connected.get(proxy.proxy)
                if known and known.cluster_id == proxy.cluster_id and reading.pod in replicas:
                    connections[proxy.proxy].append(replicas[reading.pod])
        for identity, pod in self.all.items():
            wanted = workloads.injected_revision(pod)
            used = connections.get(identity, [])
            # a tag is not an istiod's revision; several replicas list a proxy while it moves
            if wanted not in revisions or not used:
                continue
            if all(revision(each.metadata.labels) != wanted for each in used):
                yield pod_finding(
                    pod,
                    f"is connected to {pods.name(used[0])}, an istiod of revision "
                    f"{revision(used[0].metadata.labels)}",
                    f"an istiod of revision {wanted}",
                    workloads.restart_command(pod),
                    problem="wrong-istiod",
                    transient=True,
                )
