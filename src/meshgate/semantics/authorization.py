"""AuthorizationPolicies, evaluated as Envoy does, as far as that is known in advance.

An answer is True, False, or None where it depends on what is not known here: an address, a host, a
JWT, another header.
"""

from collections.abc import Iterable
from typing import NamedTuple

from meshgate.semantics.config_revisions import applies_to
from meshgate.snapshot.conditions import AuthorizationCondition
from meshgate.snapshot.istio import (
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
)
from meshgate.snapshot.kubernetes import Pod

Answer = bool | None

# A policy may call the mesh's trust domain by this name, whatever it is.
LOCAL_TRUST_DOMAIN = "cluster.local"


# The condition about the pod's port.
PORT = "destination.port"


class Decision(NamedTuple):
    """Whether a request is allowed (None: not known), and the policy that decides it."""

    allowed: Answer
    policy: str


class Request(NamedTuple):
    """A request to a port.

    Attributes:
        caller: a SPIFFE ID without its scheme.
        port: the pod's.
        method: of the HTTP request.
        path: of the HTTP request.
        aliases: the aliases of the mesh's trust domain; None if they are not known.
    """

    caller: str
    port: int
    method: str
    path: str
    aliases: frozenset[str] | None = None

    @property
    def trust_domain(self) -> str:
        return self.caller.partition("/")[0]

    @property
    def namespace(self) -> str:
        return self._part(2)

    @property
    def account(self) -> str:
        return self._part(4)

    def _part(self, number: int) -> str:
        parts = self.caller.split("/")
        return parts[number] if len(parts) > number else ""


def name(policy: AuthorizationPolicy) -> str:
    """Return `AuthorizationPolicy namespace/name`."""
    return f"AuthorizationPolicy {policy.metadata.namespace}/{policy.metadata.name}"


def is_dry_run(policy: AuthorizationPolicy) -> bool:
    """Return whether a policy is only logged (annotation istio.io/dry-run, a Go boolean)."""
    return (policy.metadata.annotations.dry_run or "") in ("1", "t", "T", "true", "TRUE", "True")


def selects(policy: AuthorizationPolicy, pod: Pod, root_namespace: str) -> bool:
    """Return whether a policy applies to a pod's sidecar.

    Args:
        policy: the policy; one with targetRefs is for gateways, waypoints and Services.
        pod: a pod with a sidecar.
        root_namespace: the mesh's root namespace, whose policies apply everywhere.

    Returns:
        True if its namespace and selector select the pod, whose istiod reads it.
    """
    spec, namespace = policy.spec, policy.metadata.namespace
    if spec.target_ref or spec.target_refs:
        return False
    labels = spec.selector.match_labels if spec.selector else {}
    return (
        namespace in (pod.metadata.namespace, root_namespace)
        and labels.items() <= pod.metadata.labels.items()
        and applies_to(policy.metadata, pod)
    )


def decide(policies: Iterable[AuthorizationPolicy], request: Request) -> Decision:
    """Return what the policies of one workload say of a request.

    CUSTOM, then DENY, then ALLOW; without an ALLOW policy everything is allowed.
    """
    undecided = False
    allowing: list[tuple[AuthorizationPolicy, Answer]] = []
    for policy in policies:
        answer = _any(_matches(rule, policy, request) for rule in policy.spec.rules)
        if policy.spec.action == "DENY" and answer:
            return Decision(False, name(policy))
        if policy.spec.action == "ALLOW":
            allowing.append((policy, answer))
        elif policy.spec.action != "AUDIT" and answer is not False:
            undecided = True
    if undecided:
        return Decision(None, "")
    if not allowing:
        return Decision(True, "no AuthorizationPolicy denies")
    for policy, answer in allowing:
        if answer:
            return Decision(True, f"{name(policy)} allows")
    if any(answer is None for _, answer in allowing):
        return Decision(None, "")
    return Decision(False, " and ".join(name(policy) for policy, _ in allowing))


def providers(policies: Iterable[AuthorizationPolicy]) -> list[str]:
    """Return the names of the providers of CUSTOM policies."""
    return sorted({each.spec.provider.name for each in policies if each.spec.provider})


def may_match(policy: AuthorizationPolicy, request: Request) -> bool:
    """Return whether a rule of a policy matches a request, or may match it."""
    return any(_matches(rule, policy, request) is not False for rule in policy.spec.rules)


def denies_everything(policies: Iterable[AuthorizationPolicy]) -> AuthorizationPolicy | None:
    """Return the DENY policy with a rule that matches every request; None without one."""
    return next(
        (
            policy
            for policy in policies
            if policy.spec.action == "DENY" and AuthorizationRule() in policy.spec.rules
        ),
        None,
    )


def allows_nothing(policies: Iterable[AuthorizationPolicy]) -> AuthorizationPolicy | None:
    """Return an ALLOW policy without rules, if no other policy allows anything; else None."""
    allowing = [policy for policy in policies if policy.spec.action == "ALLOW"]
    if allowing and not any(policy.spec.rules for policy in allowing):
        return allowing[0]
    return None


def _matches(rule: AuthorizationRule, policy: AuthorizationPolicy, request: Request) -> Answer:
    sources = [_from(each.source, request, policy.metadata.namespace) for each in rule.from_]
    operations = [_to(each.operation, request) for each in rule.to]
    return _all(
        [
            _any(sources) if sources else True,
            _any(operations) if operations else True,
            *(_condition(each, request) for each in rule.when),
        ]
    )


def _condition(condition: AuthorizationCondition, request: Request) -> Answer:
    """Return whether a condition holds; None where its values are not known."""
    values, not_values = condition.values, condition.not_values
    if not values and not not_values:
        return None
    if condition.key == "source.principal":
        return _all(
            [
                _principal(request, values) if values else True,
                _not(_principal(request, not_values)),
            ]
        )
    seen = str(request.port) if condition.key == PORT else request.namespace
    return among(seen, values) and not is_in(seen, not_values)


def _from(source: AuthorizationSource, request: Request, home: str) -> Answer:
    accounts = {f"{request.namespace}/{request.account}"}
    if request.namespace == home:
        accounts.add(request.account)
    addresses = (
        *source.ip_blocks,
        *source.not_ip_blocks,
        *source.remote_ip_blocks,
        *source.not_remote_ip_blocks,
    )
    return _all(
        [
            _principal(request, source.principals) if source.principals else True,
            _not(_principal(request, source.not_principals)),
            among(request.namespace, source.namespaces),
            not is_in(request.namespace, source.not_namespaces),
            not source.service_accounts or not accounts.isdisjoint(source.service_accounts),
            accounts.isdisjoint(source.not_service_accounts),
            _trust_domain(request, source.trust_domains) if source.trust_domains else True,
            _not(_trust_domain(request, source.not_trust_domains)),
            # the verifier sends no JWT
            not source.request_principals,
            None if addresses else True,
        ]
    )


def _principal(request: Request, patterns: tuple[str, ...]) -> Answer:
    """Return whether a principal matches, whose trust domain may have aliases."""
    workload = request.caller.partition("/")[2]
    aliases = {LOCAL_TRUST_DOMAIN, *(request.aliases or ())}
    names = (request.caller, *(f"{each}/{workload}" for each in aliases))
    if any(_like(each, pattern) for each in names for pattern in patterns):
        return True
    if request.aliases is not None:
        return False
    # another trust domain may be an alias of the mesh's
    alias = any(pattern.partition("/")[2] == workload for pattern in patterns)
    return None if alias else False


def _trust_domain(request: Request, patterns: tuple[str, ...]) -> Answer:
    if is_in(request.trust_domain, patterns):
        return True
    return None if LOCAL_TRUST_DOMAIN in patterns else False


def _to(operation: AuthorizationOperation, request: Request) -> Answer:
    hosts = (*operation.hosts, *operation.not_hosts)
    return _all(
        [
            among(request.method, operation.methods),
            not is_in(request.method, operation.not_methods),
            _path(request.path, operation.paths) if operation.paths else True,
            _not(_path(request.path, operation.not_paths)),
            among(str(request.port), operation.ports),
            not is_in(str(request.port), operation.not_ports),
            None if hosts else True,
        ]
    )


def _path(path: str, patterns: tuple[str, ...]) -> Answer:
    """Return whether a path matches; a template (`/users/{*}`) is not evaluated."""
    if is_in(path, patterns):
        return True
    return None if any("{" in pattern for pattern in patterns) else False


def among(value: str, patterns: tuple[str, ...]) -> bool:
    """Return whether one of some patterns matches a value; without patterns every value does."""
    return not patterns or is_in(value, patterns)


def is_in(value: str, patterns: tuple[str, ...]) -> bool:
    """Return whether one of some patterns matches a value."""
    return any(_like(value, each) for each in patterns)


def _like(value: str, pattern: str) -> bool:
    """Return whether one of Istio's patterns matches: exact, `prefix*`, `*suffix`, or `*`."""
    if pattern == "*":
        return bool(value)
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value == pattern


def _not(answer: Answer) -> Answer:
    return None if answer is None else not answer


def _all(answers: Iterable[Answer]) -> Answer:
    found = list(answers)
    return False if False in found else None if None in found else True


def _any(answers: Iterable[Answer]) -> Answer:
    found = list(answers)
    return True if True in found else None if None in found else False
