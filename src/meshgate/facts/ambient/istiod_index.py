"""What istiod sends to ztunnels about the pods in ambient mode, compared with the pods."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.ambient.membership import AmbientMesh
from meshgate.facts.ambient.waypoint_bindings import WaypointBindings
from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.settings import flag
from meshgate.snapshot.ambient import AmbientReading, AmbientWorkload
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding

HBONE = "HBONE"


class IstiodIndex:
    """The workloads and Services that istiod's replicas send to ztunnels."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)
        self._ambient = AmbientMesh(evidence)
        self._bindings = WaypointBindings(evidence)

    @cached_property
    def replicas(self) -> dict[str, AmbientReading]:
        """What every running replica sends, by its pod.

        Raises NotApplicable if nothing is in ambient mode, CouldNotVerify if a replica does not
        report it.
        """
        self._ambient.need()
        self._control_plane.need_own()
        readings = {each.pod: each for each in self._evidence.ambient_index}
        found = {}
        for pod in self._control_plane.replicas:
            if pod.status.phase != "Running":
                continue
            reading = readings.get(pod.metadata.name)
            if reading is None or reading.denied or reading.error:
                why = (reading.denied or reading.error) if reading else "it was not read"
                raise CouldNotVerify(
                    f"{pods.name(pod)} did not report what it sends to ztunnels: {why}",
                    f"kubectl -n {pod.metadata.namespace} describe pod {pod.metadata.name}",
                    transient=reading is None or not reading.denied,
                )
            found[pods.name(pod)] = reading
        if not found:
            raise CouldNotVerify(
                f"no istiod pod is running in namespace {self._control_plane.namespace}",
                f"set {flag('criteria.istio_namespace')} to the namespace of istiod",
                transient=True,
            )
        return found

    @property
    def wrong(self) -> list[Finding]:
        """Replicas without ambient mode, and what clients would not reach as labels say.

        They would connect in plaintext, or to another waypoint or none.
        """
        found: dict[Finding, None] = {}
        for replica, reading in self.replicas.items():
            if not reading.workloads and not reading.services:
                found[self._disabled(replica)] = None
            else:
                found |= dict.fromkeys(self._compared(reading))
        return list(found)

    def _disabled(self, replica: str) -> Finding:
        return Finding(
            replica,
            f"ambient mode is disabled in istiod, but in use: {self._ambient.words}",
            "PILOT_ENABLE_AMBIENT=true",
            "Set pilot.env.PILOT_ENABLE_AMBIENT=true in istiod's chart, or its profile to ambient.",
            problem="ambient-disabled",
            owner=f"Deployment {self._control_plane.namespace}/istiod",
        )

    def _compared(self, reading: AmbientReading) -> Iterator[Finding]:
        local = self._evidence.own_mesh.cluster_id
        known = {
            (each.namespace, each.name): each
            for each in reading.workloads
            if not local or each.cluster_id in ("", local)
        }
        yield from self._bindings.wrong(reading, known)
        for pod in self._ambient.pods:
            # istiod follows the CNI agent's annotation: CP027 reports a pod without it
            if workloads.is_captured(pod) and pod.status.phase == "Running" and pod.status.pod_ip:
                yield from _pod(pod, known.get((pod.metadata.namespace, pod.metadata.name)))


def _pod(pod: Pod, workload: AmbientWorkload | None) -> Iterator[Finding]:
    if workload is not None and workload.tunnel_protocol == HBONE:
        return
    yield pod_finding(
        pod,
        "istiod does not send it to ztunnels: clients do not know that it is in ambient mode"
        if workload is None
        else "istiod makes clients connect to it in plaintext "
        f"(tunnel protocol: {workload.tunnel_protocol or 'NONE'})",
        HBONE,
        "istioctl ztunnel-config workloads",
        problem="not-hbone",
        transient=True,
    )
