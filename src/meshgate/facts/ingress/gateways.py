"""The gateways and the traffic that was sent through them: what every fact of stage C shares."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics.hosts import covers
from meshgate.semantics.topology import GatewayTopology, Listener, RoutingConfig
from meshgate.snapshot.ingress import Exchange, Ingress
from meshgate.verdict import CouldNotVerify, NotApplicable


class IngressGateways:
    """All gateways of either API, their listeners, and what was sent to them."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def topology(self) -> GatewayTopology:
        """The listeners and what serves them; raise NotApplicable if there are none."""
        seen = self.evidence
        topology = GatewayTopology(RoutingConfig.of(seen, seen.own_mesh))
        if not topology.listeners:
            others = len(seen.gateways) + len(seen.api_gateways)
            raise NotApplicable(
                f"Istio serves none of the {others} Gateways" if others else "no Gateway exists"
            )
        return topology

    @cached_property
    def traffic(self) -> Ingress:
        """What was sent; raise CouldNotVerify if less was sent than required."""
        traffic = self.evidence.ingress
        for vantage in traffic.vantages:
            if vantage.unused and vantage.name in self.evidence.expectations.vantages:
                raise CouldNotVerify(
                    f"nothing was sent from {vantage.name}: {vantage.unused}",
                    "name an address with --ingress-url, or choose another --vantage",
                )
        if traffic.unsent:
            raise CouldNotVerify(
                f"{len(traffic.unsent)} of the planned requests were not sent within the limits, "
                f"the first of them {traffic.unsent[0].url}",
                "raise --ingress-limit, --ingress-rate or --ingress-deadline",
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
            there = servers.get((request.gateway, request.port, request.tls), [])
            if serving := _serving(there, request.host):
                found.append((each, serving))
        return found

    def exchanges(self) -> Iterator[tuple[Exchange, Listener]]:
        """Return all that was sent, each with the listener that its host belongs to."""
        yield from self._exchanges

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
