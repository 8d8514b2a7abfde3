"""What AuthorizationPolicies mean where HTTP is not known: on TCP ports, and at ztunnels."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from meshgate.semantics.authorization import PORT, among, is_in
from meshgate.snapshot.istio import (
    AuthorizationFrom,
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
    AuthorizationTo,
)

# The conditions (`when`) that ztunnel evaluates; it has no others.
_OF_LAYER_4 = frozenset(
    {"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"}
)


def at_ztunnel(policy: AuthorizationPolicy) -> AuthorizationPolicy:
    """Return what ztunnel enforces of a policy, as istiod sends it.

    A rule about HTTP matches nothing in an ALLOW policy, and more than it says in a DENY policy:
    there it is enforced without its HTTP attributes.
    """
    rules = policy.spec.rules
    if policy.spec.action == "DENY":
        rules = tuple(map(_at_layer_4, rules))
    else:
        rules = tuple(each for each in rules if _at_layer_4(each) == each)
    return replace(policy, spec=replace(policy.spec, rules=rules))


def _at_layer_4(rule: AuthorizationRule) -> AuthorizationRule:
    return AuthorizationRule(
        from_=tuple(AuthorizationFrom(_without_http(each.source)) for each in rule.from_),
        to=tuple(
            AuthorizationTo(
                AuthorizationOperation(
                    ports=each.operation.ports, not_ports=each.operation.not_ports
                )
            )
            for each in rule.to
        ),
        when=tuple(each for each in rule.when if each.key in _OF_LAYER_4),
    )


class TcpEffect(NamedTuple):
    """What a policy does to a TCP port against its wording: HTTP attributes are unknown there.

    Attributes:
        policy: the policy.
        everyone: whether no client can connect; else the sources that its rules name cannot.
    """

    policy: AuthorizationPolicy
    everyone: bool


def denied_by_http_rule(policies: Iterable[AuthorizationPolicy], port: int) -> TcpEffect | None:
    """Return the DENY policy about HTTP that denies connections to a TCP port; None without one.

    istiod drops HTTP attributes from the rules of DENY policies for TCP, so that a rule about a
    path or a method matches every connection from the sources that it names.
    """
    found = [
        TcpEffect(policy, not _names_sources(rule))
        for policy in policies
        if policy.spec.action == "DENY"
        for rule in policy.spec.rules
        if _is_about(rule, port) and _has_http(rule)
    ]
    return max(found, key=lambda each: each.everyone, default=None)


def not_allowed_by_http_rules(
    policies: Iterable[AuthorizationPolicy], port: int
) -> AuthorizationPolicy | None:
    """Return an ALLOW policy about HTTP if no rule of any allows connections to a TCP port.

    istiod ignores a rule with HTTP attributes in an ALLOW policy for TCP, and what no rule allows
    is denied.
    """
    allowing = [policy for policy in policies if policy.spec.action == "ALLOW"]
    ignored: list[AuthorizationPolicy] = []
    for policy in allowing:
        for rule in policy.spec.rules:
            if _has_http(rule):
                ignored += [policy] if _is_about(rule, port) else []
            elif _is_about(rule, port):
                return None
    return ignored[0] if ignored else None


def _is_about(rule: AuthorizationRule, port: int) -> bool:
    """Return whether the ports of a rule include a port."""
    operations = [each.operation for each in rule.to]
    return (
        not operations
        or any(
            among(str(port), each.ports) and not is_in(str(port), each.not_ports)
            for each in operations
        )
    ) and all(
        among(str(port), each.values) and not is_in(str(port), each.not_values)
        for each in rule.when
        if each.key == PORT
    )


def _has_http(rule: AuthorizationRule) -> bool:
    """Return whether a rule has attributes that only HTTP requests have."""
    return (
        any(each.key.startswith("request.") for each in rule.when)
        or any(_without_jwt(each.source) != each.source for each in rule.from_)
        or any(_is_http(each.operation) for each in rule.to)
    )


def _names_sources(rule: AuthorizationRule) -> bool:
    """Return whether a rule without its HTTP attributes is for some connections only."""
    sources = [_without_jwt(each.source) for each in rule.from_]
    return bool(sources and AuthorizationSource() not in sources) or any(
        not each.key.startswith("request.") and each.key != PORT for each in rule.when
    )


def _is_http(operation: AuthorizationOperation) -> bool:
    return bool(
        operation.hosts
        or operation.not_hosts
        or operation.methods
        or operation.not_methods
        or operation.paths
        or operation.not_paths
    )


def _without_jwt(source: AuthorizationSource) -> AuthorizationSource:
    return replace(source, request_principals=(), not_request_principals=())


def _without_http(source: AuthorizationSource) -> AuthorizationSource:
    """Return what ztunnel evaluates of a source: not the address in x-forwarded-for either."""
    return replace(_without_jwt(source), remote_ip_blocks=(), not_remote_ip_blocks=())
