"""Configuration that istiod omits because it conflicts, found in the objects themselves.

istiod 1.31 and later reports such conflicts only until the next change of an endpoint.
Objects whose labels istio.io/rev name two revisions do not conflict: no istiod reads both.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from meshgate.semantics import workloads
from meshgate.semantics.config_revisions import read_together
from meshgate.semantics.hosts import DEFAULT_DOMAIN, fully_qualified
from meshgate.semantics.protocols import protocol
from meshgate.semantics.selectors import Fronting
from meshgate.snapshot.istio import DestinationRule, ServiceEntry, VirtualService
from meshgate.snapshot.kubernetes import Pod, Service

MESH, TCP = "mesh", "TCP"


Exported = VirtualService | ServiceEntry


class ObjectConflict(NamedTuple):
    """What two objects define, and their names (`Kind namespace/name`), sorted."""

    name: str
    objects: tuple[str, ...]


def domains(
    virtual_services: Iterable[VirtualService],
    domain: str = DEFAULT_DOMAIN,
    default_export: tuple[str, ...] = (),
) -> Iterator[ObjectConflict]:
    """Yield hosts that two VirtualServices of the gateway `mesh` route for the same sidecars.

    istiod merges VirtualServices of the same host only for gateways.

    Args:
        virtual_services: the VirtualServices.
        domain: the cluster's.
        default_export: where those without exportTo are exported to; empty for everywhere.

    Returns:
        One conflict for each host.
    """
    by_host: defaultdict[str, list[VirtualService]] = defaultdict(list)
    for each in virtual_services:
        if each.spec.http and MESH in (each.spec.gateways or (MESH,)):
            for host in {*each.spec.hosts}:
                by_host[fully_qualified(host, each.metadata.namespace, domain)].append(each)
    for host, found in sorted(by_host.items()):
        for index, one in enumerate(found):
            others = [e for e in found[index + 1 :] if _conflict(one, e, default_export)]
            if others:
                objects = [_name("VirtualService", each) for each in (one, *others)]
                yield ObjectConflict(host, tuple(sorted(objects)))
                break


def _conflict(one: Exported, other: Exported, default: tuple[str, ...]) -> bool:
    """Return whether one istiod gives both objects to a sidecar; `default` as in same_clients."""
    return read_together(one.metadata, other.metadata) and same_clients(one, other, default)


def same_clients(one: Exported, other: Exported, default: tuple[str, ...]) -> bool:
    """Return whether the sidecars of a namespace see both objects.

    Args:
        one: an object.
        other: another one.
        default: where an object without exportTo is exported to; empty for everywhere.

    Returns:
        Whether they do; an object that is exported nowhere has no clients.
    """
    left, right = _clients(one, default), _clients(other, default)
    if not left or not right:
        return False
    return "*" in left or "*" in right or bool(left & right)


def _clients(each: Exported, default: tuple[str, ...]) -> frozenset[str]:
    """Return the namespaces that an object is exported to: `*` for all."""
    own = each.metadata.namespace
    exported = each.spec.export_to or default or ("*",)
    return frozenset(own if name == "." else name for name in exported if name != "~")


def subsets(
    rules: Iterable[DestinationRule], domain: str = DEFAULT_DOMAIN
) -> Iterator[ObjectConflict]:
    """Yield subsets that DestinationRules of one namespace define twice for the same host."""
    merged: defaultdict[tuple[str, ...], list[DestinationRule]] = defaultdict(list)
    for each in rules:
        selector = each.spec.workload_selector
        labels = sorted(selector.match_labels.items()) if selector else ()
        host = fully_qualified(each.spec.host, each.metadata.namespace, domain)
        exported = ",".join(sorted(each.spec.export_to))
        merged[each.metadata.namespace, host, exported, str(labels)].append(each)
    for (_, host, *_), found in sorted(merged.items()):
        defined: defaultdict[str, list[DestinationRule]] = defaultdict(list)
        for each in found:
            for subset in each.spec.subsets:
                defined[subset.name].append(each)
        for name, definitions in sorted(defined.items()):
            pairs = [e for e in combinations(definitions, 2) if _read_together(*e)]
            if objects := {_name("DestinationRule", each) for pair in pairs for each in pair}:
                yield ObjectConflict(f"{host} subset {name}", tuple(sorted(objects)))


def _read_together(one: DestinationRule, other: DestinationRule) -> bool:
    return read_together(one.metadata, other.metadata)


def outbound(
    entries: Iterable[ServiceEntry], default_export: tuple[str, ...] = ()
) -> Iterator[ObjectConflict]:
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
            others = [e for e in found[index + 1 :] if _conflict(one, e, default_export)]
            if others:
                objects = [_name("ServiceEntry", each) for each in (one, *others)]
                yield ObjectConflict(f"0.0.0.0_{number}", tuple(sorted({*objects})))
                break


def inbound(pods: Iterable[Pod], services: Iterable[Service]) -> Iterator[ObjectConflict]:
    """Yield ports of pods with a sidecar that two Services declare with different protocols."""
    fronting = Fronting(services)
    seen: set[ObjectConflict] = set()
    for pod in pods:
        if not (workloads.is_active(pod) and workloads.has_sidecar(pod)):
            continue
        declared: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for service in fronting.services(pod):
            for port in (each for each in service.spec.ports if each.protocol == "TCP"):
                number = workloads.target(port, pod)
                declared[number].setdefault(_name("Service", service), protocol(port))
        for number, protocols in declared.items():
            if number and len({*protocols.values()}) > 1:
                where = f"port {number} of {workloads.owner(pod)}"
                seen.add(ObjectConflict(where, tuple(sorted(protocols))))
    yield from sorted(seen)


def _name(kind: str, each: Exported | DestinationRule | Service) -> str:
    return f"{kind} {each.metadata.namespace}/{each.metadata.name}"
