"""The workloads of the mesh: which pods have a sidecar, and which of their ports it captures."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from meshgate.globs import matches
from meshgate.semantics.protocols import HTTP, TCP, named, protocol
from meshgate.semantics.selectors import Fronting
from meshgate.snapshot.kubernetes import Container, Namespace, Pod, Service, ServicePort
from meshgate.snapshot.model import Expectations

# The container of every Istio proxy: sidecar, gateway, waypoint and ztunnel.
PROXY = "istio-proxy"

# Istio's own ports in every pod: health, metrics, the proxy's listeners.
OWN_PORTS = range(15000, 15100)


class Port(NamedTuple):
    """A TCP port of a pod with a sidecar, or in ambient mode.

    `http`: whether its name says that it is HTTP; `bypass`: why its sidecar does not see it.
    """

    pod: Pod
    number: int
    http: bool
    bypass: str = ""

    @property
    def key(self) -> str:
        """`namespace/pod:port`: its name, for good."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}:{self.number}"


def proxy(pod: Pod) -> Container | None:
    """Return the pod's proxy: a container or, as a native sidecar, an init container."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return next((each for each in containers if each.name == PROXY), None)


class _InjectionStatus(msgspec.Struct, frozen=True):
    revision: str = ""


def injected_revision(pod: Pod) -> str:
    """Return the revision that injected a pod's proxy, as istiod wrote it on the pod.

    Empty where a pod has no proxy, or one that is in its own template.
    """
    annotations = pod.metadata.annotations
    if annotations.revision:
        return annotations.revision
    try:
        status = msgspec.json.decode(annotations.injection_status or "{}", type=_InjectionStatus)
    except ValueError:
        return ""
    return status.revision


def is_active(pod: Pod) -> bool:
    """Whether a pod is neither finished nor terminating."""
    return pod.metadata.deletion_timestamp is None and pod.status.phase in ("Pending", "Running")


def is_injectable(pod: Pod) -> bool:
    """Whether a webhook could inject a pod's proxy: it is active and not on the host's network.

    The pods of istiod, and of gateways and waypoints that istiod deploys, are not injected.
    """
    labels = pod.metadata.labels
    return (
        is_active(pod)
        and not pod.spec.host_network
        and labels.get("app") not in ("istiod", "ztunnel")
        and "gateway.networking.k8s.io/gateway-name" not in labels
    )


def has_sidecar(pod: Pod) -> bool:
    """Return whether a pod has a sidecar; a gateway's or an ambient proxy is none."""
    apps = [each for each in pod.spec.containers if each.name != PROXY]
    return (
        proxy(pod) is not None and bool(apps) and not is_gateway(pod) and not is_ambient_proxy(pod)
    )


# What istiod adds to a pod with a sidecar and never to a gateway.
_REDIRECTING = frozenset({"istio-init", "istio-validation"})

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
MANAGED = "gateway.istio.io/managed"
MESH_CONTROLLER = "istio.io-mesh-controller"


def is_gateway(pod: Pod) -> bool:
    """Return whether a pod with a proxy is a gateway, which may have other containers as well.

    A gateway that istiod deploys has the name of its Gateway as a label.  No other one has an init
    container that redirects its traffic; it has the injection template `gateway`, the label
    `istio`, or no container but the proxy.
    """
    labels = pod.metadata.labels
    if GATEWAY_NAME in labels:
        return True
    if labels.get("app") == "ztunnel":
        return False
    if any(each.name in _REDIRECTING for each in pod.spec.init_containers):
        return False
    templates = (pod.metadata.annotations.templates or "").split(",")
    if "istio" in labels or "gateway" in (each.strip() for each in templates):
        return True
    return [each.name for each in pod.spec.containers] == [PROXY]


def is_ambient_proxy(pod: Pod) -> bool:
    """Return whether a pod is a ztunnel or a waypoint."""
    return proxy(pod) is not None and (
        pod.metadata.labels.get("app") == "ztunnel" or is_waypoint(pod)
    )


def is_waypoint(pod: Pod) -> bool:
    """Return whether istiod deployed a pod as a waypoint."""
    return pod.metadata.labels.get(MANAGED) == MESH_CONTROLLER


# The suffix that a CronJob gives to each of its Jobs: the minute that it was scheduled for.
_SCHEDULED = re.compile(r"-\d{8,}$")


# The label of a ReplicaSet's pods with the hash in its name, by the kind of what created it.
_REPLICA_SETS = {"pod-template-hash": "Deployment", "rollouts-pod-template-hash": "Rollout"}


def workload(pod: Pod) -> str:
    """Return `Kind name` of what creates the pod.

    A ReplicaSet's Deployment or Rollout of Argo, and a Job's CronJob, come before them.
    """
    owner = next((each for each in pod.metadata.owner_references if each.controller), None)
    if owner is None:
        return f"Pod {pod.metadata.name}"
    for label, kind in _REPLICA_SETS.items():
        suffix = "-" + pod.metadata.labels.get(label, "")
        if owner.kind == "ReplicaSet" and owner.name.endswith(suffix):
            return f"{kind} {owner.name.removesuffix(suffix)}"
    if owner.kind == "Job" and _SCHEDULED.search(owner.name):
        return f"CronJob {_SCHEDULED.sub('', owner.name)}"
    return f"{owner.kind} {owner.name}"


def owner(pod: Pod) -> str:
    """Return `Kind namespace/name` of the pod's workload; empty for a pod that nothing creates."""
    kind, _, name = workload(pod).partition(" ")
    return "" if kind == "Pod" else f"{kind} {pod.metadata.namespace}/{name}"


def lasting(pod: Pod) -> str:
    """Return the name that a restart does not change: the workload's, or that of a bare pod."""
    return owner(pod) or f"Pod {pod.metadata.namespace}/{pod.metadata.name}"


# What `kubectl rollout restart` can restart.
RESTARTABLE = ("Deployment", "StatefulSet", "DaemonSet")


def restart_command(pod: Pod) -> str:
    """Return the kubectl command that replaces the pod, and no other workload's."""
    kind, _, name = workload(pod).partition(" ")
    namespace = pod.metadata.namespace
    if kind in RESTARTABLE:
        return f"kubectl -n {namespace} rollout restart {kind.lower()}/{name}"
    return f"kubectl -n {namespace} delete pod {pod.metadata.name}"


# The label of namespaces and pods that puts pods in ambient mode.
DATAPLANE_MODE = "istio.io/dataplane-mode"


def is_ambient(namespace: Namespace) -> bool:
    """Return whether new pods of a namespace are in ambient mode."""
    return namespace.metadata.labels.get(DATAPLANE_MODE) == "ambient"


def ambient(pod: Pod, namespaces: Mapping[str, Namespace]) -> bool:
    """Whether its traffic should go through a ztunnel (HBONE) and not through a sidecar.

    The CNI agent captures neither a pod on the host's network nor one with a sidecar.
    """
    if is_captured(pod):
        return True
    namespace = namespaces.get(pod.metadata.namespace)
    inherited = namespace.metadata.labels.get(DATAPLANE_MODE, "") if namespace else ""
    mode = pod.metadata.labels.get(DATAPLANE_MODE, inherited)
    return mode == "ambient" and proxy(pod) is None and not pod.spec.host_network


def uses_ambient(namespaces: Iterable[Namespace], pods: Iterable[Pod]) -> bool:
    """Return whether a pod or a namespace is in ambient mode, or a waypoint exists."""
    by_name = {each.metadata.name: each for each in namespaces}
    return any(is_ambient(each) for each in by_name.values()) or any(
        ambient(pod, by_name) or is_waypoint(pod) for pod in pods
    )


def is_captured(pod: Pod) -> bool:
    """Return whether the CNI agent says that it redirects the pod's traffic to ztunnel."""
    return pod.metadata.annotations.ambient == "enabled"


def ports(pods: Iterable[Pod], services: Iterable[Service]) -> Iterator[Port]:
    """All TCP ports of running pods with a sidecar that a container declares or a Service leads to.

    Istio's own ports are omitted, and ports that no object names, although sidecars capture them.
    """
    for pod, number, http in _ports(filter(has_sidecar, pods), services):
        yield Port(pod, number, http, _bypass(pod, number))


def ambient_ports(
    pods: Iterable[Pod], services: Iterable[Service], namespaces: Mapping[str, Namespace]
) -> Iterator[Port]:
    """Yield the same ports of running pods in ambient mode; port 0 for a pod that has none.

    Args:
        pods: all pods.
        services: all Services.
        namespaces: all namespaces by their names.

    Returns:
        The ports, lazily.
    """
    in_ambient = [each for each in pods if ambient(each, namespaces) and proxy(each) is None]
    found = [Port(pod, number, http) for pod, number, http in _ports(in_ambient, services)]
    yield from found
    with_ports = {id(each.pod) for each in found}
    for pod in filter(is_running, in_ambient):
        if id(pod) not in with_ports:
            yield Port(pod, 0, http=False)


def _ports(pods: Iterable[Pod], services: Iterable[Service]) -> Iterator[tuple[Pod, int, bool]]:
    """Yield running pods with their TCP ports, and whether each is HTTP."""
    fronting = Fronting(services)
    for pod in filter(is_running, pods):
        http: dict[int, bool] = {}
        for number, is_http in (*_declared(pod), *_led_to(pod, fronting.services(pod))):
            if number not in OWN_PORTS:
                http[number] = http.get(number, False) or is_http
        for number, is_http in sorted(http.items()):
            yield pod, number, is_http


def is_running(pod: Pod) -> bool:
    """Return whether a pod runs, is not terminating, and has an address."""
    return is_active(pod) and pod.status.phase == "Running" and bool(pod.status.pod_ip)


def _declared(pod: Pod) -> Iterator[tuple[int, bool]]:
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        for port in container.ports:
            if container.name != PROXY and port.protocol == "TCP":
                yield port.container_port, named(port.name) in HTTP


def _led_to(pod: Pod, services: Iterable[Service]) -> Iterator[tuple[int, bool]]:
    for service in services:
        for port in service.spec.ports:
            number = target(port, pod)
            if number and port.protocol == "TCP":
                yield number, protocol(port) in HTTP


def target(port: ServicePort, pod: Pod) -> int:
    """Return the pod's port behind a Service's; 0 where the pod has none of that name."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    names = {
        each.name: each.container_port
        for container in pod.spec.containers
        for each in container.ports
    }
    return names.get(port.target_port, 0)


def is_tcp(port: Port, fronting: Fronting) -> bool:
    """Return whether a Service declares a port as TCP, and none declares it as HTTP."""
    if port.http:
        return False
    declared = {
        protocol(each)
        for service in fronting.services(port.pod)
        for each in service.spec.ports
        if target(each, port.pod) == port.number
    }
    return bool(declared) and declared <= TCP


def _bypass(pod: Pod, port: int) -> str:
    annotations = pod.metadata.annotations
    if annotations.interception == "NONE":
        return "sidecar.istio.io/interceptionMode: NONE"
    if port in _numbers(annotations.bypassing_ports):
        return f"traffic.sidecar.istio.io/excludeInboundPorts: {annotations.bypassing_ports}"
    captured = annotations.captured_ports
    if captured is not None and captured != "*" and port not in _numbers(captured):
        return f'traffic.sidecar.istio.io/includeInboundPorts: "{captured}"'
    return ""


def _numbers(text: str | None) -> set[int]:
    return {int(part) for part in (text or "").split(",") if part.strip().isdigit()}


def chosen(pods: Iterable[Pod], services: Iterable[Service], asked: Expectations) -> list[Port]:
    """Return the ports of sidecars to connect to.

    Args:
        pods: all pods.
        services: all Services.
        asked: the exclusions, the sample and the shard.

    Returns:
        The ports, sorted by key.
    """
    return choose(ports(pods, services), asked)


def choose(found: Iterable[Port], asked: Expectations) -> list[Port]:
    """Return the ports to connect to: what is left of all by exclusion, by sample and by shard.

    A port's shard depends on its key only, so shards neither overlap nor miss a port when other
    ports appear or disappear.

    Args:
        found: the ports.
        asked: the exclusions, the sample and the shard.

    Returns:
        The ports, sorted by key.
    """
    kept = [each for each in found if not _excluded(each, asked.excluded)]
    if asked.sample:
        of_workload: defaultdict[tuple[str, str], list[Port]] = defaultdict(list)
        for each in sorted(kept, key=lambda each: hashed(each.key)):
            of_workload[each.pod.metadata.namespace, workload(each.pod)].append(each)
        kept = [each for some in of_workload.values() for each in some[: asked.sample]]
    return sorted((each for each in kept if in_shard(each.key, asked.shard)), key=lambda p: p.key)


def in_shard(key: str, shard: str) -> bool:
    """Whether a port is in the share `I/N` (`0/4` to `3/4`); without one all are."""
    if not shard:
        return True
    index, _, count = shard.partition("/")
    return hashed(key) % int(count) == int(index)


def is_first_shard(shard: str) -> bool:
    """Return whether this is the share that does what is done once: `0/N`, or all of it."""
    return not shard or shard.startswith("0/")


def hashed(key: str) -> int:
    """Return a number that depends on the key only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])


def _excluded(port: Port, patterns: Iterable[str]) -> bool:
    metadata = port.pod.metadata
    names = {metadata.name, workload(port.pod).partition(" ")[2]}
    return any(
        matches(f"{metadata.namespace}/{name}:{port.number}", pattern)
        for pattern in patterns
        for name in names
    )
