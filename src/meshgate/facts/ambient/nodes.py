"""The nodes with pods in ambient mode: their CNI agents and ztunnels, and what these reach."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.ambient.membership import AmbientMesh
from meshgate.facts.cni_failures import sandbox_error
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.facts.tunnels import is_closed
from meshgate.semantics import pods, workloads
from meshgate.semantics.node_agents import DAEMON_SETS, ZTUNNEL, kind_of
from meshgate.snapshot.ambient import ZtunnelReading
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable, counted


class AmbientNodes:
    """Pods in ambient mode by their nodes, and the agents there."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._ambient = AmbientMesh(evidence)

    @property
    def count(self) -> int:
        """How many pods are in ambient mode."""
        return len(self._ambient.pods)

    @cached_property
    def _by_node(self) -> dict[str, list[Pod]]:
        """The pods in ambient mode that are on a node, by its name.

        Raises NotApplicable if no pod is in ambient mode, CouldNotVerify if the recording does not
        contain the node of a running pod.
        """
        if not self._ambient.pods:
            raise NotApplicable("no pod is in ambient mode")
        found: defaultdict[str, list[Pod]] = defaultdict(list)
        for pod in self._ambient.pods:
            if pod.spec.node_name:
                found[pod.spec.node_name].append(pod)
            elif pod.status.phase == "Running":
                raise CouldNotVerify(
                    f"the snapshot does not contain the node of {pods.name(pod)}",
                    "capture it again",
                )
        return dict(sorted(found.items()))

    # --- agents ---------------------------------------------------------------------------------

    def missing(self, kind: str) -> list[Finding]:
        """Return the nodes with pods in ambient mode where no agent is Ready.

        Args:
            kind: CNI or ZTUNNEL.
        """
        if not self._ambient.pods:
            return []
        agents: defaultdict[str, list[Pod]] = defaultdict(list)
        for pod in self._evidence.pods:
            if kind_of(pod.metadata.labels) == kind and workloads.is_active(pod):
                agents[pod.spec.node_name].append(pod)
        return [
            self._missing(kind, node, len(served), agents[node])
            for node, served in self._by_node.items()
            if not any(pods.ready(agent) for agent in agents[node])
        ]

    def _missing(self, kind: str, node: str, served: int, agents: list[Pod]) -> Finding:
        why = f": {pods.name(agents[0])} {pods.reason_not_ready(agents[0])}" if agents else ""
        name = DAEMON_SETS[kind]
        deployed = any(kind_of(each.metadata.labels) == kind for each in self._evidence.daemon_sets)
        return Finding(
            f"Node {node}",
            f"has {counted(served, 'pod')} in ambient mode and no Ready {name}{why}",
            f"a Ready pod of DaemonSet {name}",
            f"kubectl get pods -A -o wide -l app.kubernetes.io/name={kind}"
            if deployed
            else f"Install the DaemonSet {name}.",
            transient=deployed and not any(map(pods.fails_permanently, agents)),
            problem=f"no-{name}",
        )

    # --- pods -----------------------------------------------------------------------------------

    @property
    def unserved(self) -> list[Finding]:
        """Pods in ambient mode that cannot start, or whose traffic bypasses ztunnel."""
        _ = self._by_node
        return [finding for pod in self._ambient.pods for finding in self._pod(pod)]

    def _pod(self, pod: Pod) -> Iterator[Finding]:
        node = pod.spec.node_name
        if pod.status.phase == "Running" and not workloads.is_captured(pod):
            pending = pod.metadata.annotations.ambient
            yield pod_finding(
                pod,
                "is in ambient mode by its labels, but the CNI agent has not captured it"
                + (f" (redirection: {pending})" if pending else "")
                + ": its traffic bypasses ztunnel",
                "the annotation ambient.istio.io/redirection: enabled",
                workloads.restart_command(pod),
                problem="not-captured",
                transient=True,
            )
        elif (
            pod.status.phase == "Pending"
            and node
            and (why := sandbox_error(self._evidence.sandbox_events, pod))
        ):
            yield pod_finding(
                pod,
                f"cannot start on node {node}: {why}",
                "a running pod",
                f"kubectl -n {pod.metadata.namespace} describe pod {pod.metadata.name}",
                problem="no-sandbox",
                transient=True,
            )

    # --- what ztunnels serve --------------------------------------------------------------------

    @property
    def differing(self) -> list[Finding]:
        """Captured pods that no ztunnel serves, and ztunnels that serve fewer than were captured.

        Raises CouldNotVerify if nothing is wrong and a ztunnel did not report.
        """
        found, silent = list[Finding](), list[ZtunnelReading]()
        nodes = self._by_node  # first, as a mesh without such pods has no readings
        readings = {each.pod: each for each in self._evidence.ztunnels}
        for node, served in nodes.items():
            captured = list(filter(_is_served, served))
            for agent in self._ztunnels(node):
                name = f"{agent.metadata.namespace}/{agent.metadata.name}"
                reading = readings.get(name, ZtunnelReading(pod=name, error="it was not read"))
                if reading.error or reading.active is None:
                    silent.append(reading)
                elif reading.active < len(captured) or reading.pending:
                    found.append(_differing(agent, reading, len(captured)))
        found += self._without_hbone()
        if silent and not found:
            raise CouldNotVerify(
                f"Pod {silent[0].pod} did not report how many pods it serves: "
                + (silent[0].error or "its metrics do not contain it"),
                "allow the verifier to connect to port 15020 of ztunnel",
                transient=True,
            )
        return found

    def _without_hbone(self) -> Iterator[Finding]:
        """Yield the captured pods whose port 15008 is closed, where it was connected to."""
        probes = self._evidence.ambient_probes.probes
        closed = {each.pod for each in probes if is_closed(each)}
        for pod in self._ambient.pods:
            if f"{pod.metadata.namespace}/{pod.metadata.name}" in closed and _is_served(pod):
                yield pod_finding(
                    pod,
                    f"no ztunnel on node {pod.spec.node_name} serves it: port 15008 is closed",
                    "HBONE on port 15008",
                    workloads.restart_command(pod),
                    problem="no-hbone",
                    transient=True,
                )

    def _ztunnels(self, node: str) -> list[Pod]:
        return [
            pod
            for pod in self._evidence.pods
            if kind_of(pod.metadata.labels) == ZTUNNEL
            and workloads.is_active(pod)
            and pod.spec.node_name == node
            and pods.ready(pod)
        ]


def _is_served(pod: Pod) -> bool:
    """Return whether a ztunnel must serve a pod: it is captured, and Ready."""
    return workloads.is_captured(pod) and pod.status.phase == "Running" and pods.ready(pod)


def _differing(agent: Pod, reading: ZtunnelReading, captured: int) -> Finding:
    waiting = f", {reading.pending} waiting" if reading.pending else ""
    return pod_finding(
        agent,
        f"serves {reading.active} of {counted(captured, 'captured pod')} on node "
        f"{agent.spec.node_name}{waiting}",
        "every captured pod",
        f"kubectl -n {agent.metadata.namespace} logs {agent.metadata.name}",
        problem="pods-not-served",
        transient=True,
        node=agent.spec.node_name,
    )
