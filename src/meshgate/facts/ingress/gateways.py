"""The gateways and the traffic that was sent through them: what every fact of stage C shares."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.hosts import covers
from meshgate.semantics.topology import GatewayTopology, Listener, RoutingConfig
from meshgate.settings import flag
from meshgate.snapshot.ingress import OUTSIDE, Exchange, Ingress, Request
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, NotApplicable


class IngressGateways:
    """All gateways of either API, their listeners, and what was sent to them."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def all(self) -> GatewayTopology:
        """The listeners and what serves them, even if there are none."""
        return GatewayTopology(RoutingConfig.of(self.evidence, self.evidence.own_mesh))

    @property
    def topology(self) -> GatewayTopology:
        """The listeners and what serves them; raise NotApplicable if there are none."""
        if not self.all.listeners:
            seen = self.evidence
            others = len(seen.gateways) + len(seen.api_gateways)
            raise NotApplicable(
                f"Istio serves none of the {others} Gateways" if others else "no Gateway exists"
            )
        return self.all

    @cached_property
    def unselected(self) -> list[Pod]:
        """The running gateway pods of this mesh that no Gateway selects.

        They may serve Kubernetes Ingress objects, or have been forgotten (an egress gateway).
        """
        selected = {pods.name(pod) for each in self.all.listeners for pod in self.all.pods_of(each)}
        return [
            pod
            for pod in self.evidence.own_mesh.own(self.evidence.pods)
            if workloads.is_active(pod)
            and workloads.proxy(pod) is not None
            and workloads.is_gateway(pod)
            and not workloads.is_ambient_proxy(pod)
            and pods.name(pod) not in selected
        ]

    @cached_property
    def traffic(self) -> Ingress:
        """What was sent; raise CouldNotVerify if less was sent than required."""
        traffic = self.evidence.ingress
        for vantage in traffic.vantages:
            if vantage.unused and vantage.name in self.evidence.expectations.vantages:
                raise CouldNotVerify(
                    f"nothing was sent from {vantage.name}: {vantage.unused}",
                    f"name an address with {flag('ingress.urls')}, or choose another "
                    f"{flag('ingress.vantage')}",
                )
        if traffic.unsent:
            raise CouldNotVerify(
                f"{len(traffic.unsent)} of the planned requests were not sent within the limits, "
                f"the first of them {traffic.unsent[0].url}",
                f"raise {flag('ingress.limit')}, {flag('ingress.rate')} or "
                f"{flag('ingress.deadline')}",
            )
        return traffic

    @cached_property
    def _exchanges(self) -> list[tuple[Exchange, Listener]]:
        servers: dict[tuple[str, int, str], list[Listener]] = {}
        for listener in self.topology.listeners:
            where = (listener.subject, listener.port, listener.tls)
            servers.setdefault(where, []).append(listener)
        found = []
        for each in self.traffic.exchanges:
            request = each.request
            there = [
                listener
                for listener in servers.get((request.gateway, request.port, request.tls), [])
                if not listener.service or _enters(request, listener.service)
            ]
            if serving := _serving(there, request.host):
                found.append((each, serving))
        return found

    def exchanges(self) -> Iterator[tuple[Exchange, Listener]]:
        """Return all that was sent, each with the listener that its host belongs to."""
        yield from self._exchanges

    @cached_property
    def reached_from_outside(self) -> frozenset[str]:
        """The Services (`Service namespace/name`) that answered a request from outside."""
        return frozenset(
            each.request.service
            for each in self.evidence.ingress.exchanges
            if each.request.vantage == OUTSIDE and (each.alert or not each.error)
        )

    @cached_property
    def anonymous(self) -> frozenset[str]:
        """The Services whose gateway does not show whether it or a backend answered.

        Envoy leaves its headers out if `envoyDebugHeaders` are disabled: then even a good answer
        has none.
        """
        shown, hidden = set(), set()
        for seen, _ in self._exchanges:
            request = seen.request
            if seen.upstream:
                shown.add(request.service)
            elif 200 <= seen.status < 400 and not request.expected and "envoy" in seen.server:
                hidden.add(request.service)
        return frozenset(hidden - shown)


def _enters(request: Request, service: str) -> bool:
    """Return whether a request enters through a Service, or its pods' own ports on their nodes."""
    kind, _, name = request.service.partition(" ")
    return kind != "Service" or name.partition(" ")[0] == service


def _serving(listeners: list[Listener], host: str) -> Listener | None:
    """Return the listener with the most specific host that covers a name."""
    fitting = [
        (pattern == host, len(pattern), listener)
        for listener in listeners
        for pattern in listener.hosts
        if covers(pattern, host)
    ]
    if fitting:
        return max(fitting, key=lambda each: each[:2])[2]
    return listeners[0] if listeners else None
