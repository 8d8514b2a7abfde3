"""What disproves messages of `istioctl analyze` about references (IST0101): as analyze_evidence."""

import ipaddress
import re
from collections.abc import Iterator

from meshgate.semantics.analyze_configuration import Configuration, key_of, object_of, subject
from meshgate.semantics.conflicts import MESH
from meshgate.semantics.hosts import DEFAULT_DOMAIN, covers, fully_qualified, service_name
from meshgate.snapshot.istio import HttpRoute, TcpRoute, TlsRoute
from meshgate.snapshot.kubernetes import Metadata, Pod, Service
from meshgate.snapshot.mcs import MCS_GROUP, MCS_VERSION

# constants.DefaultClusterSetLocalDomain in Istio
_IMPORTED = re.compile(r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)\.svc\.clusterset\.local")
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


def _service_is_imported(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """Istiod makes the host from a ServiceImport with an address, and from its Service.

    (pilot/pkg/serviceregistry/kube/controller/serviceimportcache.go)
    """
    host = _IMPORTED.fullmatch(found["host"])
    if host is None or not seen.mcs_hosts:
        return ""
    wanted = (host["namespace"], host["name"])
    imported = any(
        key_of(each.metadata) == wanted
        and each.api_version == f"{MCS_GROUP}/{MCS_VERSION}"
        and any(map(_is_address, each.spec.ips))
        for each in seen.service_imports
    )
    service = next((each for each in seen.services if key_of(each.metadata) == wanted), None)
    if not imported or service is None or not _is_public(service, seen):
        return ""
    if not _has_ports_of_routes(service, origin, found["host"], seen):
        return ""
    return f"istiod serves the host of ServiceImport {wanted[0]}/{wanted[1]}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_public(service: Service, seen: Configuration) -> bool:
    """Return whether all namespaces see a Service, whose exportTo the imported one has too."""
    exported = service.metadata.annotations.export_to
    namespaces = exported.split(",") if exported else seen.default_service_export
    return not namespaces or "*" in map(str.strip, namespaces)


def _has_ports_of_routes(service: Service, origin: str, host: str, seen: Configuration) -> bool:
    """Return whether a VirtualService routes only to ports of this Service.

    Analyze compares them only for hosts that it finds.

    Args:
        service: the Service whose ports the imported one has.
        origin: the VirtualService that analyze reports.
        host: the imported host.
        seen: all VirtualServices.

    Returns:
        Whether each route to the host names a port of the Service, or none if there is only one;
        False for a VirtualService that is not known.
    """
    routing = seen.virtual_service(origin)
    if routing is None:
        return False
    ports = {each.port for each in service.spec.ports}
    routes: tuple[HttpRoute | TlsRoute | TcpRoute, ...] = (
        *routing.spec.http,
        *routing.spec.tls,
        *routing.spec.tcp,
    )
    return all(
        each.destination.port.number in ports if each.destination.port else len(ports) == 1
        for route in routes
        for each in route.route
        if each.destination.host == host
    )


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
    "service_is_imported": _service_is_imported,
    "subset_of_another_rule": _subset_of_another_rule,
}
