"""Gateways as Istio builds them: which pods and Services serve which listener.

Works on lists rather than on Evidence, because probes plan with it what they send.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from meshgate.semantics import workloads
from meshgate.semantics.api_listeners import api_listeners, has_proxy
from meshgate.semantics.config_revisions import LABEL, applies_to
from meshgate.semantics.hosts import fully_qualified
from meshgate.semantics.listeners import (
    HTTP,
    TLS,
    VERSIONS,
    Listener,
    age,
    of_server,
)
from meshgate.semantics.pods import ready
from meshgate.semantics.routing_config import RoutingConfig
from meshgate.semantics.webhooks import Backend
from meshgate.snapshot.kubernetes import (
    Deployment,
    EndpointSlice,
    Metadata,
    Pod,
    PodSpec,
    Service,
    ServicePort,
)

__all__ = ["HTTP", "TLS", "VERSIONS", "Entrypoint", "GatewayTopology", "Listener", "RoutingConfig"]


# Knative's label of Services whose ports no server of an Istio Gateway names.
UNTRANSLATED = "experimental.istio.io/disable-gateway-port-translation"


class Entrypoint(NamedTuple):
    """A port that leads to a listener: a Service's, or the gateway's own on its nodes.

    `addresses` are the Service's from inside, `outside` its LoadBalancer's; `backends` the ready
    endpoints behind it, on their port `target`.
    """

    subject: str
    port: int
    target: int | str
    backends: tuple[Backend, ...]
    node_port: int = 0
    addresses: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


class GatewayTopology:
    """All listeners of all gateways that this mesh serves."""

    def __init__(self, lists: RoutingConfig) -> None:
        self.lists = lists
        # what other modules derive from the lists, by a key of theirs: derived once
        self.memo: dict[Any, Any] = {}

    @cached_property
    def listeners(self) -> list[Listener]:
        """Return every listener, by Gateway and port."""
        return sorted([*self.classic, *api_listeners(self.lists)], key=lambda each: each[:6])

    @cached_property
    def classic(self) -> list[Listener]:
        """Return the listeners of Istio's own API, the oldest Gateway first."""
        return list(self._classic())

    def _classic(self) -> Iterator[Listener]:
        for gateway in sorted(self.lists.gateways, key=lambda each: age(each.metadata)):
            for server in gateway.spec.servers:
                listener = of_server(gateway, server, self.lists.least_tls)
                scope = self.lists.scope_of(gateway)
                yield listener._replace(scope=scope)

    @cached_property
    def _services(self) -> dict[str, Service]:
        return {
            f"{each.metadata.namespace}/{each.metadata.name}": each for each in self.lists.services
        }

    def deployments_of(self, listener: Listener) -> list[Deployment]:
        """Return the Deployments whose pods it selects; all gateways' without a selector."""
        if listener.service and not listener.selector:
            return []
        return [
            each
            for each in self.lists.deployments
            if _within(each.metadata.namespace, listener.scope)
            and (listener.selector or has_proxy(each.spec.template.spec))
            and listener.selector.items() <= each.spec.template.metadata.labels.items()
        ]

    def pods_of(self, listener: Listener) -> list[Pod]:
        """Return the pods that it selects, except those that are terminating or have ended.

        A Gateway without a selector is for all gateways, and never for sidecars.
        """
        if listener.service and not listener.selector:
            return []
        return [
            each
            for each in self.lists.pods
            if _within(each.metadata.namespace, listener.scope)
            and each.metadata.deletion_timestamp is None
            and each.status.phase not in ("Succeeded", "Failed")
            and (listener.selector or _is_gateway(each))
            and listener.selector.items() <= each.metadata.labels.items()
        ]

    def is_read(self, config: Metadata, listener: Listener) -> bool:
        """Return whether the istiod of one of a listener's pods reads an object (istio.io/rev)."""
        if LABEL not in config.labels:
            return True
        found = self.pods_of(listener)
        return not found or any(applies_to(config, each) for each in found)

    def served_by(self, listener: Listener) -> frozenset[str]:
        """Return the names of the pods and Deployments that serve a listener."""
        key = ("served by", tuple(sorted(listener.selector.items())), listener.scope)
        if key not in self.memo:
            self.memo[key] = frozenset(
                [f"Pod {_name(each.metadata)}" for each in self.pods_of(listener)]
                + [f"Deployment {_name(each.metadata)}" for each in self.deployments_of(listener)]
            )
        found: frozenset[str] = self.memo[key]
        return found

    def namespaces_of(self, listener: Listener) -> set[str]:
        """Return the namespaces of its pods or Deployments."""
        found = {each.metadata.namespace for each in self.pods_of(listener)}
        return found | {each.metadata.namespace for each in self.deployments_of(listener)}

    def labels_of(self, listener: Listener) -> Mapping[str, str]:
        """Return the labels of its pods, or of what would be its pods."""
        for pod in self.pods_of(listener):
            return pod.metadata.labels
        for deployment in self.deployments_of(listener):
            return deployment.spec.template.metadata.labels
        return listener.selector

    def templates_of(self, listener: Listener) -> list[tuple[str, Mapping[str, str]]]:
        """Return namespace and labels of each of its pods and of its Deployments' next ones."""
        there: list[tuple[str, Mapping[str, str]]] = [
            (pod.metadata.namespace, pod.metadata.labels) for pod in self.pods_of(listener)
        ]
        there += [
            (each.metadata.namespace, each.spec.template.metadata.labels)
            for each in self.deployments_of(listener)
        ]
        return there

    def services_of(self, listener: Listener) -> list[Service]:
        """Return the Services in front of its pods, whatever their ports."""
        if listener.service:
            service = self._services.get(listener.service)
            return [service] if service else []
        there = self.templates_of(listener)
        return [
            service
            for service in self.lists.services
            if service.spec.selector
            and any(
                service.metadata.namespace == namespace
                and service.spec.selector.items() <= labels.items()
                for namespace, labels in there
            )
        ]

    def entrypoints(self, listener: Listener) -> list[Entrypoint]:
        """Return what leads to it: Service ports, or without any the nodes' own.

        The number of a server is a Service's port.  If no Service has that port it is the pod's
        own, and the Service ports that lead to it count, as always for Services with a label.
        """
        ports = [
            (service, port)
            for service in self.services_of(listener)
            if listener.api or UNTRANSLATED not in service.metadata.labels
            for port in service.spec.ports
            if port.port == listener.port
        ]
        if not ports:
            pods = self.pods_of(listener)
            ports = [
                (service, port)
                for service in self.services_of(listener)
                for port in service.spec.ports
                if port.target_port == listener.port
                or any(workloads.target(port, pod) == listener.port for pod in pods)
            ]
        return [self._entrypoint(*each) for each in ports] or self._on_nodes(listener)

    def _entrypoint(self, service: Service, port: ServicePort) -> Entrypoint:
        return Entrypoint(
            f"Service {service.metadata.namespace}/{service.metadata.name}",
            port.port,
            port.target_port,
            self._backends(service, port.name),
            port.node_port,
            tuple(each for each in service.spec.cluster_ips if each != "None"),
            tuple(each.ip or each.hostname for each in service.status.load_balancer.ingress),
        )

    def _on_nodes(self, listener: Listener) -> list[Entrypoint]:
        """Without a Service's port Envoy listens on the server's own: reachable on the node."""
        replicas = self.pods_of(listener)
        specs = [each.spec for each in replicas]
        specs += [each.spec.template.spec for each in self.deployments_of(listener)]
        ports = {port for spec in specs if (port := _node_port(spec, listener.port))}
        backends = sorted(
            Backend(pod.metadata.namespace, pod.metadata.name, pod.status.pod_ip, listener.port)
            for pod in replicas
            if ready(pod) and _node_port(pod.spec, listener.port)
        )
        return [
            Entrypoint(listener.subject, listener.port, listener.port, tuple(backends), port)
            for port in sorted(ports)
        ]

    @cached_property
    def _slices(self) -> dict[tuple[str, str], list[EndpointSlice]]:
        found: dict[tuple[str, str], list[EndpointSlice]] = {}
        for each in self.lists.slices:
            name = each.metadata.labels.get("kubernetes.io/service-name", "")
            found.setdefault((each.metadata.namespace, name), []).append(each)
        return found

    def _backends(self, service: Service, port_name: str) -> tuple[Backend, ...]:
        metadata = service.metadata
        return tuple(
            sorted(
                Backend(
                    metadata.namespace,
                    endpoint.target_ref.name if endpoint.target_ref else endpoint.addresses[0],
                    endpoint.addresses[0],
                    port.port,
                )
                for each in self._slices.get((metadata.namespace, metadata.name), ())
                for endpoint in each.endpoints or ()
                if endpoint.addresses and endpoint.conditions.ready is not False
                for port in each.ports or ()
                if port.name == port_name and port.port
            )
        )

    @cached_property
    def _ports(self) -> dict[str, tuple[Service, ServicePort]]:
        return {
            f"{each.metadata.name}.{each.metadata.namespace}.svc.{self.lists.domain}:{port.port}": (
                each,
                port,
            )
            for each in self.lists.services
            for port in each.spec.ports
        }

    def service_of(self, host: str) -> Service | None:
        """Return the Service behind a fully qualified host, without a port."""
        name, _, rest = host.partition(".")
        namespace, _, domain = rest.partition(".")
        return self._services.get(f"{namespace}/{name}") if domain.startswith("svc") else None

    def intended_service(self, host: str) -> Service | None:
        """Return the Service that `name.namespace` may refer to, which Istio does not resolve."""
        name, _, namespace = host.partition(".")
        namespace = namespace.removesuffix(".svc")
        if "." in namespace:
            return None
        return self._services.get(f"{namespace}/{name}")

    def without_endpoints(self, backend: str) -> bool:
        """Return whether a backend (`host:port`) is a Service's port without a ready endpoint."""
        found = self._ports.get(backend.partition("|")[0])
        if found is None:
            return False
        service, port = found
        return bool(service.spec.selector) and not self._backends(service, port.name)

    def speak_grpc(self, backends: Sequence[str]) -> bool:
        """Return whether the Services of all backends (`host:port`) declare gRPC."""
        found = [self._ports.get(each.partition("|")[0]) for each in backends]
        return bool(found) and all(each is not None and _grpc(each[1]) for each in found)

    def subset_missing(self, host: str, subset: str) -> bool:
        """Return whether no DestinationRule defines this subset of a host."""
        return bool(subset) and not any(
            fully_qualified(rule.spec.host, rule.metadata.namespace, self.lists.domain) == host
            and subset in {each.name for each in rule.spec.subsets}
            for rule in self.lists.destination_rules
        )


def _name(metadata: Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}"


def _is_gateway(pod: Pod) -> bool:
    return workloads.proxy(pod) is not None and workloads.is_gateway(pod)


def _grpc(port: ServicePort) -> bool:
    protocol = port.app_protocol or port.name
    return protocol == "grpc" or (
        protocol.startswith("grpc-") and not protocol.startswith("grpc-web")
    )


def _node_port(spec: PodSpec, port: int) -> int:
    """Return the node's port that leads to this port of a pod, 0 for none."""
    if spec.host_network:
        return port
    declared = (each for container in spec.containers for each in container.ports)
    return next((each.host_port for each in declared if each.container_port == port), 0)


def _within(namespace: str, scope: str) -> bool:
    return not scope or namespace == scope
