"""The rules of VirtualServices as a gateway has them: bound, delegated, merged and ordered."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshgate.semantics.delegation import merge
from meshgate.semantics.hosts import common, covers, fully_qualified
from meshgate.semantics.kubernetes_ingress import precedence
from meshgate.semantics.listeners import HTTP, Listener, age, subject_of
from meshgate.semantics.route_matches import (
    Client,
    Sent,
    applies,
    contains,
    gateway_name,
    is_catch_all,
    meets,
)
from meshgate.semantics.topology import GatewayTopology
from meshgate.snapshot.istio import HttpMatch, HttpRoute, RouteDestination, VirtualService


class Rule(NamedTuple):
    """One HTTP rule at one listener, for one host.

    Attributes:
        owner: `VirtualService namespace/name`, the delegate for delegated rules.
        number: the rule's place in its VirtualService.
        namespace: of the owner.
        matches: those that are for this gateway; none means that it takes everything.  In the order
            of Envoy each rule has at most one.
        rule: what it does.
        gateway: the Gateway (`namespace/name`) that its VirtualService names.
        outside: the root that delegates to it, if its matches are not all within those of the root:
            Istio then leaves it out.
    """

    owner: str
    number: int
    namespace: str
    matches: tuple[HttpMatch, ...]
    rule: HttpRoute
    gateway: str = ""
    outside: str = ""

    @property
    def name(self) -> str:
        """The rule's name or number."""
        return self.rule.name or str(self.number)

    @property
    def route(self) -> str:
        """Its name in requests and findings."""
        return f"{self.owner} route {self.name}"

    @property
    def key(self) -> tuple[str, int]:
        """What the entries of one rule share, at every gateway and in the order of Envoy."""
        return self.owner, self.number

    def takes_all_of(self, match: HttpMatch | None) -> bool:
        """Return whether it takes every request that meets a match; None matches everything."""
        if self.outside:
            return False
        return not self.matches or any(contains(each, match) for each in self.matches)

    def takes(self, sent: Sent) -> bool | None:
        """Return whether it takes a request; None if that cannot be determined here."""
        if self.outside:
            return False
        if not self.matches:
            return True
        verdicts = [meets(each, sent) for each in self.matches]
        if any(verdicts):
            return True
        return None if None in verdicts else False


def bound(topology: GatewayTopology, listener: Listener) -> list[VirtualService]:
    """Return the VirtualServices that a listener's gateway uses, in Istio's order of merging."""
    serving = _serving(topology, listener)
    default = topology.lists.default_export
    found = [each for each in _naming(topology, listener) if _exported(each, serving, default)]
    return sorted(found, key=lambda each: age(each.metadata))


def not_exported(topology: GatewayTopology, listener: Listener) -> list[VirtualService]:
    """Return those that name a listener's gateway but whose exportTo hides them from it.

    Only those are returned that share a host with the listener.  A gateway sees what is exported to
    the namespace that its pods run in.
    """
    serving = _serving(topology, listener)
    default = topology.lists.default_export
    return [
        each
        for each in _naming(topology, listener)
        if not _exported(each, serving, default)
        and hosts(listener.hosts_for(each.metadata.namespace), own_hosts(topology, each))
    ]


def _naming(topology: GatewayTopology, listener: Listener) -> list[VirtualService]:
    """Return the VirtualServices that name a listener's Gateway and that its istiod reads."""
    found: dict[str, list[VirtualService]] | None = topology.memo.get("by gateway")
    if found is None:
        found = topology.memo["by gateway"] = {}
        for each in topology.lists.virtual_services:
            names = {gateway_name(name, each.metadata.namespace) for name in each.spec.gateways}
            for name in names:
                found.setdefault(name, []).append(each)
    named = found.get(f"{listener.namespace}/{listener.name}", [])
    return [each for each in named if topology.is_read(each.metadata, listener)]


def _serving(topology: GatewayTopology, listener: Listener) -> Iterable[str]:
    return topology.namespaces_of(listener) or {listener.namespace}


def _exported(service: VirtualService, namespaces: Iterable[str], default: tuple[str, ...]) -> bool:
    """Return whether a VirtualService is exported to one of some namespaces.

    Args:
        service: the VirtualService.
        namespaces: the namespaces.
        default: what counts without exportTo; empty for all namespaces.
    """
    exported = service.spec.export_to or default
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
    """Return the HTTP rules of every host that a listener serves, in the order of Envoy.

    istiod merges the Gateways of the same pods: plaintext listeners of one port share their virtual
    hosts.  So rules of other Gateways are among them, before or after those of this one.
    """
    if listener.tls:
        return _of_listeners(topology, [listener])
    serving = topology.served_by(listener)
    selector = tuple(sorted(listener.selector.items()))
    key = ("rules", listener.port, selector, listener.scope, serving)
    if key not in topology.memo:
        sharing = [
            each
            for each in topology.classic
            if each.port == listener.port
            and each.protocol in HTTP
            and not each.tls
            and (
                (each.selector, each.scope) == (listener.selector, listener.scope)
                or (serving and serving <= topology.served_by(each))
            )
        ]
        topology.memo[key] = _of_listeners(topology, sharing)
    merged: dict[str, list[Rule]] = topology.memo[key]
    own = f"{listener.namespace}/{listener.name}"
    return {
        host: found
        for host, found in merged.items()
        if any(covers(each, host) for each in listener.hosts)
        and any(rule.gateway == own for rule in found)
    }


def _of_listeners(topology: GatewayTopology, listeners: list[Listener]) -> dict[str, list[Rule]]:
    """Return the rules of listeners that share virtual hosts; all have the same pods."""
    found: dict[str, list[Rule]] = {}
    seen: set[tuple[str, ...]] = set()
    pods = client(topology, listeners[0])
    for each in listeners:
        gateway = f"{each.namespace}/{each.name}"
        for service in bound(topology, each):
            metadata = service.metadata
            ordered = list(_rules(topology, service, pods._replace(listener=each)))
            for host in hosts(each.hosts_for(metadata.namespace), own_hosts(topology, service)):
                # a VirtualService may have a virtual host by several servers of its Gateway
                key = (host, gateway, metadata.namespace, metadata.name)
                if key not in seen:
                    seen.add(key)
                    named = [rule._replace(gateway=gateway) for rule in ordered]
                    found.setdefault(host, []).extend(named)
    return {host: _ordered(each) for host, each in found.items()}


def _ordered(merged: list[Rule]) -> list[Rule]:
    """Return rules in Envoy's order: what takes everything last, those of Ingresses first.

    Envoy has an entry for each match: those of one rule need not follow each other.
    """

    def order(rule: Rule) -> tuple[bool, tuple[int, bool]]:
        everything = not rule.matches or is_catch_all(rule.matches[0])
        ranked = precedence(rule.rule) if rule.owner.startswith("Ingress ") else (1, True)
        return everything, ranked

    entries = [
        rule._replace(matches=(match,) if match else ())
        for rule in merged
        for match in rule.matches or (None,)
    ]
    return sorted(entries, key=order)


def _rules(topology: GatewayTopology, service: VirtualService, gateway: Client) -> Iterator[Rule]:
    for number, rule in enumerate(service.spec.http):
        namespace = service.metadata.namespace
        matches = tuple(each for each in rule.match if applies(each, gateway, namespace))
        if rule.match and not matches:
            continue  # for the mesh, another port or another scheme
        subject = subject_of("VirtualService", namespace, service.metadata.name)
        made = Rule(subject, number, namespace, matches, rule)
        yield from _delegated(topology, made, gateway) if rule.delegate else (made,)
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
        if not topology.is_read(metadata, gateway.listener):
            continue
        if not _exported(service, {root.namespace}, topology.lists.default_export):
            continue
        for number, rule in enumerate(service.spec.http):
            subject = f"VirtualService {metadata.namespace}/{metadata.name}"
            own = tuple(each for each in rule.match if applies(each, gateway, metadata.namespace))
            if rule.match and not own:
                continue
            merged = merge(root.matches, own)
            given = msgspec.structs.replace(rule, fault=rule.fault or root.rule.fault)
            made = Rule(subject, number, metadata.namespace, own, given)
            outside = merged is None and root.owner
            yield made._replace(outside=outside) if outside else made._replace(matches=merged or ())


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


def own_hosts(topology: GatewayTopology, service: VirtualService) -> tuple[str, ...]:
    """Return the hosts of a VirtualService, of which Istio completes a name without a dot."""
    namespace, domain = service.metadata.namespace, topology.lists.domain
    return tuple(
        each if each == "*" else fully_qualified(each, namespace, domain)
        for each in service.spec.hosts
    )


def hosts(listening: Iterable[str], routed: Iterable[str]) -> list[str]:
    """Return the hosts that both a listener and a route have, each once."""
    routed = tuple(routed) or ("*",)
    both = (common(one, other) for one in listening for other in routed)
    return list(dict.fromkeys(host for host in both if host))
