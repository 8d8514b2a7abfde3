"""What disproves messages of `istioctl analyze`: one function for each kind of evidence.

Each gets the message's origin (`Kind namespace/name`), the groups of the rule's pattern, and the
configuration.  It returns the evidence in words; empty if there is none.
"""

from collections.abc import Callable

from meshgate.semantics.analyze_configuration import Configuration, key_of, object_of, subject
from meshgate.semantics.analyze_hosts import REFERENCES, gateway_pods
from meshgate.semantics.conflicts import MESH, same_clients
from meshgate.semantics.hosts import covers, fully_qualified
from meshgate.semantics.listeners import PLAINTEXT
from meshgate.snapshot.istio import (
    HttpRoute,
    Mirrored,
    Server,
    TcpRoute,
    TlsRoute,
    VirtualService,
)

Route = HttpRoute | TlsRoute | TcpRoute


# --- IST0173 -------------------------------------------------------------------------------------


def _subset_without_traffic(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """No route leads to the subset, or each with weight 0 beside one that gets the traffic."""
    rule = next(
        (e for e in seen.destination_rules if key_of(e.metadata) == object_of(origin)), None
    )
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
                users.append(subject("VirtualService", service.metadata))
    return f"{users[0]} sends it weight 0" if users else "no VirtualService routes to it"


def _endpoints_without_pods(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """An endpoint of the host that is not a pod has the labels of the subset."""
    rule = next(
        (e for e in seen.destination_rules if key_of(e.metadata) == object_of(origin)), None
    )
    if rule is None:
        return ""
    # earlier releases did not record labels: without labels nothing is known of a subset
    wanted = next((e.labels for e in rule.spec.subsets if e.name == found["subset"]), {})
    namespace = rule.metadata.namespace
    host = fully_qualified(rule.spec.host, namespace, seen.domain)
    for entry in seen.service_entries if wanted else ():
        if not any(covers(host, each) for each in entry.spec.hosts):
            continue
        if any(wanted.items() <= each.labels.items() for each in entry.spec.endpoints):
            return f"{subject('ServiceEntry', entry.metadata)} has an endpoint with its labels"
        if entry.spec.workload_selector:
            selected = entry.spec.workload_selector.labels
            where = entry.metadata.namespace
            if machine := _workload_entry(where, {**selected, **wanted}, seen):
                return f"{machine} has its labels"
    for service in seen.services:
        where, name = key_of(service.metadata)
        if (
            wanted
            and service.spec.selector
            and host == f"{name}.{where}.svc.{seen.domain}"
            and (machine := _workload_entry(where, {**service.spec.selector, **wanted}, seen))
        ):
            return f"{machine} has its labels"
    return ""


def _workload_entry(namespace: str, labels: dict[str, str], seen: Configuration) -> str:
    """Return the WorkloadEntry of a namespace that has these labels; empty without one."""
    for each in seen.workload_entries:
        own = {**each.metadata.labels, **each.spec.labels}
        if each.metadata.namespace == namespace and labels.items() <= own.items():
            return subject("WorkloadEntry", each.metadata)
    return ""


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
    known = {"/".join(key_of(each.metadata)) for each in seen.virtual_services}
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


# --- IST0109 and IST0145: revisions -------------------------------------------------------------


def _other_revisions(origin: str, found: dict[str, str], seen: Configuration) -> str:
    """The label istio.io/rev gives the object to one istiod and all others to other ones."""
    objects = seen.gateways if origin.startswith("Gateway ") else seen.virtual_services
    by_name = {
        "/".join(key_of(each.metadata)): each.metadata.labels.get("istio.io/rev", "")
        for each in objects
    }
    own = "/".join(object_of(origin))
    others = {by_name.get(each, "") for each in found["names"].split(",") if each != own}
    # a label may also be a tag of the same istiod
    if (
        not others
        or by_name.get(own) in others
        or not {by_name.get(own), *others} <= seen.revisions
    ):
        return ""
    return f"only the istiod of revision {by_name[own]} reads it, and not the others"


# --- IST0149 -------------------------------------------------------------------------------------


def _authentication_of_root_namespace(_: str, found: dict[str, str], seen: Configuration) -> str:
    """A RequestAuthentication of the mesh's root namespace applies to the gateway's pod."""
    namespace, _, name = found["gateway"].partition("/")
    pods = [e for e in gateway_pods((namespace, name), seen) if e.metadata.name == found["pod"]]
    for each in seen.request_authentications:
        spec = each.spec
        labels = spec.selector.match_labels if spec.selector else {}
        if (
            pods
            and each.metadata.namespace == seen.root_namespace
            and not spec.target_ref
            and not spec.target_refs
            and all(labels.items() <= pod.metadata.labels.items() for pod in pods)
        ):
            return f"{subject('RequestAuthentication', each.metadata)} applies to the pod"
    return ""


# --- IST0101: selectors --------------------------------------------------------------------------


def _selects_nothing(origin: str, _: dict[str, str], seen: Configuration) -> str:
    """A Sidecar or a Telemetry that selects no pod configures none."""
    kind = origin.partition(" ")[0]
    if kind == "Telemetry" and object_of(origin)[0] == seen.root_namespace:
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
    known = {"/".join(key_of(each.metadata)): each for each in seen.gateways}
    names = ["/".join(object_of(origin)), *found["gateways"].split(",")]
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
        if key_of(each.metadata) == object_of(origin)
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
    return f"{subject('Telemetry', targeted[0].metadata)} has targetRefs"


# --- several clusters ----------------------------------------------------------------------------


def _other_clusters(_: str, __: dict[str, str], seen: Configuration) -> str:
    """Istiod reads Services and pods of clusters that analyze does not look at."""
    names = ", ".join(sorted(seen.remote_clusters))
    return f"istiod also reads the remote clusters {names}" if names else ""


Evidence = Callable[[str, dict[str, str], Configuration], str]

EVIDENCE: dict[str, Evidence] = {
    **REFERENCES,
    "subset_without_traffic": _subset_without_traffic,
    "endpoints_without_pods": _endpoints_without_pods,
    "other_revisions": _other_revisions,
    "authentication_of_root_namespace": _authentication_of_root_namespace,
    "conflict_with_itself": _conflict_with_itself,
    "different_hosts": _different_hosts,
    "selects_nothing": _selects_nothing,
    "port_of_the_client": _port_of_the_client,
    "merged_servers": _merged_servers,
    "operation_is_applied": _operation_is_applied,
    "telemetries_of_targets": _telemetries_of_targets,
    "other_clusters": _other_clusters,
}
