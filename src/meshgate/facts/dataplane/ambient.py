"""Pods in ambient mode: what their ports show to connections through HBONE."""

from collections.abc import Iterator
from functools import cached_property

import msgspec

from meshgate.facts.dataplane.pod_findings import not_probed, pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.facts.tunnels import need_signed, server_problems, timed_out, unanswered
from meshgate.semantics import pods, workloads
from meshgate.semantics.workloads import Port, ambient_ports, choose
from meshgate.settings import flag
from meshgate.snapshot.hbone import Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.model import Expectations
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

NOTHING_LISTENS, UNAUTHORIZED = 503, 401


class AmbientPorts:
    """The ports of pods in ambient mode, each with what connections to it showed."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def ports(self) -> list[Port]:
        """The ports to probe; port 0 stands for a pod without known ports.

        Raise NotApplicable if there are none.
        """
        return self._chosen(self._evidence.expectations)

    @cached_property
    def of_all_shards(self) -> list[Port]:
        """The same ports of all shards, as the first one probes them in plaintext."""
        return self._chosen(msgspec.structs.replace(self._evidence.expectations, shard=""))

    @cached_property
    def _every(self) -> list[Port]:
        seen = self._evidence
        namespaces = {each.metadata.name: each for each in seen.namespaces}
        return list(ambient_ports(seen.own_mesh.own(seen.pods), seen.services, namespaces))

    @property
    def unseen(self) -> list[Finding]:
        """What this run did not probe, counted, with the reason."""
        total = len(self._every)
        skipped = total - len(self.ports)
        return not_probed(skipped, total, self._evidence.expectations, "ports in ambient mode")

    def _chosen(self, asked: Expectations) -> list[Port]:
        every, found = self._every, choose(self._every, asked)
        if not found:
            raise NotApplicable(
                "every port of pods in ambient mode is excluded or belongs to another shard"
                if every
                else "no running pod is in ambient mode"
            )
        return found

    @cached_property
    def probes(self) -> TunnelProbes:
        """What was connected to; raise CouldNotVerify unless with a mesh certificate."""
        return need_signed(self._evidence.ambient_probes, self._evidence)

    @cached_property
    def pairs(self) -> list[tuple[Port, TunnelProbe]]:
        """Every port with its probe; raise CouldNotVerify if one was not probed."""
        ports = self.ports
        seen = {(each.pod, each.port): each for each in self.probes.probes}
        found = []
        for port in ports:
            metadata = port.pod.metadata
            probe = seen.get((f"{metadata.namespace}/{metadata.name}", port.number))
            if probe is None:
                raise CouldNotVerify(
                    f"{pods.name(port.pod)} was not probed through HBONE",
                    "capture it again",
                    transient=True,
                )
            found.append((port, probe))
        return found

    # --- HBONE ----------------------------------------------------------------------------------

    @property
    def broken(self) -> list[Finding]:
        """Pods that do not serve HBONE as themselves and only to the mesh, and closed ports.

        Raise CouldNotVerify if nothing is wrong, but something was not seen.
        """
        found = [each for pair in self.pairs for each in self._broken(*pair)]
        found += self._unreached
        if not found:
            self._need_answers()
        return list(dict.fromkeys(found))  # a pod serves the same on all ports

    def _broken(self, port: Port, probe: TunnelProbe) -> Iterator[Finding]:
        for each in server_problems(self._evidence, port.pod, probe, self.probes.identity):
            yield pod_finding(
                port.pod,
                each.seen,
                each.expected,
                workloads.restart_command(port.pod),
                problem=each.code,
                transient=True,  # a new pod's certificate, or a new root, takes a moment
            )
        yield from self._refused(port, probe.mesh)

    def _refused(self, port: Port, mesh: Tunnel | None) -> Iterator[Finding]:
        if mesh is None or (not port.number and mesh.end == "declined"):
            return
        where = f"port {port.number} " if port.number else ""
        seen = ""
        if mesh.end == "refused":
            seen = f"{where}refuses a certificate that istiod signed ({mesh.error or 'closed'})"
        elif mesh.end == "declined" and mesh.connect not in (NOTHING_LISTENS, UNAUTHORIZED):
            seen = f"{where}answers CONNECT with {mesh.connect}"
        elif mesh.end == "open" and port.http and not mesh.status and not timed_out(mesh):
            seen = f"{where}closes the connection of a mesh peer ({mesh.error or 'no answer'})"
        if seen:
            yield pod_finding(
                port.pod,
                seen,
                "an open connection",
                self._ztunnel,
                problem="refuses-mesh",
                transient=True,
                port=port.number,
            )

    @property
    def _unreached(self) -> list[Finding]:
        """Ready pods none of whose Service ports can be reached through HBONE."""
        found = []
        for pod, probes in self._by_pod().items():
            closed = [port for port, mesh in probes if mesh.connect == NOTHING_LISTENS]
            if closed and len(closed) == len(probes) and pods.ready(closed[0].pod):
                numbers = ", ".join(str(port.number) for port in closed)
                found.append(
                    pod_finding(
                        closed[0].pod,
                        f"no port can be reached through HBONE: CONNECT to {numbers} is answered "
                        f"{NOTHING_LISTENS}",
                        "an open connection to at least one port",
                        f"kubectl -n {pod.partition('/')[0]} describe pod {pod.partition('/')[2]}",
                        problem="no-port-reached",
                        transient=True,
                    )
                )
        return found

    @property
    def closed(self) -> list[Finding]:
        """Ports on which nothing listens, of pods that serve another port."""
        return [
            pod_finding(
                port.pod,
                f"port {port.number}: nothing listens (CONNECT is answered {NOTHING_LISTENS})",
                remedy="Remove the port from the pod and its Services if it is not used.",
                problem="nothing-listens",
                port=port.number,
            )
            for probes in self._by_pod().values()
            for port, mesh in probes
            if mesh.connect == NOTHING_LISTENS
            and any(each.connect != NOTHING_LISTENS for _, each in probes)
        ]

    def _by_pod(self) -> dict[str, list[tuple[Port, Tunnel]]]:
        found: dict[str, list[tuple[Port, Tunnel]]] = {}
        for port, probe in self.pairs:
            if port.number and probe.mesh is not None:
                found.setdefault(probe.pod, []).append((port, probe.mesh))
        return found

    def _need_answers(self) -> None:
        for port, probe in self.pairs:
            if reason := unanswered(probe):
                raise CouldNotVerify(
                    f"{pods.name(port.pod)} does not answer through HBONE ({reason})",
                    "allow the verifier's namespace in NetworkPolicies to port 15008, or exclude "
                    f"the pod ({flag('probes.exclude_port')})",
                    transient=True,
                )

    @property
    def _ztunnel(self) -> str:
        namespace = self._evidence.expectations.istio_namespace
        return f"kubectl -n {namespace} logs daemonset/ztunnel"
