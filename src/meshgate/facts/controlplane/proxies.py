"""Proxies: what the pods promise, held against what istiod's replicas say."""

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.istio import EnvoyFilter
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import ContainerStatus, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class Proxies:
    """Sidecars, gateways, waypoints and ztunnels."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = ControlPlane(evidence)

    @cached_property
    def promised(self) -> dict[str, Pod]:
        """Pods that hold a proxy and are neither finished nor leaving, by `pod.namespace`."""
        return {
            f"{pod.metadata.name}.{pod.metadata.namespace}": pod
            for pod in self._evidence.pods
            if workloads.proxy(pod) and workloads.is_active(pod)
        }

    @cached_property
    def connected(self) -> dict[str, ProxySync]:
        """What istiod says of each proxy, over all replicas, by `pod.namespace`.

        A proxy that moved between replicas is listed twice for a while: the newest push counts.
        """
        newest: dict[str, ProxySync] = {}
        for reading in self._control_plane.answers:
            for proxy in reading.proxies:
                known = newest.get(proxy.proxy)
                if known is None or _last_sent(known) < _last_sent(proxy):
                    newest[proxy.proxy] = proxy
        return newest

    @property
    def disconnected(self) -> list[Finding]:
        """Pods whose proxy runs and that no istiod knows, or whose proxy does not run at all."""
        connected = self.connected
        if not self.promised:
            raise NotApplicable("no pod holds a proxy")
        return [
            finding
            for identity, pod in self.promised.items()
            if identity not in connected
            for finding in _disconnected(pod)
        ]

    @property
    def rejections(self) -> list[Finding]:
        """Proxies that said no to what istiod sent: they go on with what they had before."""
        return [
            Finding(
                _subject(proxy),
                f"rejected its {_short(type_url)} configuration: {_line(state.last_error)}",
                "every push accepted",
                self._suspects(proxy),
            )
            for proxy in self._seen.values()
            for type_url, state in proxy.resources.items()
            if state.last_error
        ]

    @property
    def stale(self) -> list[Finding]:
        """Proxies that leave a push unanswered: for too long, or since before we first looked.

        STALE for a moment is how every push begins; one that has been answered since is no finding.
        """
        limit = self._evidence.expectations.stale_after
        taken, started = self._evidence.snapshot.taken, self._evidence.snapshot.started
        seen = self._seen
        found = []
        for key, since in self._evidence.snapshot.unanswered_since.items():
            identity, _, type_url = key.partition("|")
            if (proxy := seen.get(identity)) is None:
                continue
            age = (taken - since).total_seconds()
            if age > limit or since <= started:
                found.append(
                    Finding(
                        _subject(proxy),
                        f"has not answered a {_short(type_url)} push for {age:.0f} s",
                        f"an answer within {limit:.0f} s",
                        "look at the proxy's log: until it answers it keeps its old configuration",
                        transient=age <= limit,
                    )
                )
        return found

    @property
    def _seen(self) -> dict[str, ProxySync]:
        """Connected proxies; nothing can be said of a mesh in which istiod knows none."""
        connected = self.connected
        if connected:
            return connected
        if self.promised:
            raise CouldNotVerify("istiod knows none of the proxies that run", transient=True)
        raise NotApplicable("no proxy is connected to istiod, and no pod holds one")

    def _suspects(self, proxy: ProxySync) -> str:
        """The EnvoyFilters that reach this proxy: one of them is the usual reason."""
        pod = self.promised.get(proxy.proxy)
        reaching = [
            f"{each.metadata.namespace}/{each.metadata.name}"
            for each in self._evidence.envoy_filters
            if pod and self._reaches(each, pod)
        ]
        if not reaching:
            return "no EnvoyFilter reaches it: compare its configuration with a healthy one's"
        names = ", ".join(sorted(reaching))
        return f"correct or remove the EnvoyFilter that brings this; these reach it: {names}"

    def _reaches(self, each: EnvoyFilter, pod: Pod) -> bool:
        selector = each.spec.workload_selector
        namespaces = (self._evidence.expectations.istio_namespace, pod.metadata.namespace)
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
            "its proxy runs and is connected to no istiod",
            "a connection to one of the replicas",
            f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} -c {PROXY}",
            transient=True,
        )
    elif pod.status.phase == "Running" or any(pods.waiting(pod)):
        yield Finding(
            pods.name(pod),
            f"its proxy does not run: {pods.trouble(pod)}",
            "a running proxy that is connected to istiod",
            f"kubectl -n {pod.metadata.namespace} describe pod {pod.metadata.name}",
            transient=not pods.hopeless(pod),
        )


def _subject(proxy: ProxySync) -> str:
    name, _, namespace = proxy.proxy.rpartition(".")
    return f"Pod {namespace}/{name}"


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]


def _line(error: str) -> str:
    return " ".join(error.split())


def _last_sent(proxy: ProxySync) -> float:
    times = [state.sent_time for state in proxy.resources.values() if state.sent_time]
    return max(map(datetime.timestamp, times), default=0.0)
