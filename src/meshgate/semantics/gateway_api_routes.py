"""The requests that routes of the Gateway API ask for."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meshgate.semantics.hosts import concrete
from meshgate.semantics.listeners import Listener, isolated
from meshgate.semantics.planned import PlannedRequest
from meshgate.semantics.route_matches import SAFE
from meshgate.semantics.routing_config import RoutingConfig
from meshgate.semantics.topology import GatewayTopology
from meshgate.semantics.virtual_services import hosts
from meshgate.snapshot.gateway_api import MethodMatch, ParentReference, Route, RouteMatch, RouteRule
from meshgate.snapshot.ingress import Skipped


class Place(NamedTuple):
    """A rule: `Kind namespace/name` of its route, and its name or number there."""

    owner: str
    name: str

    @property
    def route(self) -> str:
        """Its name in findings."""
        return f"{self.owner} route {self.name}"


class Hidden(NamedTuple):
    """A rule that gets no request for a host, because another one takes them all."""

    rule: Place
    host: str
    by: Place


def attached(parent: ParentReference, namespace: str, listener: Listener) -> bool:
    """Return whether a route's parentRef names this listener.

    Args:
        parent: one of the route's parentRefs.
        namespace: the route's.
        listener: of a Gateway of the Gateway API.

    Returns:
        Whether it does, and the listener accepts routes of this namespace.
    """
    if listener.admits is not None and namespace not in listener.admits:
        return False
    kind, owner = "Gateway", f"{listener.namespace}/{listener.name}"
    if listener.added_by:
        kind, owner = "ListenerSet", listener.added_by
    return (
        parent.kind == kind
        and f"{parent.namespace or namespace}/{parent.name}" == owner
        and parent.section_name in ("", listener.section)
        and parent.port in (0, listener.port)
    )


def requests(topology: GatewayTopology, listener: Listener) -> Iterator[PlannedRequest | Skipped]:
    """Return the request of every rule at a listener, or why there is none."""
    lists = topology.lists
    for kind, routes in _routes(lists, listener).items():
        for route in routes:
            yield from _of_route(kind, route, listener, lists.domain)


def _routes(lists: RoutingConfig, listener: Listener) -> dict[str, list[Route]]:
    """Return the routes at a listener by their kind, the oldest first."""
    kinds: dict[str, Sequence[Route]]
    if listener.protocol == "TLS":
        kinds = {"TLSRoute": lists.tls_routes}
        kinds |= {"TCPRoute": lists.tcp_routes} if listener.terminates else {}
    elif listener.protocol == "TCP":
        kinds = {"TCPRoute": lists.tcp_routes}
    else:
        kinds = {"HTTPRoute": lists.http_routes, "GRPCRoute": lists.grpc_routes}
    return {
        kind: [
            route
            for route in sorted(routes, key=_age)
            if any(
                attached(each, route.metadata.namespace, listener)
                for each in route.spec.parent_refs
            )
        ]
        for kind, routes in kinds.items()
        if not listener.kinds or kind in listener.kinds
    }


def hidden(topology: GatewayTopology, listener: Listener) -> Iterator[Hidden]:
    """Return the rules all of whose matches an older route of the same host has as well.

    Of equal matches the oldest route's counts, then that of the first name.  TCPRoutes have no
    matches, and TLSRoutes only their hosts.
    """
    for kind, routes in _routes(topology.lists, listener).items():
        taken: dict[tuple[str, RouteMatch], Place] = {}
        for route in routes:
            metadata = route.metadata
            subject = f"{kind} {metadata.namespace}/{metadata.name}"
            for host in _hosts(route, listener):
                for number, rule in enumerate(route.spec.rules):
                    keys = [(host, match) for match in rule.matches or (RouteMatch(),)]
                    before = [taken.get(key) for key in keys]
                    for key in keys:
                        taken.setdefault(key, Place(subject, str(number)))
                    if by := _other(before, subject):
                        yield Hidden(Place(subject, str(number)), host, by)


def _hosts(route: Route, listener: Listener) -> list[str]:
    return isolated(listener, hosts(listener.hosts, route.spec.hostnames))


def _age(route: Route) -> tuple[str, str]:
    metadata = route.metadata
    created = metadata.creation_timestamp
    return created.isoformat() if created else "", f"{metadata.namespace}/{metadata.name}"


def _other(places: list[Place | None], subject: str) -> Place | None:
    """Return the first place if all of them are in other routes."""
    found = [each for each in places if each is not None and each.owner != subject]
    return found[0] if found and len(found) == len(places) else None


def _of_route(
    kind: str, route: Route, listener: Listener, domain: str
) -> Iterator[PlannedRequest | Skipped]:
    metadata = route.metadata
    subject = f"{kind} {metadata.namespace}/{metadata.name}"
    for host in _hosts(route, listener):
        for number, rule in enumerate(route.spec.rules):
            backends = tuple(
                f"{each.name}.{each.namespace or metadata.namespace}.svc.{domain}:{each.port}"
                for each in rule.backend_refs
                if each.kind == "Service" and each.weight
            )
            if kind in ("TLSRoute", "TCPRoute"):
                yield PlannedRequest(concrete(host), route=subject, backends=backends)
                continue
            name = f"{subject} rule {number}"
            found = _of_rule(rule)
            if isinstance(found, str):
                yield Skipped(subject=name, why=found)
                continue
            yield found._replace(
                host=concrete(host),
                route=name,
                backends=backends,
                http2=kind == "GRPCRoute",
                grpc=kind == "GRPCRoute",
            )


def _of_rule(rule: RouteRule) -> PlannedRequest | str:
    """Return a request that is certain to match, or why there is none."""
    redirects = [each.request_redirect for each in rule.filters if each.request_redirect]
    planned = PlannedRequest("", "request", expected=redirects[0].status_code if redirects else 0)
    if not redirects and not any(each.weight for each in rule.backend_refs):
        # 500 or 404, by release
        return "no backend: the gateway itself answers with an error"
    if not rule.matches:
        return planned
    reasons = [_not_derivable(each) for each in rule.matches]
    match = next((m for m, why in zip(rule.matches, reasons, strict=True) if not why), None)
    if match is None:
        return reasons[0]
    query = "&".join(f"{each.name}={each.value}" for each in match.query_params)
    path, method = match.path.value, match.method
    if isinstance(method, MethodMatch):
        # a gRPC method is a path; its backend refuses a GET for it, and has been reached
        path, method = f"/{method.service}/{method.method or 'Meshgate'}", "GET"
    return planned._replace(
        method=method or "GET",
        path=path + (f"?{query}" if query else ""),
        headers=tuple((each.name, each.value) for each in match.headers),
    )


def _not_derivable(match: RouteMatch) -> str:
    method = match.method
    if match.path.type == "RegularExpression":
        return "regular expression"
    if any(each.type != "Exact" for each in (*match.headers, *match.query_params)):
        return "header or query match that is not exact"
    if isinstance(method, MethodMatch):
        return "" if method.type == "Exact" and method.service else "gRPC method that is not exact"
    return "" if method in ("", *SAFE) else "no safe method"
