"""AuthorizationPolicy: what a stranger may, and what the wire says to that.

The stranger is the verifier: one of the mesh by its certificate, with no business at a workload.  A
rule that hangs on what is not known here (an address, a header, a JWT) is left undecided.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.workloads import Port
from meshgate.snapshot.istio import (
    AuthorizationOperation,
    AuthorizationPolicy,
    AuthorizationRule,
    AuthorizationSource,
)
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mtls import Attempt
from meshgate.verdict import Finding, NotApplicable

METHOD, PATH = "OPTIONS", "/"

# True, False, or None for undecided
Answer = bool | None


class Decision(NamedTuple):
    """Whether a request is allowed (None: undecided), and the policy that says so."""

    allowed: Answer
    policy: str


class Authorization:
    """All AuthorizationPolicies, and what the probe of each HTTP port was told."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._wire = MtlsProbes(evidence)

    @cached_property
    def _policies(self) -> list[AuthorizationPolicy]:
        return [
            each
            for each in self._evidence.authorization_policies
            if each.metadata.annotations.dry_run != "true"
        ]

    @property
    def policy_violations(self) -> list[Finding]:
        """Ports that let in whom a policy denies, deny whom all allow, or let nobody in."""
        answered = [
            (port, port_probe.mesh)
            for port, port_probe in self._wire.pairs
            if port_probe.mesh and port_probe.mesh.end == "answered" and not port.bypass
        ]
        found = [each for port, mesh in answered for each in self._misjudged(port, mesh)]
        if not found and not self._policies:
            raise NotApplicable(
                f"there is no AuthorizationPolicy, and none of {len(answered)} HTTP ports denies"
            )
        return found

    def _misjudged(self, port: Port, mesh: Attempt) -> Iterator[Finding]:
        subject, where = pods.name(port.pod), f"port {port.number}"
        reaching = [each for each in self._policies if self._reaches(each, port.pod)]
        decision = self._decide(reaching, port)
        if mesh.denied and (closed := _closed(reaching)):
            yield Finding(
                subject,
                f"{where} lets nobody in: {closed} denies every request",
                "somebody who is allowed",
                "correct that policy; kubectl get authorizationpolicies -A",
            )
        elif mesh.denied and decision.allowed:
            yield Finding(
                subject,
                f"{where} denies what {decision.policy} (RBAC: access denied)",
                "an answer of the application",
                "look for an EnvoyFilter that denies, or a policy that has just gone",
                transient=True,
            )
        elif not mesh.denied and decision.allowed is False:
            yield Finding(
                subject,
                f"{where} answers {mesh.status} to {self._wire.port_probes.identity}, though "
                f"{decision.policy} denies it",
                "403 (RBAC: access denied)",
                "compare its configuration: istioctl x authz check "
                f"{port.pod.metadata.name}.{port.pod.metadata.namespace}",
                transient=True,
            )

    def _reaches(self, policy: AuthorizationPolicy, pod: Pod) -> bool:
        spec, namespace = policy.spec, policy.metadata.namespace
        if spec.target_ref or spec.target_refs:
            return False  # a gateway's or a waypoint's
        labels = spec.selector.match_labels if spec.selector else {}
        return (
            namespace in (pod.metadata.namespace, self._evidence.expectations.istio_namespace)
            and labels.items() <= pod.metadata.labels.items()
        )

    def _decide(self, policies: Iterable[AuthorizationPolicy], port: Port) -> Decision:
        """As Envoy does: CUSTOM, then DENY, then ALLOW; without an ALLOW all is allowed."""
        open_question = False
        allowing: list[tuple[AuthorizationPolicy, Answer]] = []
        for policy in policies:
            answer = _some(self._holds(rule, policy, port) for rule in policy.spec.rules)
            if policy.spec.action == "DENY" and answer:
                return Decision(False, _name(policy))
            if policy.spec.action == "ALLOW":
                allowing.append((policy, answer))
            elif policy.spec.action != "AUDIT" and answer is not False:
                open_question = True
        if open_question:
            return Decision(None, "")
        if not allowing:
            return Decision(True, "no AuthorizationPolicy denies")
        for policy, answer in allowing:
            if answer:
                return Decision(True, f"{_name(policy)} allows")
        if any(answer is None for _, answer in allowing):
            return Decision(None, "")
        return Decision(False, " and ".join(_name(policy) for policy, _ in allowing))

    def _holds(self, rule: AuthorizationRule, policy: AuthorizationPolicy, port: Port) -> Answer:
        caller = self._wire.port_probes.identity.removeprefix("spiffe://")
        sources = [_from(each.source, caller, policy.metadata.namespace) for each in rule.from_]
        targets = [_to(each.operation, port) for each in rule.to]
        return _every(
            [
                _some(sources) if sources else True,
                _some(targets) if targets else True,
                None if rule.when else True,
            ]
        )


def _from(source: AuthorizationSource, caller: str, home: str) -> Answer:
    namespace, account = caller.split("/")[2], caller.split("/")[4]
    names = (f"{namespace}/{account}", *([account] if namespace == home else []))
    unknown = (
        *source.ip_blocks,
        *source.not_ip_blocks,
        *source.remote_ip_blocks,
        *source.not_remote_ip_blocks,
    )
    return _every(
        [
            _among(caller, source.principals),
            _not_among(caller, source.not_principals),
            _among(namespace, source.namespaces),
            _not_among(namespace, source.not_namespaces),
            not source.service_accounts or any(each in source.service_accounts for each in names),
            not any(each in source.not_service_accounts for each in names),
            # we bring no JWT
            not source.request_principals,
            None if unknown else True,
        ]
    )


def _to(operation: AuthorizationOperation, port: Port) -> Answer:
    unknown = (*operation.hosts, *operation.not_hosts)
    return _every(
        [
            _among(METHOD, operation.methods),
            _not_among(METHOD, operation.not_methods),
            _among(PATH, operation.paths),
            _not_among(PATH, operation.not_paths),
            _among(str(port.number), operation.ports),
            _not_among(str(port.number), operation.not_ports),
            None if unknown else True,
        ]
    )


def _among(value: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(_like(value, each) for each in patterns)


def _not_among(value: str, patterns: tuple[str, ...]) -> bool:
    return not any(_like(value, each) for each in patterns)


def _like(value: str, pattern: str) -> bool:
    """Istio's patterns: exact, `prefix*`, `*suffix`, or `*` for anything."""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value == pattern


def _every(answers: Iterable[Answer]) -> Answer:
    all_ = list(answers)
    return False if False in all_ else None if None in all_ else True


def _some(answers: Iterable[Answer]) -> Answer:
    all_ = list(answers)
    return True if True in all_ else None if None in all_ else False


def _closed(policies: Iterable[AuthorizationPolicy]) -> str:
    """The policy by which nobody at all is let in; empty where somebody may be."""
    allowing = [each for each in policies if each.spec.action == "ALLOW"]
    for policy in policies:
        if policy.spec.action == "DENY" and AuthorizationRule() in policy.spec.rules:
            return _name(policy)
    if allowing and not any(each.spec.rules for each in allowing):
        return _name(allowing[0])
    return ""


def _name(policy: AuthorizationPolicy) -> str:
    return f"AuthorizationPolicy {policy.metadata.namespace}/{policy.metadata.name}"
