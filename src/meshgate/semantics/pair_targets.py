"""Where declared requests are sent: to pods behind a Service, or to its waypoint.

It is where the ztunnel of a client sends them (src/proxy/outbound.rs): a request to a Service with
a waypoint goes to the waypoint, and any other one to a pod of the Service.  A headless Service has
no address, so that its clients connect to a pod, which may have a waypoint as well.  Requests to a
pod with a sidecar go to the sidecar.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshgate.semantics.hosts import authority
from meshgate.semantics.listeners import admitted
from meshgate.semantics.selectors import fronts
from meshgate.semantics.waypoints import (
    WITHOUT_WAYPOINT,
    canary,
    deployed_for,
    selected,
    waypoints,
)
from meshgate.semantics.workloads import (
    MANAGED,
    Port,
    ambient_ports,
    hashed,
    is_running,
    ports,
    target,
)
from meshgate.snapshot.declared_pairs import DeclaredPair, PairWaypoint
from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass
from meshgate.snapshot.kubernetes import Metadata, Namespace, Pod, Service, ServicePort

SERVICE, WORKLOAD, EVERYTHING = "service", "workload", "all"
HBONE = "HBONE"


class PairTarget(NamedTuple):
    """What a declared request is sent to.

    Attributes:
        pod: the pod that is connected to: one behind the Service, or one of its waypoint.
        port: the port of a pod with a sidecar; 0 for HBONE.
        authority: what CONNECT names, `address:port`; empty for a sidecar.
        waypoint: the waypoint whose pod it is, `namespace/name`; empty without one.
    """

    pod: Pod
    port: int = 0
    authority: str = ""
    waypoint: str = ""

    @property
    def name(self) -> str:
        """`namespace/name` of the pod."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"

    @property
    def key(self) -> str:
        """The pod and the port: one of several targets of a pair."""
        return f"{self.name} {self.authority or self.port}"


class Targets(NamedTuple):
    """What gets a declared request, and why something does not get it that should."""

    targets: tuple[PairTarget, ...] = ()
    missing: str = ""


class Behind(NamedTuple):
    """The ports of running pods of the mesh that a Service's port leads to, by their mode."""

    sidecars: tuple[Port, ...]
    ambient: tuple[Port, ...]


class Using(NamedTuple):
    """The waypoints that an object uses, and why one of them cannot be used."""

    waypoints: tuple[PairWaypoint, ...] = ()
    missing: str = ""


class PairTargets:
    """The targets of declared pairs in a mesh.

    Args:
        pods: the pods of the mesh.
        services: all Services.
        namespaces: all namespaces.
        waypoints: all waypoints.
    """

    def __init__(
        self,
        pods: Iterable[Pod],
        services: Iterable[Service],
        namespaces: Iterable[Namespace],
        waypoints: Iterable[PairWaypoint],
    ) -> None:
        self._pods: defaultdict[str, list[Pod]] = defaultdict(list)
        for each in pods:
            self._pods[each.metadata.namespace].append(each)
        self._services = {_name(each.metadata): each for each in services}
        self._namespaces = {each.metadata.name: each for each in namespaces}
        self._waypoints = {each.name: each for each in waypoints}

    def of(self, pair: DeclaredPair, sample: int = 0) -> Targets:
        """Return what a declared request is sent to, the same every time.

        Args:
            pair: the declared pair.
            sample: the maximum number of pods with a sidecar, of pods in ambient mode, and of pods
                of waypoints; 0 for all.

        Returns:
            The targets; with a reason if there are none, or if a waypoint cannot be used.
        """
        service = self._services.get(pair.service)
        if service is None:
            return Targets(missing=f"Service {pair.service} does not exist")
        exposed = [each for each in service.spec.ports if each.port == pair.port]
        if not exposed:
            numbers = ", ".join(str(each.port) for each in service.spec.ports)
            return Targets(
                missing=f"Service {pair.service} has no port {pair.port} (it has {numbers})"
            )
        behind = self.behind(service, exposed[0])
        if not behind.sidecars and not behind.ambient:
            return Targets(
                missing=f"Service {pair.service} has no running pod in ambient mode, and none "
                "whose sidecar captures the port"
            )
        direct = [PairTarget(each.pod, each.number) for each in behind.sidecars]
        tunnels: list[PairTarget] = []
        missing: list[str] = []
        for each in self._tunnels(service, exposed[0], behind.ambient):
            tunnels += each.targets
            missing += [each.missing] if each.missing else []
        through = [each for each in tunnels if each.waypoint]
        others = [each for each in tunnels if not each.waypoint]
        chosen = [each for kind in (direct, others, through) for each in _sampled(kind, sample)]
        return Targets(tuple(sorted(chosen, key=lambda each: each.key)), next(iter(missing), ""))

    def behind(self, service: Service, exposed: ServicePort) -> Behind:
        """Return the ports of running pods that one port of a Service leads to."""
        pods = [e for e in self._pods[service.metadata.namespace] if fronts(service, e)]
        return Behind(
            tuple(
                each
                for each in ports(pods, [service])
                if not each.bypass and target(exposed, each.pod) == each.number
            ),
            tuple(
                each
                for each in ambient_ports(pods, [service], self._namespaces)
                if each.number and target(exposed, each.pod) == each.number
            ),
        )

    def of_service(self, service: Service) -> Using:
        """Return the waypoints that requests to the address of a Service go through."""
        metadata = service.metadata
        if is_headless(service) or metadata.labels.get(MANAGED) in WITHOUT_WAYPOINT:
            return Using()
        using = self._using(metadata, SERVICE, selected(metadata, self._namespaces))
        other = canary(metadata, self._namespaces)
        if not using.waypoints or not other:
            return using
        second = self._using(metadata, SERVICE, other)
        return Using((*using.waypoints, *second.waypoints), second.missing)

    def of_pod(self, pod: Pod) -> Using:
        """Return the waypoint that requests to the address of a pod go through."""
        return self._using(pod.metadata, WORKLOAD, selected(pod.metadata, self._namespaces))

    def pods_of(self, waypoint: PairWaypoint) -> list[Pod]:
        """Return the running pods of a waypoint."""
        pods = self._pods[waypoint.name.partition("/")[0]]
        return [each for each in pods if deployed_for(waypoint.name, each) and is_running(each)]

    def _using(self, metadata: Metadata, kind: str, name: str) -> Using:
        if not name:
            return Using()
        waypoint = self._waypoints.get(name)
        if waypoint is None:
            return Using(missing=f"the waypoint {name}, which labels select, does not exist")
        if waypoint.scope not in (kind, EVERYTHING):
            return Using()
        if waypoint.admits is not None and metadata.namespace not in waypoint.admits:
            return Using(
                missing=f"the waypoint {name} does not admit namespace {metadata.namespace}"
            )
        return Using((waypoint,))

    def _tunnels(
        self, service: Service, exposed: ServicePort, ambient: Iterable[Port]
    ) -> Iterator[Targets]:
        ambient = tuple(ambient)
        if not ambient:
            return
        using = self.of_service(service)
        if using.waypoints or using.missing:
            address = next(iter(service.spec.cluster_ips), "")
            if not address:
                yield Targets(missing=f"Service {_name(service.metadata)} has no cluster IP")
                return
            yield from self._through(using, authority(address, exposed.port))
            return
        for port in ambient:
            named = authority(port.pod.status.pod_ip, port.number)
            using = self.of_pod(port.pod) if is_headless(service) else Using()
            if using.waypoints or using.missing:
                yield from self._through(using, named)
            else:
                yield Targets((PairTarget(port.pod, authority=named),))

    def _through(self, using: Using, named: str) -> Iterator[Targets]:
        if using.missing:
            yield Targets(missing=using.missing)
        for waypoint in using.waypoints:
            pods = self.pods_of(waypoint)
            yield Targets(
                tuple(PairTarget(each, authority=named, waypoint=waypoint.name) for each in pods),
                "" if pods else f"the waypoint {waypoint.name} has no running pod",
            )


def pair_waypoints(
    gateways: Iterable[ApiGateway],
    classes: Iterable[GatewayClass],
    namespaces: Iterable[Namespace],
) -> tuple[PairWaypoint, ...]:
    """Return every waypoint, by name.

    Args:
        gateways: all Gateways of the Gateway API.
        classes: all GatewayClasses.
        namespaces: all namespaces.

    Returns:
        The waypoints.
    """
    namespaces = tuple(namespaces)
    return tuple(
        PairWaypoint(
            name=each.key,
            of_class=each.gateway.spec.gateway_class_name,
            scope=each.scope,
            admits=_admits(each.gateway, namespaces),
        )
        for each in waypoints(gateways, classes, (), (), {})
    )


def _admits(gateway: ApiGateway, namespaces: Iterable[Namespace]) -> tuple[str, ...] | None:
    """Return the namespaces whose Services and pods may use a waypoint; None for all.

    The listener for HBONE says so; without one istiod admits the Gateway's own namespace.
    """
    namespace = gateway.metadata.namespace
    listener = next((each for each in gateway.spec.listeners if each.protocol == HBONE), None)
    if listener is None or listener.allowed_routes is None:
        return (namespace,)
    found = admitted(listener, namespace, namespaces)
    return None if found is None else tuple(sorted(found))


def is_headless(service: Service) -> bool:
    """Return whether clients of a Service connect to its pods, as it has no address."""
    return service.spec.cluster_ips[:1] == ("None",)


def _sampled(targets: list[PairTarget], sample: int) -> list[PairTarget]:
    return sorted(targets, key=lambda each: hashed(each.key))[: sample or None]


def _name(metadata: Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}"
