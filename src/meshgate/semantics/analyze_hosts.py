"""What disproves messages of `istioctl analyze` about references (IST0101): as analyze_evidence."""

import re
from collections.abc import Iterator

from meshgate.semantics.analyze_configuration import Configuration, key_of, object_of, subject
from meshgate.semantics.conflicts import MESH
from meshgate.semantics.hosts import DEFAULT_DOMAIN, covers, fully_qualified, service_name
from meshgate.snapshot.kubernetes import Metadata, Pod

_LEGACY = re.compile(r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)(\.svc(\.[^/]+)?)?")


def _legacy_gateway_name(_: str, found: dict[str, str], seen: Configuration) -> str:
    legacy = _LEGACY.fullmatch(found["gateway"])
    if legacy is None:
        return ""
    wanted = (legacy["namespace"], legacy["name"])
    there = any(key_of(each.metadata) == wanted for each in seen.gateways)
    return f"Gateway {wanted[0]}/{wanted[1]} exists" if there else ""


def _host_exported_to_gateways(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """A Service or ServiceEntry has the host, and all gateways that use the route see it."""
    service = seen.virtual_service(origin)
    if service is None:
        return ""
    using: set[str] = set()
    for reference in service.spec.gateways or (MESH,):
        namespaces = _gateway_namespaces(reference, service.metadata.namespace, seen)
        if not namespaces:  # the sidecars of the mesh use it, or no pod is known
            return ""
        using |= namespaces
    host = fully_qualified(found["host"], service.metadata.namespace, seen.domain)
    for kind, metadata, exported in _exports(host, seen):
        if all(
            "*" in exported or each in exported or ("." in exported and each == metadata.namespace)
            for each in using
        ):
            return f"{subject(kind, metadata)} exports it to {', '.join(sorted(using))}"
    return ""


def _exports(host: str, seen: Configuration) -> Iterator[tuple[str, Metadata, tuple[str, ...]]]:
    """Yield the objects that define a host, with where they are exported to."""
    for entry in seen.service_entries:
        if host in entry.spec.hosts:
            yield "ServiceEntry", entry.metadata, entry.spec.export_to
    for service in seen.services:
        namespace, name = key_of(service.metadata)
        # without the annotation analyze sees the Service from everywhere
        exported = service.metadata.annotations.export_to or ""
        if host == f"{name}.{namespace}.svc.{seen.domain}" and exported:
            yield "Service", service.metadata, tuple(exported.split(","))


def _gateway_namespaces(reference: str, own: str, seen: Configuration) -> set[str]:
    """Return the namespaces of the pods of a Gateway, which are what exportTo is about.

    Args:
        reference: the gateway, as a VirtualService names it.
        own: the VirtualService's namespace.
        seen: the Gateways and pods.

    Returns:
        The namespaces; empty for the mesh, and for a Gateway that has no pods.
    """
    if reference == MESH:
        return set()
    namespace, slash, name = reference.partition("/")
    legacy = _LEGACY.fullmatch(reference)
    if slash:
        wanted = (own if namespace == "." else namespace, name)
    elif legacy:
        wanted = (legacy["namespace"], legacy["name"])
    else:
        wanted = (own, reference)
    return {pod.metadata.namespace for pod in gateway_pods(wanted, seen)}


def gateway_pods(wanted: tuple[str, str], seen: Configuration) -> list[Pod]:
    """Return the pods that a Gateway selects, by its namespace and name."""
    return [
        pod
        for gateway in seen.gateways
        if key_of(gateway.metadata) == wanted and gateway.spec.selector
        for pod in seen.pods
        if gateway.spec.selector.items() <= pod.metadata.labels.items()
    ]


def _service_of_domain(_: str, found: dict[str, str], seen: Configuration) -> str:
    """The cluster has another domain than cluster.local, and the Service exists."""
    host = found["host"]
    if seen.domain == DEFAULT_DOMAIN or not host.endswith(f".svc.{seen.domain}"):
        return ""
    wanted = service_name(host)
    there = any("/".join(key_of(each.metadata)) == wanted for each in seen.services)
    return f"Service {wanted} exists" if there else ""


def _subset_of_another_rule(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """A DestinationRule that every client of the host uses defines the subset."""
    namespace, _ = object_of(origin)
    host = fully_qualified(found["host"], namespace, seen.domain)
    rules = [
        each
        for each in seen.destination_rules
        if covers(fully_qualified(each.spec.host, each.metadata.namespace, seen.domain), host)
    ]
    homes = {seen.root_namespace, *_namespaces_of(host, seen)}
    for rule in rules:
        exported = rule.spec.export_to
        if (
            rule.metadata.namespace in homes
            and (not exported or "*" in exported)
            and rule.spec.workload_selector is None
            and all(
                found["subset"] in {subset.name for subset in each.spec.subsets} for each in rules
            )
        ):
            return f"{subject('DestinationRule', rule.metadata)} defines it"
    return ""


def _namespaces_of(host: str, seen: Configuration) -> Iterator[str]:
    """Yield the namespaces of the Service and the ServiceEntries of a host."""
    if host.endswith(f".svc.{seen.domain}"):
        yield service_name(host).partition("/")[0]
    for entry in seen.service_entries:
        if any(covers(each, host) for each in entry.spec.hosts):
            yield entry.metadata.namespace


REFERENCES = {
    "legacy_gateway_name": _legacy_gateway_name,
    "host_exported_to_gateways": _host_exported_to_gateways,
    "service_of_domain": _service_of_domain,
    "subset_of_another_rule": _subset_of_another_rule,
}
