"""Waypoints: which Gateways are one, and which Services and pods are behind each.

The rules are those of istiod (pilot/pkg/serviceregistry/kube/controller/ambient/waypoints.go): the
label istio.io/use-waypoint of an object, or else of its namespace, names a Gateway, whose label
istio.io/waypoint-for, or that of its class, says whether it is for Services, for workloads, or for
both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from meshgate.semantics.gateway_classes import WAYPOINT_CONTROLLER, controllers
from meshgate.semantics.hosts import fully_qualified
from meshgate.semantics.protocols import HTTP, protocol
from meshgate.semantics.workloads import (
    GATEWAY_NAME,
    MANAGED,
    MESH_CONTROLLER,
    Port,
    ambient_ports,
)
from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.snapshot.kubernetes import Metadata, Namespace, Pod, Service

USE, USE_NAMESPACE = "istio.io/use-waypoint", "istio.io/use-waypoint-namespace"
CANARY, CANARY_NAMESPACE = "istio.io/use-waypoint-canary", "istio.io/use-waypoint-canary-namespace"
WAYPOINT_FOR = "istio.io/waypoint-for"
# the gateways whose own Services never have a waypoint: waypoints and east-west gateways
WITHOUT_WAYPOINT = (MESH_CONTROLLER, "istio.io-eastwest-controller")

MOST = 20  # Services and pods behind each waypoint that a request is sent to


class Waypoint(NamedTuple):
    """A Gateway that is a waypoint, its own pods, and the Services and pods' ports behind it.

    `scope` is what it is for: `service`, `workload`, `all` or `none`.
    """

    gateway: ApiGateway
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    ports: tuple[Port, ...]
    scope: str

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return _key(self.gateway.metadata)


class Behind(NamedTuple):
    """An HTTP port behind a waypoint: of a Service (`namespace/name`), or of a pod."""

    address: str
    port: int
    host: str
    service: str = ""


def waypoints(
    gateways: Iterable[ApiGateway],
    classes: Iterable[GatewayClass],
    services: Sequence[Service],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Namespace],
) -> list[Waypoint]:
    """Return every waypoint, by name.

    Args:
        gateways: all Gateways of the Gateway API.
        classes: all GatewayClasses.
        services: the Services of the mesh.
        pods: the active pods of the mesh.
        namespaces: all namespaces by their names.

    Returns:
        The waypoints, each with what istiod sends through it.
    """
    by_name = {each.metadata.name: each for each in classes}
    known = controllers(by_name.values())
    found = []
    for gateway in gateways:
        of_class = gateway.spec.gateway_class_name
        if known.get(of_class) != WAYPOINT_CONTROLLER:
            continue
        key, scope = _key(gateway.metadata), _scope(gateway, by_name.get(of_class))
        using = [each for each in pods if selected(each.metadata, namespaces) == key]
        found.append(
            Waypoint(
                gateway,
                tuple(each for each in pods if deployed_for(key, each)),
                tuple(
                    each
                    for each in services
                    if selected(each.metadata, namespaces) == key
                    and each.metadata.labels.get(MANAGED) not in WITHOUT_WAYPOINT
                )
                if scope in ("service", "all")
                else (),
                tuple(ambient_ports(using, services, namespaces))
                if scope in ("workload", "all")
                else (),
                scope,
            )
        )
    return sorted(found, key=lambda each: each.key)


def http_behind(waypoint: Waypoint, domain: str) -> list[Behind]:
    """Return one HTTP port of each Service and of each pod behind a waypoint, MOST of either.

    Args:
        waypoint: the waypoint.
        domain: the cluster's.
    """
    services = [each for service in waypoint.services for each in _of_service(service, domain)]
    pods: dict[str, Behind] = {}
    for port in waypoint.ports:
        if port.http:
            address = port.pod.status.pod_ip
            pods.setdefault(address, Behind(address, port.number, address))
    return [*services[:MOST], *list(pods.values())[:MOST]]


def _of_service(service: Service, domain: str) -> Iterator[Behind]:
    port = next((each for each in service.spec.ports if protocol(each) in HTTP), None)
    address = next(iter(service.spec.cluster_ips), "None")
    # the waypoint serves other Services of its namespace, of which no client sends to its own
    if port is not None and address != "None" and GATEWAY_NAME not in service.metadata.labels:
        metadata = service.metadata
        host = fully_qualified(metadata.name, metadata.namespace, domain)
        yield Behind(address, port.port, host, _key(metadata))


def enforces(
    policy: AuthorizationPolicy, waypoint: str, of_class: str, service: str, root: str
) -> bool:
    """Return whether a waypoint enforces a policy for requests to a Service.

    Args:
        policy: the policy.
        waypoint: the waypoint's Gateway, `namespace/name`.
        of_class: the Gateway's class.
        service: the Service, `namespace/name`; empty for a pod.
        root: the mesh's root namespace.

    Returns:
        True if a targetRef names the Service, the Gateway or the Gateway's class.
    """
    spec, namespace = policy.spec, policy.metadata.namespace
    for each in (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ())):
        if each.kind == "Service" and f"{namespace}/{each.name}" == service:
            return True
        if each.kind == "Gateway" and f"{namespace}/{each.name}" == waypoint:
            return True
        if each.kind == "GatewayClass" and each.name == of_class and namespace == root:
            return True
    return False


def deployed_for(waypoint: str, pod: Pod) -> bool:
    """Return whether istiod deployed a pod for a Gateway (`namespace/name`)."""
    name = pod.metadata.labels.get(GATEWAY_NAME)
    return name is not None and f"{pod.metadata.namespace}/{name}" == waypoint


def _scope(gateway: ApiGateway, of_class: GatewayClass | None) -> str:
    labels = of_class.metadata.labels if of_class else {}
    return gateway.metadata.labels.get(WAYPOINT_FOR) or labels.get(WAYPOINT_FOR) or "service"


def selected(metadata: Metadata, namespaces: Mapping[str, Namespace]) -> str:
    """Return the waypoint that labels select, `namespace/name`; empty without one."""
    namespace = namespaces.get(metadata.namespace)
    for labels in (metadata.labels, namespace.metadata.labels if namespace else {}):
        if name := labels.get(USE):
            if name == "none":
                return ""
            return f"{labels.get(USE_NAMESPACE, metadata.namespace)}/{name}"
    return ""


def canary(metadata: Metadata, namespaces: Mapping[str, Namespace]) -> str:
    """Return the canary waypoint that labels of a Service select; empty without one.

    The namespace's label counts only where the Service itself names no waypoint.
    """
    namespace = namespaces.get(metadata.namespace)
    inherited = namespace.metadata.labels if namespace and USE not in metadata.labels else {}
    labels = metadata.labels if CANARY in metadata.labels else inherited
    name = labels.get(CANARY, "none")
    if name in ("", "none"):
        return ""
    return f"{labels.get(CANARY_NAMESPACE, metadata.namespace)}/{name}"


def _key(metadata: Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}"
