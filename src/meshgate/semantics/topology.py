"""The ways in: what gateways listen for, who serves it, and where its routes lead.

Works on lists rather than on Evidence: a probe plans by it what it sends.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from meshgate.semantics.pods import ready
from meshgate.semantics.webhooks import Backend
from meshgate.snapshot.gateway_api import ApiGateway, ListenerSet, Route
from meshgate.snapshot.istio import DestinationRule, Gateway, VirtualService
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import (
    Deployment,
    EndpointSlice,
    Pod,
    PodSpec,
    Service,
    ServicePort,
)

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
# Istio's names for what `ssl` calls so, oldest first
TLS = {"TLSV1_0": "TLSv1", "TLSV1_1": "TLSv1.1", "TLSV1_2": "TLSv1.2", "TLSV1_3": "TLSv1.3"}
HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "HTTPS"})


class Listener(NamedTuple):
    """One server of a Gateway, of either kind.

    `least` and `most` are the versions of TLS that it is to take: Istio's unless it names others.
    `selector` finds its pods, in `scope` alone where that is set; `section` is the Gateway API's
    name for it.
    """

    namespace: str
    name: str
    api: bool
    section: str
    port: int
    protocol: str
    tls: str
    hosts: tuple[str, ...]
    redirects: bool
    credential: str
    selector: Mapping[str, str]
    scope: str
    least: str = "TLSv1.2"
    most: str = "TLSv1.3"

    @property
    def subject(self) -> str:
        return f"Gateway {self.namespace}/{self.name}"

    @property
    def words(self) -> str:
        """The subject with the listener's own words."""
        return f"{self.subject} port {self.port}/{self.protocol}"

    @property
    def terminates(self) -> bool:
        """Whether the gateway itself serves a certificate here."""
        return self.tls not in ("", "PASSTHROUGH", "AUTO_PASSTHROUGH")


class RoutingConfig(NamedTuple):
    """The lists that a GatewayTopology is made of (the items of the group `routing`)."""

    services: Sequence[Service]
    slices: Sequence[EndpointSlice]
    pods: Sequence[Pod]
    deployments: Sequence[Deployment]
    gateways: Sequence[Gateway]
    virtual_services: Sequence[VirtualService]
    destination_rules: Sequence[DestinationRule]
    api_gateways: Sequence[ApiGateway]
    http_routes: Sequence[Route]
    grpc_routes: Sequence[Route]
    tls_routes: Sequence[Route]
    tcp_routes: Sequence[Route] = ()
    udp_routes: Sequence[Route] = ()
    listener_sets: Sequence[ListenerSet] = ()

    @classmethod
    def of(cls, items: Items) -> "RoutingConfig":
        """Return the lists of a capture, or of the evidence that facts use."""
        names = {name: name for name in cls._fields} | {"slices": "endpoint_slices"}
        return cls(**{field: getattr(items, item) for field, item in names.items()})


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

    @cached_property
    def listeners(self) -> list[Listener]:
        return sorted([*self._classic(), *self._api()], key=lambda each: each[:6])

    def _classic(self) -> Iterator[Listener]:
        for gateway in self.lists.gateways:
            for server in gateway.spec.servers:
                protocol, tls = server.port.protocol.upper(), server.tls
                secured = protocol in ("HTTPS", "TLS")
                mode = (tls.mode or "SIMPLE") if tls and secured else ""
                yield Listener(
                    gateway.metadata.namespace,
                    gateway.metadata.name,
                    False,
                    server.port.name,
                    server.port.number,
                    protocol,
                    mode,
                    tuple(host.rpartition("/")[2] for host in server.hosts),
                    bool(tls and tls.https_redirect and not secured),
                    tls.credential_name if tls else "",
                    gateway.spec.selector,
                    "",
                    TLS.get(tls.min_protocol_version if tls else "", "TLSv1.2"),
                    TLS.get(tls.max_protocol_version if tls else "", "TLSv1.3"),
                )

    def _api(self) -> Iterator[Listener]:
        for gateway in self.lists.api_gateways:
            metadata = gateway.metadata
            labels = {GATEWAY_NAME: metadata.name}
            if not any(self._serves(labels, metadata.namespace)):
                continue  # another controller's: what it is made of is not ours to know
            for each in gateway.spec.listeners:
                mode = ""
                if each.protocol in ("HTTPS", "TLS"):
                    passes = each.tls is not None and each.tls.mode == "Passthrough"
                    mode = "PASSTHROUGH" if passes else "SIMPLE"
                yield Listener(
                    metadata.namespace,
                    metadata.name,
                    True,
                    each.name,
                    each.port,
                    each.protocol,
                    mode,
                    (each.hostname or "*",),
                    False,
                    "",
                    labels,
                    metadata.namespace,
                )

    def _serves(self, selector: Mapping[str, str], scope: str) -> Iterator[object]:
        for deployment in self.lists.deployments:
            labels = deployment.spec.template.metadata.labels
            if _within(deployment.metadata.namespace, scope) and selector.items() <= labels.items():
                yield deployment

    def deployments_of(self, listener: Listener) -> list[Deployment]:
        """The Deployments whose pods it selects."""
        return [
            each
            for each in self.lists.deployments
            if _within(each.metadata.namespace, listener.scope)
            and listener.selector.items() <= each.spec.template.metadata.labels.items()
        ]

    def pods_of(self, listener: Listener) -> list[Pod]:
        """The pods that it selects, those on their way out excepted."""
        return [
            each
            for each in self.lists.pods
            if _within(each.metadata.namespace, listener.scope)
            and each.metadata.deletion_timestamp is None
            and each.status.phase not in ("Succeeded", "Failed")
            and listener.selector.items() <= each.metadata.labels.items()
        ]

    def services_of(self, listener: Listener) -> list[Service]:
        """The Services in front of its pods, whatever their ports."""
        there = [(pod.metadata.namespace, pod.metadata.labels) for pod in self.pods_of(listener)]
        there += [
            (each.metadata.namespace, each.spec.template.metadata.labels)
            for each in self.deployments_of(listener)
        ]
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
        """What leads to it: the Service ports, or where there is none the nodes' own."""
        return [
            Entrypoint(
                f"Service {service.metadata.namespace}/{service.metadata.name}",
                port.port,
                port.target_port,
                self._backends(service, port.name),
                port.node_port,
                tuple(each for each in service.spec.cluster_ips if each != "None"),
                tuple(each.ip or each.hostname for each in service.status.load_balancer.ingress),
            )
            for service in self.services_of(listener)
            for port in service.spec.ports
            if port.port == listener.port
        ] or self._on_nodes(listener)

    def _on_nodes(self, listener: Listener) -> list[Entrypoint]:
        """Without a Service's port Envoy takes the listener's own: open where it is the node's."""
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
    def _ports(self) -> dict[str, ServicePort]:
        return {
            f"{each.metadata.name}.{each.metadata.namespace}.svc.cluster.local:{port.port}": port
            for each in self.lists.services
            for port in each.spec.ports
        }

    def speak_grpc(self, backends: Sequence[str]) -> bool:
        """Whether all of them (`host:port`) are what their Services declare to be gRPC."""
        ports = [self._ports.get(each.partition("|")[0]) for each in backends]
        return bool(ports) and all(port is not None and _grpc(port) for port in ports)

    def subset_missing(self, host: str, subset: str) -> bool:
        """Whether no DestinationRule defines this subset of a host."""
        return bool(subset) and not any(
            short(rule.spec.host, rule.metadata.namespace) == host
            and subset in {each.name for each in rule.spec.subsets}
            for rule in self.lists.destination_rules
        )


def short(host: str, namespace: str) -> str:
    """A host as Istio completes it: `web` of `shop` is `web.shop.svc.cluster.local`."""
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"


def _grpc(port: ServicePort) -> bool:
    protocol = port.app_protocol or port.name
    return protocol == "grpc" or (
        protocol.startswith("grpc-") and not protocol.startswith("grpc-web")
    )


def _node_port(spec: PodSpec, port: int) -> int:
    """The node's port that leads to this one of a pod, 0 for none."""
    if spec.host_network:
        return port
    declared = (each for container in spec.containers for each in container.ports)
    return next((each.host_port for each in declared if each.container_port == port), 0)


def _within(namespace: str, scope: str) -> bool:
    return not scope or namespace == scope


def covers(pattern: str, host: str) -> bool:
    """Whether a host, or a narrower pattern, is one that the pattern stands for."""
    if pattern in ("*", host):
        return True
    return pattern.startswith("*.") and host.removeprefix("*").endswith(pattern[1:])


def common(one: str, other: str) -> str | None:
    """The narrower of two hosts where one covers the other."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def concrete(host: str) -> str:
    """A name that a wildcard stands for."""
    return host.replace("*", "meshgate-probe.invalid" if host == "*" else "meshgate-probe")
