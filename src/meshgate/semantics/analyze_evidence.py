"""What disproves messages of `istioctl analyze`: one function for each kind of evidence.

Each gets the message's origin (`Kind namespace/name`), the groups of the rule's pattern, and the
configuration.  It returns the evidence in words; empty if there is none.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from meshgate.semantics.conflicts import MESH, same_clients
from meshgate.semantics.hosts import DEFAULT_DOMAIN, covers, fully_qualified, service_name
from meshgate.semantics.listeners import PLAINTEXT
from meshgate.snapshot.istio import (
    DestinationRule,
    EnvoyFilter,
    Gateway,
    HttpRoute,
    Mirrored,
    Server,
    ServiceEntry,
    TcpRoute,
    TlsRoute,
    VirtualService,
)
from meshgate.snapshot.kubernetes import Metadata, Pod, Service
from meshgate.snapshot.telemetry import Telemetry

Route = HttpRoute | TlsRoute | TcpRoute


class Configuration(NamedTuple):
    """The objects that can disprove a message.

    Attributes:
        domain: the cluster's.
        root_namespace: the mesh's.
        default_export: where VirtualServices without exportTo are exported to; empty for all.
        remote_clusters: the other clusters whose objects istiod reads.
    """

    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    service_entries: tuple[ServiceEntry, ...] = ()
    services: tuple[Service, ...] = ()
    pods: tuple[Pod, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    telemetries: tuple[Telemetry, ...] = ()
    domain: str = DEFAULT_DOMAIN
    root_namespace: str = ""
    default_export: tuple[str, ...] = ()
    remote_clusters: tuple[str, ...] = ()

    def virtual_service(self, origin: str) -> VirtualService | None:
        """Return the VirtualService that a message is about."""
        return next(
            (each for each in self.virtual_services if _key(each.metadata) == _object(origin)), None
        )


def _object(origin: str) -> tuple[str, str]:
    """Return the namespace and name in `Kind namespace/name`."""
    namespace, _, name = origin.partition(" ")[2].partition("/")
    return namespace, name


def _key(metadata: Metadata) -> tuple[str, str]:
    return metadata.namespace, metadata.name


def _name(kind: str, metadata: Metadata) -> str:
    return f"{kind} {metadata.namespace}/{metadata.name}"


# --- IST0173 -------------------------------------------------------------------------------------


def _subset_without_traffic(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """No route leads to the subset, or each with weight 0 beside one that gets the traffic."""
    rule = next((e for e in seen.destination_rules if _key(e.metadata) == _object(origin)), None)
    if rule is None:
        return ""
    host = fully_qualified(rule.spec.host, rule.metadata.namespace, seen.domain)
    users = []
    for service in seen.virtual_services:
        routes: tuple[Route, ...] = (*service.spec.http, *service.spec.tls, *service.spec.tcp)
        namespace = service.metadata.namespace
        for route in routes:
            to_host = [
                each
                for each in route.route
                if covers(host, fully_qualified(each.destination.host, namespace, seen.domain))
            ]
            if any(
                not each.host
                or (
                    each.subset == found["subset"]
                    and covers(host, fully_qualified(each.host, namespace, seen.domain))
                )
                for each in _mirrored(route)
            ):
                return ""
            to_subset = [e for e in to_host if e.destination.subset == found["subset"]]
            if any((each.weight or 0) > 0 for each in to_subset) or (
                to_subset and len(route.route) == 1
            ):
                return ""
            if to_subset:
                users.append(_name("VirtualService", service.metadata))
    return f"{users[0]} sends it weight 0" if users else "no VirtualService routes to it"


def _mirrored(route: Route) -> list[Mirrored]:
    """Return where a route mirrors to."""
    if not isinstance(route, HttpRoute):
        return []
    return [
        *filter(None, [route.mirror]),
        *(each.destination for each in route.mirrors),
    ]


# --- IST0109 -------------------------------------------------------------------------------------


def _conflict_with_itself(_: str, found: dict[str, str], __: Configuration) -> str:
    names = set(found["names"].split(","))
    return f"only VirtualService {names.pop()} defines the host" if len(names) == 1 else ""


def _different_hosts(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """No other VirtualService has the same host, kind of routes and clients."""
    known = {"/".join(_key(each.metadata)) for each in seen.virtual_services}
    own = seen.virtual_service(origin)
    if own is None or not known.issuperset(found["names"].split(",")):
        return ""
    for other in seen.virtual_services:
        if (
            other is not own
            and MESH in (other.spec.gateways or (MESH,))
            and _hosts(own, seen.domain) & _hosts(other, seen.domain)
            and _same_kind(own, other)
            and same_clients(own, other, seen.default_export)
        ):
            return ""
    return "no other VirtualService routes the same kind of traffic of the same clients and host"


def _hosts(service: VirtualService, domain: str) -> set[str]:
    namespace = service.metadata.namespace
    return {fully_qualified(each, namespace, domain).lower() for each in service.spec.hosts}


def _same_kind(one: VirtualService, other: VirtualService) -> bool:
    if one.spec.http and other.spec.http:
        return True
    return bool((one.spec.tls or one.spec.tcp) and (other.spec.tls or other.spec.tcp))


# --- IST0101: gateways and hosts ----------------------------------------------------------------

_LEGACY = re.compile(r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)(\.svc(\.[^/]+)?)?")


def _legacy_gateway_name(_: str, found: dict[str, str], seen: Configuration) -> str:
    legacy = _LEGACY.fullmatch(found["gateway"])
    if legacy is None:
        return ""
    wanted = (legacy["namespace"], legacy["name"])
    there = any(_key(each.metadata) == wanted for each in seen.gateways)
    return f"Gateway {wanted[0]}/{wanted[1]} exists" if there else ""


def _host_exported_to_gateways(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """A ServiceEntry defines the host, and the pods of the gateways that use the route see it."""
    service = seen.virtual_service(origin)
    if service is None:
        return ""
    using: set[str] = set()
    for reference in service.spec.gateways or (MESH,):
        namespaces = _gateway_namespaces(reference, service.metadata.namespace, seen)
        if not namespaces:  # the sidecars of the mesh use it, or no pod is known
            return ""
        using |= namespaces
    for entry in seen.service_entries:
        exported = entry.spec.export_to
        if found["host"] in entry.spec.hosts and all(
            "*" in exported
            or each in exported
            or ("." in exported and each == entry.metadata.namespace)
            for each in using
        ):
            subject = _name("ServiceEntry", entry.metadata)
            return f"{subject} exports it to {', '.join(sorted(using))}"
    return ""


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
    return {
        pod.metadata.namespace
        for gateway in seen.gateways
        if _key(gateway.metadata) == wanted and gateway.spec.selector
        for pod in seen.pods
        if gateway.spec.selector.items() <= pod.metadata.labels.items()
    }


def _service_of_domain(_: str, found: dict[str, str], seen: Configuration) -> str:
    """The cluster has another domain than cluster.local, and the Service exists."""
    host = found["host"]
    if seen.domain == DEFAULT_DOMAIN or not host.endswith(f".svc.{seen.domain}"):
        return ""
    wanted = service_name(host)
    there = any("/".join(_key(each.metadata)) == wanted for each in seen.services)
    return f"Service {wanted} exists" if there else ""


def _subset_of_another_rule(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """A DestinationRule that every client of the host uses defines the subset."""
    namespace, _ = _object(origin)
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
            return f"{_name('DestinationRule', rule.metadata)} defines it"
    return ""


def _namespaces_of(host: str, seen: Configuration) -> Iterator[str]:
    """Yield the namespaces of the Service and the ServiceEntries of a host."""
    if host.endswith(f".svc.{seen.domain}"):
        yield service_name(host).partition("/")[0]
    for entry in seen.service_entries:
        if any(covers(each, host) for each in entry.spec.hosts):
            yield entry.metadata.namespace


# --- IST0101: selectors --------------------------------------------------------------------------


def _selects_nothing(origin: str, _: dict[str, str], seen: Configuration) -> str:
    """A Sidecar or a Telemetry that selects no pod configures none."""
    kind = origin.partition(" ")[0]
    if kind == "Telemetry" and _object(origin)[0] == seen.root_namespace:
        return "a Telemetry of the root namespace selects pods of all namespaces"
    return "it configures no pod now" if kind in ("Sidecar", "Telemetry") else ""


# --- IST0112 -------------------------------------------------------------------------------------


def _port_of_the_client(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """Only sidecars use the VirtualService, and it routes to the host that clients call."""
    service = seen.virtual_service(origin)
    if service is None or {*service.spec.gateways} - {MESH}:
        return ""
    host = fully_qualified(found["host"], service.metadata.namespace, seen.domain)
    if _hosts(service, seen.domain) != {host}:
        return ""
    return f"only sidecars use the VirtualService, and its clients call {host} itself"


# --- IST0145 -------------------------------------------------------------------------------------


def _merged_servers(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """All servers of the port are plaintext HTTP without a redirect, or all redirect to HTTPS."""
    known = {"/".join(_key(each.metadata)): each for each in seen.gateways}
    names = ["/".join(_object(origin)), *found["gateways"].split(",")]
    if not all(name in known for name in names):
        return ""
    servers = [
        server
        for name in names
        for server in known[name].spec.servers
        if str(server.port.number) == found["port"]
    ]
    if not all(server.port.protocol.upper() in PLAINTEXT for server in servers):
        return ""
    if all(server.tls is None for server in servers):
        return "their servers are plaintext HTTP, which istiod merges"
    if all(map(_redirects, servers)):
        return "all of them redirect to HTTPS"
    return ""


def _redirects(server: Server) -> bool:
    return server.tls is not None and server.tls.https_redirect


# --- IST0152 to IST0154 --------------------------------------------------------------------------

# The places of patches at which istiod carries out an operation (pilot/pkg/networking/core/
# envoyfilter), beside those that the analyzer knows.
_REPLACED = ("NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST", "LISTENER_FILTER")


def _operation_is_applied(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """Every patch with the operation is at a place where istiod applies it."""
    operation = found["operation"]
    places = [
        patch.apply_to
        for each in seen.envoy_filters
        if _key(each.metadata) == _object(origin)
        for patch in each.spec.config_patches
        if patch.patch.operation == operation
    ]
    if operation == "REPLACE":
        applied = [each in _REPLACED for each in places]
    else:
        applied = [each != "ROUTE_CONFIGURATION" for each in places]
    if not applied or not all(applied):
        return ""
    return f"istiod applies {operation} to {', '.join(sorted({*places}))}"


# --- IST0160 -------------------------------------------------------------------------------------


def _telemetries_of_targets(_: str, found: dict[str, str], seen: Configuration) -> str:
    """All Telemetries of the namespace but one name pods or targets."""
    there = [each for each in seen.telemetries if each.metadata.namespace == found["namespace"]]
    targeted = [each for each in there if each.spec.target_ref or each.spec.target_refs]
    general = [each for each in there if each not in targeted and each.spec.selector is None]
    if not targeted or len(general) > 1:
        return ""
    return f"{_name('Telemetry', targeted[0].metadata)} has targetRefs"


# --- several clusters ----------------------------------------------------------------------------


def _other_clusters(_: str, __: dict[str, str], seen: Configuration) -> str:
    """Istiod reads Services and pods of clusters that analyze does not look at."""
    names = ", ".join(sorted(seen.remote_clusters))
    return f"istiod also reads the remote clusters {names}" if names else ""


Evidence = Callable[[str, dict[str, str], Configuration], str]

EVIDENCE: dict[str, Evidence] = {
    "subset_without_traffic": _subset_without_traffic,
    "conflict_with_itself": _conflict_with_itself,
    "different_hosts": _different_hosts,
    "legacy_gateway_name": _legacy_gateway_name,
    "host_exported_to_gateways": _host_exported_to_gateways,
    "service_of_domain": _service_of_domain,
    "subset_of_another_rule": _subset_of_another_rule,
    "selects_nothing": _selects_nothing,
    "port_of_the_client": _port_of_the_client,
    "merged_servers": _merged_servers,
    "operation_is_applied": _operation_is_applied,
    "telemetries_of_targets": _telemetries_of_targets,
    "other_clusters": _other_clusters,
}
