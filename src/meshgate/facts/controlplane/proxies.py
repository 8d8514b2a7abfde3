"""Proxies: the pods that contain one, compared with what istiod's replicas report."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import meshes, pods, workloads
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.istio import EnvoyFilter
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import ContainerStatus, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable, counted


class Proxies:
    """Sidecars, gateways, waypoints and ztunnels of this mesh in this cluster."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    @cached_property
    def promised(self) -> dict[str, Pod]:
        """Active pods that contain a proxy of this mesh, by `pod.namespace`."""
        return {
            f"{pod.metadata.name}.{pod.metadata.namespace}": pod
            for pod in self._evidence.pods
            if workloads.proxy(pod)
            and workloads.is_active(pod)
            and not self._evidence.own_mesh.is_foreign(pod)
        }

    @cached_property
    def connected(self) -> dict[str, ProxySync]:
        """What istiod reports about each proxy of this cluster, by `pod.namespace`.

        A proxy that moved between replicas is listed twice for a while: the newest push counts.
        """
        answers = self._control_plane.answers
        local = meshes.local_clusters(answers, self.promised, self._evidence.own_mesh.cluster_id)
        if len(local) > 1:
            raise CouldNotVerify(
                f"cannot determine the ID of this cluster: {' or '.join(sorted(local))}",
                "compare `istioctl proxy-status` with the pods of this cluster",
            )
        newest: dict[str, ProxySync] = {}
        for reading in answers:
            for proxy in reading.proxies:
                if local and proxy.cluster_id and proxy.cluster_id not in local:
                    continue
                known = newest.get(proxy.proxy)
                if known is None or _last_sent(known) < _last_sent(proxy):
                    newest[proxy.proxy] = proxy
        return newest

    @property
    def disconnected(self) -> list[Finding]:
        """Pods whose proxy is running but not connected, or whose proxy is not running."""
        connected = self.connected
        if not self.promised:
            raise NotApplicable("no pod contains a proxy")
        return [
            finding
            for identity, pod in self.promised.items()
            if identity not in connected
            for finding in _disconnected(pod)
        ]

    @property
    def on_lost_nodes(self) -> list[Finding]:
        """The nodes whose kubelet does not report: nothing is known of the proxies there."""
        by_node: Counter[str] = Counter(
            pod.spec.node_name for pod in self._evidence.on_lost_nodes() if workloads.proxy(pod)
        )
        return [
            Finding(
                f"Node {node}",
                f"its kubelet does not report: {counted(number, 'pod')} with a proxy there "
                f"{'was' if number == 1 else 'were'} not verified",
                "a node that is Ready",
                f"kubectl describe node {node}",
                problem="node-lost",
            )
            for node, number in sorted(by_node.items())
        ]

    @property
    def rejections(self) -> list[Finding]:
        """Proxies that rejected what istiod sent: they keep their previous configuration."""
        return [
            Finding(
                pods.name(pod),
                f"rejected its {_short(type_url)} configuration: {_line(state.last_error)}",
                "every push accepted",
                self._candidates(pod),
                problem="rejected-push",
                owner=workloads.owner(pod),
                # a proxy that rejects another part, or for another reason, has another problem
                about=(("error", _line(state.last_error)), ("type", _short(type_url))),
            )
            for pod, proxy in self._seen
            for type_url, state in proxy.resources.items()
            if state.last_error
        ]

    @property
    def stale(self) -> list[Finding]:
        """Proxies that leave a push unanswered: for too long, or since before the first look.

        Every push begins as STALE; a push that was acknowledged since is not a finding.
        """
        limit = self._evidence.expectations.stale_after
        taken, started = self._evidence.snapshot.taken, self._evidence.snapshot.started
        seen = {proxy.proxy: pod for pod, proxy in self._seen}
        found = []
        for key, since in self._evidence.snapshot.unanswered_since.items():
            identity, _, type_url = key.partition("|")
            if (pod := seen.get(identity)) is None:
                continue
            age = (taken - since).total_seconds()
            if age > limit or since <= started:
                found.append(
                    Finding(
                        pods.name(pod),
                        f"is STALE: {_short(type_url)} push unanswered for {age:.0f} s",
                        f"an answer within {limit:.0f} s",
                        f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} -c {PROXY}",
                        transient=age <= limit,
                        problem="stale",
                        owner=workloads.owner(pod),
                        about=(("type", _short(type_url)),),
                    )
                )
        return found

    @property
    def _seen(self) -> list[tuple[Pod, ProxySync]]:
        """Pods with what istiod reports about their proxies; at least one.

        Raises:
            CouldNotVerify: istiod knows none of them, or does not report what it sent to one.
            NotApplicable: there is no proxy.
        """
        connected = self.connected
        if not self.promised:
            raise NotApplicable("no pod contains a proxy")
        seen = [(pod, connected[key]) for key, pod in self.promised.items() if key in connected]
        if not seen:
            raise CouldNotVerify(
                "no proxy is connected to istiod",
                "istioctl proxy-status",
                transient=True,
            )
        for pod, proxy in seen:
            if not proxy.resources:
                raise CouldNotVerify(
                    f"istiod reports no configuration type for {pods.name(pod)}",
                    f"istioctl proxy-status {pod.metadata.name}.{pod.metadata.namespace}",
                    transient=True,
                )
        return seen

    def _candidates(self, pod: Pod) -> str:
        """Return the EnvoyFilters that apply to a pod: the most frequent cause of a rejection."""
        applying = [
            f"{each.metadata.namespace}/{each.metadata.name}"
            for each in self._evidence.envoy_filters
            if self._applies(each, pod)
        ]
        if not applying:
            return "no EnvoyFilter applies to it: compare its configuration with a healthy proxy's"
        names = ", ".join(sorted(applying))
        return f"if an EnvoyFilter causes this, correct or remove it; these apply to it: {names}"

    def _applies(self, each: EnvoyFilter, pod: Pod) -> bool:
        selector = each.spec.workload_selector
        namespaces = (self._evidence.own_mesh.root_namespace, pod.metadata.namespace)
        return each.metadata.namespace in namespaces and (
            selector is None or selector.labels.items() <= pod.metadata.labels.items()
        )


def _proxy_status(pod: Pod) -> ContainerStatus | None:
    return next((status for status in pods.statuses(pod) if status.name == PROXY), None)


def _disconnected(pod: Pod) -> Iterator[Finding]:
    status = _proxy_status(pod)
    if status is not None and status.state.running is not None:
        yield Finding(
            pods.name(pod),
            "its proxy is running but not connected to istiod",
            "a connection to one replica of istiod",
            f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} -c {PROXY}",
            transient=True,
            problem="disconnected",
            owner=workloads.owner(pod),
        )
    elif pod.status.phase == "Running" or any(pods.waiting(pod)):
        yield Finding(
            pods.name(pod),
            f"its proxy is not running: {pods.reason_not_ready(pod)}",
            "a running proxy that is connected to istiod",
            f"kubectl -n {pod.metadata.namespace} describe pod {pod.metadata.name}",
            transient=not pods.fails_permanently(pod),
            problem="proxy-not-running",
            owner=workloads.owner(pod),
        )


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]


def _line(error: str) -> str:
    return " ".join(error.split())


def _last_sent(proxy: ProxySync) -> float:
    times = [state.sent_time for state in proxy.resources.values() if state.sent_time]
    return max(map(datetime.timestamp, times), default=0.0)
