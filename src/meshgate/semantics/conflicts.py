"""Configuration that istiod omits because it conflicts, found in the objects themselves.

istiod 1.31 and later reports such conflicts only until the next change of an endpoint.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshgate.semantics import workloads
from meshgate.semantics.hosts import fully_qualified
from meshgate.snapshot.istio import DestinationRule, ServiceEntry, VirtualService
from meshgate.snapshot.kubernetes import Pod, Service, ServicePort

MESH, TCP = "mesh", "TCP"

# Protocols that the name of a Service's port can select; others are detected.
PROTOCOLS = frozenset(
    {*("http", "http2", "https", "grpc", "grpc-web"), *("tcp", "tls", "mongo", "mysql", "redis")}
)
APP_PROTOCOLS = {
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
}
# Ports of protocols in which the server speaks first: TCP unless their name says otherwise.
SERVER_FIRST = frozenset({25, 53, 3306, 27017})


Exported = VirtualService | ServiceEntry


class ObjectConflict(NamedTuple):
    """What two objects define, and their names (`Kind namespace/name`), sorted."""

    name: str
    objects: tuple[str, ...]


def domains(virtual_services: Iterable[VirtualService]) -> Iterator[ObjectConflict]:
    """Yield hosts that two VirtualServices of the gateway `mesh` route for the same sidecars.

    istiod merges VirtualServices of the same host only for gateways.
    """
    by_host: defaultdict[str, list[VirtualService]] = defaultdict(list)
    for each in virtual_services:
        if each.spec.http and MESH in (each.spec.gateways or (MESH,)):
            for host in {*each.spec.hosts}:
                by_host[fully_qualified(host, each.metadata.namespace)].append(each)
    for host, found in sorted(by_host.items()):
        for index, one in enumerate(found):
            others = [each for each in found[index + 1 :] if _same_clients(one, each)]
            if others:
                objects = [_name("VirtualService", each) for each in (one, *others)]
                yield ObjectConflict(host, tuple(sorted(objects)))
                break


def _same_clients(one: Exported, other: Exported) -> bool:
    left, right = _clients(one), _clients(other)
    if not left or not right:
        return False
    return "*" in left or "*" in right or bool(left & right)


def _clients(each: Exported) -> frozenset[str]:
    """Return the namespaces that an object is exported to: `*` for all."""
    own = each.metadata.namespace
    exported = each.spec.export_to or ("*",)
    return frozenset(own if name == "." else name for name in exported if name != "~")


def subsets(rules: Iterable[DestinationRule]) -> Iterator[ObjectConflict]:
    """Yield subsets that DestinationRules of one namespace define twice for the same host."""
    merged: defaultdict[tuple[str, ...], list[DestinationRule]] = defaultdict(list)
    for each in rules:
        selector = each.spec.workload_selector
        labels = sorted(selector.match_labels.items()) if selector else ()
        host = fully_qualified(each.spec.host, each.metadata.namespace)
        exported = ",".join(sorted(each.spec.export_to))
        merged[each.metadata.namespace, host, exported, str(labels)].append(each)
    for (_, host, *_), found in sorted(merged.items()):
        defined: defaultdict[str, list[str]] = defaultdict(list)
        for each in found:
            for subset in each.spec.subsets:
                defined[subset.name].append(_name("DestinationRule", each))
        for name, objects in sorted(defined.items()):
            if len(objects) > 1:
                yield ObjectConflict(f"{host} subset {name}", tuple(sorted({*objects})))


def outbound(entries: Iterable[ServiceEntry]) -> Iterator[ObjectConflict]:
    """Yield TCP ports that two ServiceEntries without addresses open for the same sidecars.

    A sidecar has one listener for each of these ports.  It leads to one of the ServiceEntries.
    """
    by_port: defaultdict[int, list[ServiceEntry]] = defaultdict(list)
    for each in entries:
        for port in each.spec.ports if not each.spec.addresses else ():
            if port.protocol.upper() == TCP:
                by_port[port.number].append(each)
    for number, found in sorted(by_port.items()):
        for index, one in enumerate(found):
            others = [each for each in found[index + 1 :] if _same_clients(one, each)]
            if others:
                objects = [_name("ServiceEntry", each) for each in (one, *others)]
                yield ObjectConflict(f"0.0.0.0_{number}", tuple(sorted({*objects})))
                break


def inbound(pods: Iterable[Pod], services: Iterable[Service]) -> Iterator[ObjectConflict]:
    """Yield ports of pods with a sidecar that two Services declare with different protocols."""
    by_namespace: defaultdict[str, list[Service]] = defaultdict(list)
    for each in services:
        by_namespace[each.metadata.namespace].append(each)
    seen: set[ObjectConflict] = set()
    for pod in pods:
        if not (workloads.is_active(pod) and workloads.has_sidecar(pod)):
            continue
        declared: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for service in by_namespace[pod.metadata.namespace]:
            if workloads.fronts(service, pod):
                for port in (each for each in service.spec.ports if each.protocol == "TCP"):
                    number = workloads.target(port, pod)
                    declared[number].setdefault(_name("Service", service), _protocol(port))
        for number, protocols in declared.items():
            if number and len({*protocols.values()}) > 1:
                where = f"port {number} of {workloads.owner(pod)}"
                seen.add(ObjectConflict(where, tuple(sorted(protocols))))
    yield from sorted(seen)


def _protocol(port: ServicePort) -> str:
    """Return the protocol as istiod determines it (pkg/config/kube/conversion.go)."""
    if port.app_protocol:
        declared = port.app_protocol.lower()
        declared = APP_PROTOCOLS.get(declared, declared)
    elif port.name.lower().startswith("grpc-web"):
        declared = "grpc-web"
    else:
        declared = port.name.partition("-")[0].lower()
    if declared in PROTOCOLS:
        return declared
    return "tcp" if port.port in SERVER_FIRST else ""


def _name(kind: str, each: Exported | DestinationRule | Service) -> str:
    return f"{kind} {each.metadata.namespace}/{each.metadata.name}"
