"""The requests that listeners and routes ask for: a plan, which a probe carries out.

Safe methods only.  What no safe request reaches for sure (a regular expression, another method)
is not planned: it can be declared.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshgate.semantics.topology import (
    HTTP,
    TLS,
    GatewayTopology,
    Listener,
    common,
    concrete,
    short,
)
from meshgate.snapshot.gateway_api import MethodMatch, ParentReference, Route, RouteMatch, RouteRule
from meshgate.snapshot.ingress import Request
from meshgate.snapshot.istio import HttpMatch, HttpRoute, RouteDestination, VirtualService

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class PlannedRequest(NamedTuple):
    """What is sent to one listener, wherever it is sent from."""

    host: str
    kind: str = "connect"
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    route: str = ""
    backends: tuple[str, ...] = ()
    expected: int = 0
    declared: bool = False
    send: str = ""
    tls_version: str = ""
    http2: bool = False
    certificate: bool = False
    grpc: bool = False

    def request(self, listener: Listener, vantage: str, service: str) -> Request:
        """The request from one vantage point."""
        return Request(
            vantage=vantage,
            service=service,
            gateway=listener.subject,
            port=listener.port,
            host=self.host,
            tls=listener.tls,
            kind=self.kind,
            method=self.method,
            path=self.path,
            headers=dict(self.headers),
            route=self.route,
            backends=self.backends,
            expected=self.expected,
            declared=self.declared,
            send=self.send,
            tls_version=self.tls_version,
            http2=self.http2,
            certificate=self.certificate,
            grpc=self.grpc,
        )


def planned_requests(
    topology: GatewayTopology, listener: Listener, *, identified: bool = False
) -> list[PlannedRequest]:
    """All that is sent to a listener: its routes' requests, and a connection for each TLS host.

    `identified`: there is a client's certificate to show, where one is asked for.
    """
    versions = _versions(listener)
    if listener.tls != "MUTUAL":
        return _usual(topology, listener) + versions
    # without a certificate nothing but the refusal can be seen
    refused = [PlannedRequest(concrete(host), "request") for host in listener.hosts]
    shown = _usual(topology, listener) if identified else []
    return refused + [each._replace(certificate=True) for each in shown] + versions


def _versions(listener: Listener) -> list[PlannedRequest]:
    """A handshake of each version: what one host of a server takes they all do."""
    if not listener.terminates:
        return []
    host = concrete(listener.hosts[0]) if listener.hosts else concrete("*")
    return [PlannedRequest(host, tls_version=version) for version in TLS.values()]


def _usual(topology: GatewayTopology, listener: Listener) -> list[PlannedRequest]:
    routed = [
        each._replace(grpc=each.grpc or topology.speak_grpc(each.backends))
        for each in dict.fromkeys(_routed(topology, listener))
    ]
    if not listener.tls:
        return routed or [PlannedRequest(concrete(host)) for host in listener.hosts]
    hosts = dict.fromkeys([concrete(host) for host in listener.hosts if "*" not in host])
    hosts |= dict.fromkeys(each.host for each in routed)
    named = {each.host: each for each in routed if each.kind == "connect"}
    connects = [named.get(host, PlannedRequest(host)) for host in hosts]
    requests = [each for each in routed if each.kind == "request"]
    # HTTP/2 is a server's: what one host of it agrees to they all do
    again = [each._replace(http2=True) for each in requests[:1] if not each.http2]
    return connects + requests + again


def _routed(topology: GatewayTopology, listener: Listener) -> Iterator[PlannedRequest]:
    if listener.redirects:
        for host in listener.hosts:
            yield PlannedRequest(concrete(host), "request", route=listener.subject, expected=301)
        return
    if listener.api:
        lists = topology.lists
        kinds = (("HTTPRoute", lists.http_routes), ("GRPCRoute", lists.grpc_routes))
        if listener.protocol == "TLS":
            kinds = (("TLSRoute", lists.tls_routes),)  # type: ignore[assignment]
        for kind, routes in kinds:
            for route in routes:
                yield from _of_route(kind, route, listener)
        return
    for service in topology.lists.virtual_services:
        if _bound(service, listener):
            yield from _of_virtual_service(service, listener)


# --- Istio's own --------------------------------------------------------------------------------


def _bound(service: VirtualService, listener: Listener) -> bool:
    names = {f"{listener.namespace}/{listener.name}"}
    if service.metadata.namespace == listener.namespace:
        names.add(listener.name)
    return bool(names.intersection(service.spec.gateways))


def _of_virtual_service(service: VirtualService, listener: Listener) -> Iterator[PlannedRequest]:
    metadata = service.metadata
    subject = f"VirtualService {metadata.namespace}/{metadata.name}"
    if listener.protocol == "TLS":
        for tls in service.spec.tls:
            backends = _destinations(tls.route, metadata.namespace)
            for host in [sni for match in tls.match for sni in match.sni_hosts]:
                if any(common(host, each) for each in listener.hosts):
                    yield PlannedRequest(concrete(host), route=subject, backends=backends)
        return
    if listener.protocol not in HTTP:
        return
    for host in _hosts(listener.hosts, service.spec.hosts):
        shadowed = False
        for number, rule in enumerate(service.spec.http):
            if not shadowed and (planned_request := _of_rule(rule, listener, metadata.namespace)):
                name = rule.name or str(number)
                yield planned_request._replace(host=concrete(host), route=f"{subject} route {name}")
            shadowed = shadowed or not rule.match


def _of_rule(rule: HttpRoute, listener: Listener, namespace: str) -> PlannedRequest | None:
    match = next((each for each in rule.match if _derivable(each, listener)), None)
    if rule.match and match is None:
        return None
    expected = 0
    if rule.redirect:
        expected = rule.redirect.redirect_code or 301
    elif rule.direct_response:
        expected = rule.direct_response.status
    planned_request = PlannedRequest("", "request", backends=_destinations(rule.route, namespace))
    planned_request = planned_request._replace(expected=expected)
    if match is None:
        return planned_request
    path = (match.uri.exact or match.uri.prefix or "/") if match.uri else "/"
    query = "&".join(f"{key}={value.exact}" for key, value in sorted(match.query_params.items()))
    headers = tuple((name, value.exact or "") for name, value in sorted(match.headers.items()))
    return planned_request._replace(
        method=(match.method.exact if match.method else None) or "GET",
        path=path + (f"?{query}" if query else ""),
        headers=headers,
    )


def _derivable(match: HttpMatch, listener: Listener) -> bool:
    """Whether a safe request is sure to match."""
    exact = [*match.headers.values(), *match.query_params.values()]
    return (
        (match.uri is None or match.uri.regex is None)
        and (match.method is None or match.method.exact in SAFE)
        and match.authority is None
        and all(each.exact is not None for each in exact)
        and match.port in (0, listener.port)
        and not match.gateways
    )


def _destinations(routes: Iterable[RouteDestination], namespace: str) -> tuple[str, ...]:
    """`host:port`, with `|subset` where one is named."""
    return tuple(
        short(to.host, namespace)
        + (f":{to.port.number}" if to.port else "")
        + (f"|{to.subset}" if to.subset else "")
        for to in (each.destination for each in routes)
    )


def _hosts(listening: Iterable[str], routed: Iterable[str]) -> list[str]:
    routed = tuple(routed) or ("*",)
    both = (common(one, other) for one in listening for other in routed)
    return list(dict.fromkeys(host for host in both if host))


# --- the Gateway API ----------------------------------------------------------------------------


def _of_route(kind: str, route: Route, listener: Listener) -> Iterator[PlannedRequest]:
    metadata = route.metadata
    subject = f"{kind} {metadata.namespace}/{metadata.name}"
    if not any(attached(parent, metadata.namespace, listener) for parent in route.spec.parent_refs):
        return
    for host in _hosts(listener.hosts, route.spec.hostnames):
        for number, rule in enumerate(route.spec.rules):
            backends = tuple(
                f"{each.name}.{each.namespace or metadata.namespace}.svc.cluster.local:{each.port}"
                for each in rule.backend_refs
                if each.kind == "Service"
            )
            if kind == "TLSRoute":
                yield PlannedRequest(concrete(host), route=subject, backends=backends)
            elif planned_request := _of_matches(rule):
                yield planned_request._replace(
                    host=concrete(host),
                    route=f"{subject} rule {number}",
                    backends=backends,
                    http2=kind == "GRPCRoute",
                    grpc=kind == "GRPCRoute",
                )


def attached(parent: ParentReference, namespace: str, listener: Listener) -> bool:
    """Whether a route's parentRef names this listener."""
    return (
        parent.kind == "Gateway"
        and (parent.namespace or namespace, parent.name) == (listener.namespace, listener.name)
        and parent.section_name in ("", listener.section)
        and parent.port in (0, listener.port)
    )


def _of_matches(rule: RouteRule) -> PlannedRequest | None:
    redirects = [each.request_redirect for each in rule.filters if each.request_redirect]
    planned_request = PlannedRequest(
        "", "request", expected=redirects[0].status_code if redirects else 0
    )
    match = next((each for each in rule.matches if _sure(each)), None)
    if match is None:
        return None if rule.matches else planned_request
    query = "&".join(f"{each.name}={each.value}" for each in match.query_params)
    path, method = match.path.value, match.method
    if isinstance(method, MethodMatch):
        # a gRPC method is a path; its backend refuses a GET for it, and has been reached
        path, method = f"/{method.service}/{method.method or 'Meshgate'}", "GET"
    return planned_request._replace(
        method=method or "GET",
        path=path + (f"?{query}" if query else ""),
        headers=tuple((each.name, each.value) for each in match.headers),
    )


def _sure(match: RouteMatch) -> bool:
    method = match.method
    exact = [*match.headers, *match.query_params]
    return (
        match.path.type != "RegularExpression"
        and all(each.type == "Exact" for each in exact)
        and (
            (method.type == "Exact" and bool(method.service))
            if isinstance(method, MethodMatch)
            else method in ("", *SAFE)
        )
    )
