"""Which DestinationRule a client uses for a Service, and which TLS mode it sets for a port.

As istiod decides it (pilot/pkg/model/push_context.go, destinationRule; destination_rule.go,
mergeDestinationRule; and pilot/pkg/networking/util, MergeSubsetTrafficPolicy): a rule in the
client's namespace comes before one in the Service's, and that before one in the root namespace; of
the rules of one namespace the one with the most specific host counts, and rules for the same host
are merged, the oldest first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshgate.semantics.config_revisions import applies_to
from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.semantics.listeners import age
from meshgate.snapshot.istio import DestinationRule, TrafficPolicy
from meshgate.snapshot.kubernetes import Pod, Service

_EVERYONE, _OWN = "*", "."


class Clause(NamedTuple):
    """A TLS mode that a rule sets for a port of a Service.

    `where`: its path in the rule.  `subset`: the subset's name, empty for the whole Service.
    `labels`: those of the subset's pods.
    """

    where: str
    mode: str
    subset: str
    labels: dict[str, str]


class DestinationRules:
    """All DestinationRules of the mesh, by namespace.

    Args:
        rules: the DestinationRules.
        root_namespace: the mesh's.
        domain: the cluster's.
        default_export: where rules without exportTo are exported to, by the mesh config.
    """

    def __init__(
        self,
        rules: Iterable[DestinationRule],
        root_namespace: str,
        domain: str = DEFAULT_DOMAIN,
        default_export: tuple[str, ...] = (),
    ) -> None:
        self._root = root_namespace
        self._domain = domain
        self._private = _OWN in default_export
        self._by_namespace: defaultdict[str, list[DestinationRule]] = defaultdict(list)
        for rule in sorted(rules, key=lambda each: age(each.metadata)):
            self._by_namespace[rule.metadata.namespace].append(rule)

    def effective(self, client: Pod, service: Service) -> list[DestinationRule]:
        """Return the rules that a client's proxy uses for a Service, which are merged into one.

        Args:
            client: a pod with a proxy.
            service: the Service that it calls.

        Returns:
            The rules with the same most specific host, of the first namespace that has one,
            without what another of them replaces.
        """
        home, there = client.metadata.namespace, service.metadata.namespace
        own = [rule for rule in self._of(home, client) if _in_own_namespace(rule)]
        if home == self._root:
            # all others in the root namespace come last
            own = [rule for rule in own if self._is_private(rule)]
        if found := _most_specific(own, service, self._domain):
            return _for_client(found, client)
        for namespace in (there, self._root):
            rules = self._of(namespace, client)
            exported = [rule for rule in rules if not self._is_private(rule)]
            found = _most_specific(exported, service, self._domain)
            if visible := [rule for rule in found if _exported_to(rule, home)]:
                return _for_client(visible, client)
        return []

    def _of(self, namespace: str, client: Pod) -> list[DestinationRule]:
        """Return the rules in a namespace that the client's istiod reads."""
        rules = self._by_namespace.get(namespace, ())
        return [rule for rule in rules if applies_to(rule.metadata, client)]

    def _is_private(self, rule: DestinationRule) -> bool:
        """Return whether only its own namespace sees a rule."""
        if rule.spec.workload_selector is not None:
            return True
        exported = {*rule.spec.export_to}
        return self._private if not exported else exported <= {_OWN, rule.metadata.namespace}


def _in_own_namespace(rule: DestinationRule) -> bool:
    exported = {*rule.spec.export_to}
    if rule.spec.workload_selector is not None or not exported:
        return True
    return not exported.isdisjoint({_EVERYONE, _OWN, rule.metadata.namespace})


def _exported_to(rule: DestinationRule, namespace: str) -> bool:
    exported = rule.spec.export_to or (_EVERYONE,)
    return _EVERYONE in exported or namespace in exported


def _for_client(rules: list[DestinationRule], client: Pod) -> list[DestinationRule]:
    """Return the merged rules that count for a client, of all rules for the same host.

    Rules for the client's labels come first.  If there are only rules for other labels, none does.
    """
    labels = client.metadata.labels
    merged = list(_merged(rules))
    for each in merged:
        selector = each[0].spec.workload_selector
        if selector and selector.match_labels.items() <= labels.items():
            return each
    # istiod uses the last one of those for all
    general = [each for each in merged if each[0].spec.workload_selector is None]
    return general[-1] if general else []


def _merged(rules: list[DestinationRule]) -> list[list[DestinationRule]]:
    """Return rules for one host, the oldest first, in groups that istiod merges.

    Those of a group are for the same clients: equal exportTo and workloadSelector.  The oldest
    trafficPolicy counts, and the oldest subset of each name.
    """
    groups: dict[tuple[frozenset[str], frozenset[tuple[str, str]] | None], list[DestinationRule]]
    groups = {}
    for rule in rules:
        selector = rule.spec.workload_selector
        labels = frozenset(selector.match_labels.items()) if selector else None
        groups.setdefault((frozenset(rule.spec.export_to), labels), []).append(rule)
    return [list(_without_replaced(group)) for group in groups.values()]


def _without_replaced(group: list[DestinationRule]) -> Iterator[DestinationRule]:
    has_policy, names = False, set[str]()
    for rule in group:
        policy = None if has_policy else rule.spec.traffic_policy
        subsets = tuple(each for each in rule.spec.subsets if each.name not in names)
        has_policy = has_policy or policy is not None
        names |= {each.name for each in subsets}
        spec = msgspec.structs.replace(rule.spec, traffic_policy=policy, subsets=subsets)
        yield msgspec.structs.replace(rule, spec=spec)


def _most_specific(
    rules: Iterable[DestinationRule], service: Service, domain: str
) -> list[DestinationRule]:
    """Return the rules whose host is this Service, or else the longest wildcard for it."""
    best: list[DestinationRule] = []
    length = 0
    for rule in rules:
        if not matches_host(rule, service, domain):
            continue
        specific = _specificity(rule)
        if specific > length:
            best, length = [rule], specific
        elif specific == length:
            best.append(rule)
    return best


def _specificity(rule: DestinationRule) -> int:
    host = rule.spec.host
    return len(host) if host.startswith("*") else 1000


def matches_host(rule: DestinationRule, service: Service, domain: str = DEFAULT_DOMAIN) -> bool:
    """Return whether a rule's host is this Service.

    istiod completes only a name without dots, in the rule's namespace; `web.shop` matches nothing.

    Args:
        rule: the DestinationRule.
        service: the Service.
        domain: the cluster's domain.

    Returns:
        Whether it matches.
    """
    host, metadata = rule.spec.host, service.metadata
    full = f"{metadata.name}.{metadata.namespace}.svc"
    if host.startswith("*"):
        return f"{full}.{domain}".endswith(host[1:])
    if "." not in host:
        return (host, rule.metadata.namespace) == (metadata.name, metadata.namespace)
    # whatever the cluster's domain is
    return host.startswith(f"{full}.")


def clauses(rule: DestinationRule, port: int) -> Iterator[Clause]:
    """Yield the TLS modes that a rule sets for a port: its own, and that of each subset.

    Settings of a port replace all others beside them, and a subset's those of its rule.
    """
    base = _of_port(rule.spec.traffic_policy, port, "trafficPolicy")
    if base:
        yield Clause(*base, "", {})
    for subset in rule.spec.subsets:
        if own := _of_port(subset.traffic_policy, port, f"subset {subset.name}"):
            yield Clause(*own, subset.name, subset.labels)


def sets_tls(rule: DestinationRule) -> bool:
    """Return whether a rule sets a TLS mode anywhere."""
    policies = (rule.spec.traffic_policy, *(each.traffic_policy for each in rule.spec.subsets))
    blocks = [
        tls
        for policy in policies
        if policy
        for tls in (policy.tls, *(level.tls for level in policy.port_level_settings))
    ]
    return any(tls and tls.mode for tls in blocks)


def _of_port(policy: TrafficPolicy | None, port: int, where: str) -> tuple[str, str] | None:
    """Return where a policy sets a TLS mode for a port, and the mode; None if it sets none."""
    if policy is None:
        return None
    for level in policy.port_level_settings:
        if level.port.number == port:
            return (
                (f"{where} port {port}", level.tls.mode) if level.tls and level.tls.mode else None
            )
    return (f"{where}.tls", policy.tls.mode) if policy.tls and policy.tls.mode else None
