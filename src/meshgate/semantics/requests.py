"""The requests that listeners and routes ask for: a plan, which a probe carries out.

Only GET, HEAD and OPTIONS.  What no such request is certain to reach is not planned but listed
with the reason; it can be declared (`--expect`).
"""

from collections.abc import Iterator
from typing import NamedTuple

from meshgate.semantics import gateway_api_routes, l4_routes, virtual_services
from meshgate.semantics.gateway_api_routes import Hidden, Place
from meshgate.semantics.hosts import concrete
from meshgate.semantics.listeners import HTTP, VERSIONS, Listener
from meshgate.semantics.planned import PlannedRequest
from meshgate.semantics.route_requests import Derived, derived, expected
from meshgate.semantics.topology import GatewayTopology
from meshgate.semantics.virtual_services import Rule, destinations
from meshgate.settings import flag
from meshgate.snapshot.ingress import Skipped

__all__ = ["PlannedRequest", "Requests", "hidden_routes", "planned_requests", "requests"]

# listeners that only proxies of the mesh can use
MESH_ONLY = {
    "ISTIO_MUTUAL": "accepts only certificates of the mesh",
    "AUTO_PASSTHROUGH": "is for other networks of the mesh",
}


class Requests(NamedTuple):
    """What is sent to one listener, and what is not."""

    planned: list[PlannedRequest]
    skipped: list[Skipped]


def planned_requests(
    topology: GatewayTopology, listener: Listener, *, identified: bool = False
) -> list[PlannedRequest]:
    """Return only what is sent to a listener.

    Args:
        topology: the gateways.
        listener: one of them.
        identified: as for `requests`.

    Returns:
        The planned requests.
    """
    return requests(topology, listener, identified=identified).planned


def requests(
    topology: GatewayTopology, listener: Listener, *, identified: bool = False
) -> Requests:
    """Return what is sent to a listener: requests of its routes, and TLS handshakes.

    Args:
        topology: the gateways.
        listener: one of them.
        identified: whether there is a client certificate for listeners that demand one.

    Returns:
        What is planned, and what is skipped with its reason.
    """
    if listener.tls in MESH_ONLY:
        why = MESH_ONLY[listener.tls]
        return Requests([], [Skipped(subject=listener.words, why=why, kind="listener")])
    routed: list[PlannedRequest] = []
    skipped: list[Skipped] = []
    for each in dict.fromkeys(_routed(topology, listener)):
        if isinstance(each, Skipped):
            skipped.append(each)
        else:
            routed.append(each._replace(grpc=each.grpc or topology.speak_grpc(each.backends)))
    usual, versions = _usual(listener, routed), _versions(listener)
    if listener.tls != "MUTUAL":
        return Requests(usual + versions, skipped)
    # without a certificate only the refusal can be seen
    refused = [PlannedRequest(concrete(host), "request") for host in listener.hosts]
    if not identified:
        named = dict.fromkeys(each.route for each in routed if each.route)
        why = f"mutual TLS, and no {flag('ingress.identity')}"
        skipped += [Skipped(subject=each, why=why) for each in named]
    shown = [each._replace(certificate=True) for each in usual] if identified else []
    return Requests(refused + shown + versions, skipped)


def _versions(listener: Listener) -> list[PlannedRequest]:
    """Return a handshake of each version: all hosts of one server accept the same ones."""
    if not listener.terminates:
        return []
    host = concrete(listener.hosts[0] if listener.hosts else "*")
    return [PlannedRequest(host, tls_version=version) for version in VERSIONS]


def _usual(listener: Listener, routed: list[PlannedRequest]) -> list[PlannedRequest]:
    if not listener.tls:
        return routed or [PlannedRequest(concrete(host)) for host in listener.hosts]
    hosts = dict.fromkeys([concrete(host) for host in listener.hosts if "*" not in host])
    hosts |= dict.fromkeys(each.host for each in routed)
    if not hosts and listener.terminates:
        hosts = dict.fromkeys(concrete(host) for host in listener.hosts)
    named = {each.host: each for each in routed if each.kind == "connect"}
    connects = [named.get(host, PlannedRequest(host)) for host in hosts]
    sent = [each for each in routed if each.kind == "request"]
    # HTTP/2 is a server's: all hosts of one server agree to the same
    again = [each._replace(http2=True) for each in sent[:1] if not each.http2]
    return connects + sent + again


def _routed(topology: GatewayTopology, listener: Listener) -> Iterator[PlannedRequest | Skipped]:
    if listener.redirects:
        for host in listener.hosts:
            yield PlannedRequest(concrete(host), "request", route=listener.subject, expected=301)
    elif listener.api:
        yield from gateway_api_routes.requests(topology, listener)
    elif _routes_http(listener):
        for each in _derived(topology, listener):
            yield _planned(each, topology.lists.domain)
    else:
        for route in l4_routes.routes(topology, listener):
            if route.hidden_by is None:
                yield route.planned


def _routes_http(listener: Listener) -> bool:
    """Return whether routes see HTTP: what is passed through is TLS, also as `protocol: HTTPS`."""
    return listener.protocol in HTTP and listener.tls != "PASSTHROUGH"


def hidden_routes(topology: GatewayTopology, listener: Listener) -> list[Hidden]:
    """Return the routes that get no request because another object's take them all."""
    by: Rule | l4_routes.L4Route | None
    if listener.redirects:
        return []
    if listener.api:
        return list(gateway_api_routes.hidden(topology, listener))
    if not _routes_http(listener):
        return [
            Hidden(Place(each.owner, each.name), each.host, Place(by.owner, by.name))
            for each in l4_routes.routes(topology, listener)
            if (by := each.hidden_by) is not None and by.owner != each.owner
        ]
    return [
        Hidden(Place(each.rule.owner, each.rule.name), each.host, Place(by.owner, by.name))
        for each in _derived(topology, listener)
        if (by := each.hidden_by) is not None and by.owner != each.rule.owner
    ]


def _derived(topology: GatewayTopology, listener: Listener) -> Iterator[Derived]:
    for host, ordered in virtual_services.rules(topology, listener).items():
        yield from derived(host, ordered, listener)


def _planned(found: Derived, domain: str) -> PlannedRequest | Skipped:
    rule, sent = found.rule, found.sent
    if sent is None:
        return Skipped(subject=rule.route, why=found.why)
    query = "&".join(f"{key}={value}" for key, value in sorted(sent.query.items()))
    return PlannedRequest(
        sent.host,
        "request",
        sent.method,
        sent.path + (f"?{query}" if query else ""),
        tuple(sorted(sent.headers.items())),
        rule.route,
        destinations(rule.rule.route, rule.namespace, domain),
        expected(rule.rule),
    )
