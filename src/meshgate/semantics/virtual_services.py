"""The rules of VirtualServices as a gateway has them: bound, delegated, merged and ordered."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshgate.semantics.hosts import common, fully_qualified
from meshgate.semantics.listeners import Listener
from meshgate.semantics.route_matches import (
    Client,
    Sent,
    applies,
    gateway_name,
    is_catch_all,
    meets,
    not_derivable,
    request_for,
)
from meshgate.semantics.topology import GatewayTopology
from meshgate.snapshot.istio import HttpMatch, HttpRoute, RouteDestination, VirtualService


class Rule(NamedTuple):
    """One HTTP rule at one listener, for one host.

    Attributes:
        owner: `VirtualService namespace/name`, the delegate for delegated rules.
        name: the rule's name or number.
        namespace: of the owner.
        matches: those that are for this gateway; none means that it takes everything.
        rule: what it does.
    """

    owner: str
    name: str
    namespace: str
    matches: tuple[HttpMatch, ...]
    rule: HttpRoute

    @property
    def route(self) -> str:
        """Its name in requests and findings."""
        return f"{self.owner} route {self.name}"

    def takes(self, sent: Sent) -> bool | None:
        """Return whether it takes a request; None if that cannot be determined here."""
        if not self.matches:
            return True
        verdicts = [meets(each, sent) for each in self.matches]
        if any(verdicts):
            return True
        return None if None in verdicts else False


class Derived(NamedTuple):
    """What follows from one rule: a request, or why there is none (`why`, `hidden_by`)."""

    rule: Rule
    host: str
    sent: Sent | None = None
    why: str = ""
    hidden_by: Rule | None = None


def bound(topology: GatewayTopology, listener: Listener) -> list[VirtualService]:
    """Return the VirtualServices that a listener's gateway uses, in Istio's order of merging."""
    serving = _serving(topology, listener)
    found = [each for each in _naming(topology, listener) if _exported(each, serving)]
    return sorted(found, key=_age)


def not_exported(topology: GatewayTopology, listener: Listener) -> list[VirtualService]:
    """Return those that name a listener's gateway but whose exportTo hides them from it.

    Only those are returned that share a host with the listener.  A gateway sees what is exported to
    the namespace that its pods run in.
    """
    serving = _serving(topology, listener)
    return [
        each
        for each in _naming(topology, listener)
        if not _exported(each, serving)
        and hosts(listener.hosts_for(each.metadata.namespace), each.spec.hosts)
    ]


def _naming(topology: GatewayTopology, listener: Listener) -> Iterator[VirtualService]:
    here = f"{listener.namespace}/{listener.name}"
    for each in topology.lists.virtual_services:
        if here in {gateway_name(name, each.metadata.namespace) for name in each.spec.gateways}:
            yield each


def _serving(topology: GatewayTopology, listener: Listener) -> Iterable[str]:
    return topology.namespaces_of(listener) or {listener.namespace}


def _age(service: VirtualService) -> tuple[str, str]:
    created = service.metadata.creation_timestamp
    return (
        created.isoformat() if created else "",
        f"{service.metadata.name}.{service.metadata.namespace}",
    )


def _exported(service: VirtualService, namespaces: Iterable[str]) -> bool:
    exported = service.spec.export_to
    if not exported or "*" in exported:
        return True
    own = service.metadata.namespace
    return any(({own} if each == "." else {each}) & set(namespaces) for each in exported)


def client(topology: GatewayTopology, listener: Listener) -> Client:
    """Return the gateway as matches see it."""
    return Client(
        listener, topology.labels_of(listener), frozenset(topology.namespaces_of(listener))
    )


def rules(topology: GatewayTopology, listener: Listener) -> dict[str, list[Rule]]:
    """Return the HTTP rules of every host that a listener serves, in the order of Envoy."""
    gateway = client(topology, listener)
    found: dict[str, list[Rule]] = {}
    for service in bound(topology, listener):
        own = list(_rules(topology, service, gateway))
        for host in hosts(listener.hosts_for(service.metadata.namespace), service.spec.hosts):
            found.setdefault(host, []).extend(own)
    return {host: _ordered(each) for host, each in found.items()}


def _ordered(merged: list[Rule]) -> list[Rule]:
    """Istio moves what takes everything behind all other rules of the host."""
    return sorted(merged, key=lambda each: not each.matches or all(map(is_catch_all, each.matches)))


def _rules(topology: GatewayTopology, service: VirtualService, gateway: Client) -> Iterator[Rule]:
    for number, rule in enumerate(service.spec.http):
        namespace = service.metadata.namespace
        matches = tuple(each for each in rule.match if applies(each, gateway, namespace))
        if rule.match and not matches:
            continue  # for the mesh, another port or another scheme
        subject = f"VirtualService {namespace}/{service.metadata.name}"
        name = rule.name or str(number)
        if rule.delegate:
            yield from _delegated(topology, Rule(subject, name, namespace, matches, rule), gateway)
        else:
            yield Rule(subject, name, namespace, matches, rule)
        if not matches and not rule.delegate:
            return  # istiod leaves out what follows a rule for everything


def _delegated(topology: GatewayTopology, root: Rule, gateway: Client) -> Iterator[Rule]:
    delegate = root.rule.delegate
    if delegate is None:
        return
    wanted = (delegate.namespace or root.namespace, delegate.name)
    for service in topology.lists.virtual_services:
        metadata = service.metadata
        if (metadata.namespace, metadata.name) != wanted:
            continue
        if not _exported(service, {root.namespace}):
            continue
        for number, rule in enumerate(service.spec.http):
            subject = f"VirtualService {metadata.namespace}/{metadata.name}"
            own = tuple(each for each in rule.match if applies(each, gateway, metadata.namespace))
            if rule.match and not own:
                continue
            merged = tuple(_merged(root.matches, own))
            if not merged and (root.matches or own):
                continue  # the delegate asks for what the root does not give it
            yield Rule(subject, rule.name or str(number), metadata.namespace, merged, rule)


def _merged(root: tuple[HttpMatch, ...], own: tuple[HttpMatch, ...]) -> Iterator[HttpMatch]:
    if not root or not own:
        yield from root or own
        return
    for outer in root:
        for inner in own:
            if not _within(outer, inner):
                continue
            yield msgspec.structs.replace(
                inner,
                uri=inner.uri or outer.uri,
                method=inner.method or outer.method,
                authority=inner.authority or outer.authority,
                headers={**outer.headers, **inner.headers},
                query_params={**outer.query_params, **inner.query_params},
                without_headers={**outer.without_headers, **inner.without_headers},
            )


def _within(outer: HttpMatch, inner: HttpMatch) -> bool:
    """Whether a delegate's path is one that the root gives to it."""
    if outer.uri is None or inner.uri is None:
        return True
    if outer.uri.regex is not None or inner.uri.regex is not None:
        return outer.uri == inner.uri
    path = inner.uri.exact if inner.uri.exact is not None else inner.uri.prefix or ""
    if outer.uri.exact is not None:
        return inner.uri.exact == outer.uri.exact
    return path.startswith(outer.uri.prefix or "")


def derived(host: str, ordered: list[Rule], name: str) -> Iterator[Derived]:
    """Derive one request for each rule of a host.

    Args:
        host: as listener and VirtualServices have it.
        ordered: its rules.
        name: a concrete name for it.

    Yields:
        One entry a rule: a request, or the reason why there is none.
    """
    for position, rule in enumerate(ordered):
        reasons = [not_derivable(each) for each in rule.matches]
        candidates = [
            request_for(each, name)
            for each, why in zip(rule.matches, reasons, strict=True)
            if not why
        ]
        if not rule.matches:
            candidates = [request_for(None, name)]
        if not candidates:
            yield Derived(rule, host, why=reasons[0])
            continue
        hiding = [_hiding(ordered[:position], sent) for sent in candidates]
        free = next((s for s, by in zip(candidates, hiding, strict=True) if by is None), None)
        if free is None:
            yield Derived(
                rule, host, why="an earlier route takes its requests", hidden_by=hiding[0]
            )
        elif why := _random(rule.rule):
            yield Derived(rule, host, why=why)
        else:
            yield Derived(rule, host, sent=free)


def _hiding(earlier: list[Rule], sent: Sent) -> Rule | None:
    return next((each for each in earlier if each.takes(sent)), None)


def _random(rule: HttpRoute) -> str:
    """Why the answer to a request cannot be predicted."""
    abort = rule.fault.abort if rule.fault else None
    if abort and abort.percentage and 0 < abort.percentage.value < 100:
        return "fault injection for a share of the requests"
    return ""


def expected(rule: HttpRoute) -> int:
    """Return the status that the gateway itself answers with, 0 if a backend answers."""
    if rule.redirect:
        return rule.redirect.redirect_code or 301
    if rule.direct_response:
        return rule.direct_response.status
    abort = rule.fault.abort if rule.fault else None
    if abort and (abort.percentage is None or abort.percentage.value >= 100):
        return abort.http_status
    return 0


def destinations(
    routes: Iterable[RouteDestination], namespace: str, domain: str
) -> tuple[str, ...]:
    """Return `host:port`, with `|subset` if one is named; destinations of weight 0 are left out.

    Args:
        routes: of one rule.
        namespace: of the rule's owner, in which Istio completes short names.
        domain: the cluster's.

    Returns:
        The destinations in the rule's order.
    """
    routes = tuple(routes)
    weighted = [each for each in routes if each.weight != 0] if len(routes) > 1 else routes
    return tuple(
        fully_qualified(to.host, namespace, domain)
        + (f":{to.port.number}" if to.port else "")
        + (f"|{to.subset}" if to.subset else "")
        for to in (each.destination for each in weighted)
    )


def hosts(listening: Iterable[str], routed: Iterable[str]) -> list[str]:
    """Return the hosts that both a listener and a route have, each once."""
    routed = tuple(routed) or ("*",)
    both = (common(one, other) for one in listening for other in routed)
    return list(dict.fromkeys(host for host in both if host))
