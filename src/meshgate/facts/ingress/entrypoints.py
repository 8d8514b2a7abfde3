"""Whether a Service with ready endpoints leads to every listener."""

from collections.abc import Iterator

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.listeners import Listener
from meshgate.semantics.topology import Entrypoint
from meshgate.settings import flag
from meshgate.verdict import Finding


class GatewayEntrypoints:
    """The Services and node ports in front of the gateways."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    @property
    def unserved(self) -> list[Finding]:
        """Listeners that no Service's port leads to, or one without a ready endpoint."""
        topology = self._ingress.topology
        found: dict[Finding, None] = {}
        for listener in topology.listeners:
            services = topology.services_of(listener)
            if not services and not topology.pods_of(listener):
                continue  # the gateway itself does not exist: IG001 reports that
            entrypoints = topology.entrypoints(listener)
            if not entrypoints:
                names = [f"{each.metadata.namespace}/{each.metadata.name}" for each in services]
                found[_without_service(listener, names)] = None
            for entrypoint in entrypoints:
                found |= dict.fromkeys(_without_endpoint(entrypoint))
        return list(found)

    @property
    def addressless(self) -> list[Finding]:
        """LoadBalancers without an address that were not reached from outside another way."""
        topology, reached = self._ingress.topology, self._ingress.reached_from_outside
        services = {
            f"Service {each.metadata.namespace}/{each.metadata.name}": each
            for listener in topology.listeners
            for each in topology.services_of(listener)
        }
        return [
            Finding(
                subject,
                "LoadBalancer has no external address",
                "an address",
                f"pass {flag('ingress.urls')} if it is reachable otherwise",
                problem="no-address",
            )
            for subject, each in services.items()
            if each.spec.type == "LoadBalancer"
            and not each.status.load_balancer.ingress
            and subject not in reached
        ]


def _without_service(listener: Listener, services: list[str]) -> Finding:
    names = ", ".join(services) or "none"
    return Finding(
        listener.words,
        f"no Service exposes port {listener.port} (found: {names}), and no hostPort is set",
        f"a Service with port {listener.port}",
        f"kubectl -n {services[0].partition('/')[0]} edit service {services[0].partition('/')[2]}"
        if services
        else f"create a Service with port {listener.port} for the gateway's pods",
        problem="no-service-port",
        about=(("port", str(listener.port)),),
    )


def _without_endpoint(entrypoint: Entrypoint) -> Iterator[Finding]:
    if entrypoint.backends:
        return
    kind, _, name = entrypoint.subject.partition(" ")
    namespace, _, name = name.partition("/")
    yield Finding(
        entrypoint.subject,
        f"port {entrypoint.port} (targetPort {entrypoint.target}) has no ready endpoint",
        "a ready pod of the gateway",
        f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"
        if kind == "Service"
        else "look at the gateway's pods, which open this port on their nodes",
        transient=True,
        problem="no-endpoint",
        about=(("port", str(entrypoint.port)),),
    )
