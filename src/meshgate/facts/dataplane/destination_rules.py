"""DestinationRules: whether clients still speak what the servers behind them demand.

An explicit `tls.mode` replaces auto-mTLS.  DISABLE speaks plaintext; SIMPLE and MUTUAL show
certificates that are not the mesh's: a STRICT port refuses all three.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.policies import STRICT, Mode, Policies
from meshgate.snapshot.istio import DestinationRule, TrafficPolicy
from meshgate.snapshot.kubernetes import Pod, Service
from meshgate.verdict import Finding, NotApplicable

ISTIO_MUTUAL = "ISTIO_MUTUAL"
REFUSED = ("DISABLE", "SIMPLE", "MUTUAL")


class _Clause(NamedTuple):
    """One `tls.mode` of a rule: where it stands, for which port (0: all) and labels it counts."""

    where: str
    mode: str
    port: int
    labels: dict[str, str]


class DestinationRules:
    """All DestinationRules of the mesh."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _policies(self) -> Policies:
        return Policies(
            self._evidence.peer_authentications, self._evidence.expectations.istio_namespace
        )

    @property
    def breaking(self) -> list[Finding]:
        """Rules that make clients speak what the servers behind them do not take."""
        rules = self._evidence.destination_rules
        speaking = [rule for rule in rules if any(_clauses(rule))]
        found = [finding for rule in speaking for finding in self._breaking(rule)]
        if not speaking:
            raise NotApplicable(f"none of the {len(rules)} DestinationRules names a tls.mode")
        return list(dict.fromkeys(found))

    def _breaking(self, rule: DestinationRule) -> Iterator[Finding]:
        for clause in _clauses(rule):
            for service, pod, port in self._behind(rule, clause):
                expected = self._policies.mode(pod, port)
                wrong = self._wrong(clause, pod, expected)
                if wrong:
                    metadata = rule.metadata
                    name = f"{service.metadata.namespace}/{service.metadata.name}"
                    yield Finding(
                        f"DestinationRule {metadata.namespace}/{metadata.name}",
                        f"{clause.where} says {clause.mode}, and {wrong} behind Service {name} "
                        f"(port {port})",
                        f"no tls.mode, or {ISTIO_MUTUAL}"
                        if workloads.has_sidecar(pod)
                        else "no tls.mode, or DISABLE",
                        "take the tls block away: the mesh then speaks what each server takes",
                    )

    def _wrong(self, clause: _Clause, pod: Pod, expected: Mode) -> str:
        if not workloads.has_sidecar(pod):
            bare = workloads.proxy(pod) is None and clause.mode == ISTIO_MUTUAL
            return "no sidecar is there to take it" if bare else ""
        if clause.mode in REFUSED and expected.mode == STRICT:
            return f"{expected.policy} demands STRICT"
        if clause.mode == ISTIO_MUTUAL and expected.mode == "DISABLE":
            return f"{expected.policy} says DISABLE"
        return ""

    def _behind(self, rule: DestinationRule, clause: _Clause) -> Iterator[tuple[Service, Pod, int]]:
        for service in self._evidence.services:
            if not _names(rule, service):
                continue
            for pod in self._evidence.pods:
                if not (workloads.is_active(pod) and workloads.fronts(service, pod)):
                    continue
                if not clause.labels.items() <= pod.metadata.labels.items():
                    continue
                for port in service.spec.ports:
                    number = workloads.target(port, pod)
                    if port.protocol == "TCP" and number and clause.port in (0, port.port):
                        yield service, pod, number


def _clauses(rule: DestinationRule) -> Iterator[_Clause]:
    spec = rule.spec
    yield from _of(spec.traffic_policy, "trafficPolicy", {})
    for subset in spec.subsets:
        yield from _of(subset.traffic_policy, f"subset {subset.name}", subset.labels)


def _of(policy: TrafficPolicy | None, where: str, labels: dict[str, str]) -> Iterator[_Clause]:
    if policy is None:
        return
    if policy.tls and policy.tls.mode:
        yield _Clause(f"{where}.tls", policy.tls.mode, 0, labels)
    for level in policy.port_level_settings:
        if level.tls and level.tls.mode:
            number = level.port.number
            yield _Clause(f"{where} port {number}", level.tls.mode, number, labels)


def _names(rule: DestinationRule, service: Service) -> bool:
    """Whether its host is this Service: a short name is meant in the rule's own namespace."""
    host, metadata = rule.spec.host, service.metadata
    full = f"{metadata.name}.{metadata.namespace}.svc.cluster.local"
    if host.startswith("*"):
        return full.endswith(host[1:])
    if "." not in host:
        return (host, rule.metadata.namespace) == (metadata.name, metadata.namespace)
    return host in (full, f"{metadata.name}.{metadata.namespace}") or host == full.removesuffix(
        ".cluster.local"
    )
