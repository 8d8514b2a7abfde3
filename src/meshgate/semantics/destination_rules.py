"""Which DestinationRule a client uses for a Service, and which TLS mode it sets for a port.

As istiod decides it (pilot/pkg/model/push_context.go, destinationRule, and
pilot/pkg/networking/util, MergeSubsetTrafficPolicy, in 1.29): a rule in the client's namespace
comes before one in the Service's, and that before one in the root namespace; of the rules of one
namespace the one with the most specific host counts.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.snapshot.istio import DestinationRule, TrafficPolicy
from meshgate.snapshot.kubernetes import Pod, Service

_EVERYONE, _OWN, _NOBODY = "*", ".", "~"


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
    """All DestinationRules of the mesh, by namespace."""

    def __init__(
        self, rules: Iterable[DestinationRule], root_namespace: str, domain: str = DEFAULT_DOMAIN
    ) -> None:
        self._root = root_namespace
        self._domain = domain
        self._by_namespace: defaultdict[str, list[DestinationRule]] = defaultdict(list)
        for rule in rules:
            self._by_namespace[rule.metadata.namespace].append(rule)

    def effective(self, client: Pod, service: Service) -> list[DestinationRule]:
        """Return the rules that a client's proxy uses for a Service, which are merged into one.

        Args:
            client: a pod with a proxy.
            service: the Service that it calls.

        Returns:
            The rules with the same most specific host, of the first namespace that has one.
        """
        home, there = client.metadata.namespace, service.metadata.namespace
        # rules with a selector are for clients of their own namespace, and come first
        own = [rule for rule in self._by_namespace[home] if _visible(rule, home)]
        selecting = [
            rule
            for rule in own
            if rule.spec.workload_selector
            and rule.spec.workload_selector.match_labels.items() <= client.metadata.labels.items()
        ]
        for candidates in (
            selecting,
            [rule for rule in own if rule.spec.workload_selector is None],
            self._exported(there, home),
            self._exported(self._root, home),
        ):
            if found := _most_specific(candidates, service, self._domain):
                return found
        return []

    def _exported(self, namespace: str, client_namespace: str) -> list[DestinationRule]:
        return [
            rule
            for rule in self._by_namespace.get(namespace, ())
            if rule.spec.workload_selector is None and _visible(rule, client_namespace)
        ]


def _visible(rule: DestinationRule, namespace: str) -> bool:
    """Return whether a rule is exported to a namespace; without exportTo it is to all."""
    exported = rule.spec.export_to or (_EVERYONE,)
    if _NOBODY in exported:
        return False
    return (
        _EVERYONE in exported
        or namespace in exported
        or (_OWN in exported and namespace == rule.metadata.namespace)
    )


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
