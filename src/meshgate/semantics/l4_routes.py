"""The TCP and TLS routes of VirtualServices at a gateway.

As in pilot/pkg/networking/core/gateway.go: a TCP listener uses the first route that applies, and a
name of TLS (SNI) leads to the first route that has it.
"""

from typing import NamedTuple

from meshgate.semantics import virtual_services
from meshgate.semantics.hosts import common, concrete
from meshgate.semantics.listeners import Listener
from meshgate.semantics.planned import PlannedRequest
from meshgate.semantics.route_matches import applies
from meshgate.semantics.topology import GatewayTopology
from meshgate.semantics.virtual_services import destinations
from meshgate.snapshot.istio import TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualService


class L4Route(NamedTuple):
    """A TCP or TLS route at a listener.

    Attributes:
        owner: `VirtualService namespace/name`.
        name: the number of its rule.
        host: what it is for: a host of its VirtualService, or a name of TLS.
        planned: the connection that tests it.
        hidden_by: the route that is used instead.
    """

    owner: str
    name: str
    host: str
    planned: PlannedRequest
    hidden_by: "L4Route | None" = None


def routes(topology: GatewayTopology, listener: Listener) -> list[L4Route]:
    """Return the TCP and TLS routes of VirtualServices at a listener, the used ones first."""
    passed = listener.tls == "PASSTHROUGH"
    found = _tls(topology, listener) if passed else _tcp(topology, listener)
    return sorted(found, key=lambda each: each.hidden_by is not None)


def _tcp(topology: GatewayTopology, listener: Listener) -> list[L4Route]:
    gateway = virtual_services.client(topology, listener)
    found: list[L4Route] = []
    for service in virtual_services.bound(topology, listener):
        namespace = service.metadata.namespace
        own = virtual_services.own_hosts(topology, service)
        shared = virtual_services.hosts(listener.hosts_for(namespace), own)
        for number, rule in enumerate(service.spec.tcp if shared else ()):
            matches: list[TcpMatch] = [
                each for each in rule.match if applies(each, gateway, namespace)
            ]
            if rule.route and (matches or not rule.match):
                made = _made(topology, service, number, rule, shared[0])
                found.append(made._replace(hidden_by=found[0] if found else None))
    return found


def _tls(topology: GatewayTopology, listener: Listener) -> list[L4Route]:
    gateway = virtual_services.client(topology, listener)
    used: dict[str, L4Route] = {}
    found: list[L4Route] = []
    for service in virtual_services.bound(topology, listener):
        namespace = service.metadata.namespace
        for number, rule in enumerate(service.spec.tls):
            matches: list[TlsMatch] = [
                each for each in rule.match if applies(each, gateway, namespace)
            ]
            for host in [sni for match in matches for sni in match.sni_hosts]:
                if any(common(host, each) for each in listener.hosts_for(namespace)):
                    made = _made(topology, service, number, rule, host)
                    found.append(made._replace(hidden_by=used.get(host)))
                    used.setdefault(host, made)
    return found


def _made(
    topology: GatewayTopology,
    service: VirtualService,
    number: int,
    rule: TcpRoute | TlsRoute,
    host: str,
) -> L4Route:
    """Return one route.

    Args:
        topology: the gateways.
        service: its VirtualService.
        number: of the rule there.
        rule: the rule.
        host: what it is for.
    """
    namespace = service.metadata.namespace
    subject = f"VirtualService {namespace}/{service.metadata.name}"
    backends = destinations(rule.route, namespace, topology.lists.domain)
    planned = PlannedRequest(concrete(host), route=subject, backends=backends)
    return L4Route(subject, str(number), host, planned)
