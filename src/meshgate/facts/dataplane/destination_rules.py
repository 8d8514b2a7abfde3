"""DestinationRules that make clients use a TLS mode that the servers behind a Service refuse.

An explicit `tls.mode` replaces auto-mTLS.  DISABLE sends plaintext; SIMPLE and MUTUAL present
certificates of another CA: a STRICT port refuses all three.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.destination_rules import Clause, clauses, sets_tls
from meshgate.semantics.destination_rules import DestinationRules as EffectiveRules
from meshgate.semantics.policies import DISABLE, STRICT, Mode, Policies
from meshgate.snapshot.istio import DestinationRule
from meshgate.snapshot.kubernetes import Pod, Service, ServicePort
from meshgate.verdict import Finding, NotApplicable

ISTIO_MUTUAL = "ISTIO_MUTUAL"
REFUSED = ("DISABLE", "SIMPLE", "MUTUAL")
NO_SIDECAR = "its pods have no sidecar"


class _Use(NamedTuple):
    """A rule, a Service that it counts for, and the namespace of clients that use it."""

    rule: DestinationRule
    service: Service
    clients: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        rule, service = self.rule.metadata, self.service.metadata
        return rule.namespace, rule.name, service.namespace, service.name

    def finding(self, clause: Clause, port: ServicePort, wrong: str) -> Finding:
        """Return that a clause of the rule sets a mode that the Service's pods refuse.

        Args:
            clause: the TLS mode, and where the rule sets it.
            port: the Service's port.
            wrong: why the pods refuse it.

        Returns:
            The finding, about the rule.
        """
        metadata = self.rule.metadata
        service = f"{self.service.metadata.namespace}/{self.service.metadata.name}"
        about = {
            "service": service,
            "port": str(port.port),
            "mode": clause.mode,
            "subset": clause.subset,
        }
        return Finding(
            f"DestinationRule {metadata.namespace}/{metadata.name}",
            f"{clause.where} sets {clause.mode} for Service {service} port {port.port}, but "
            f"{wrong} (clients: namespace {self.clients})",
            "no tls.mode, or " + (DISABLE if wrong == NO_SIDECAR else ISTIO_MUTUAL),
            f"Remove the tls block from DestinationRule {metadata.namespace}/{metadata.name}: "
            "clients then use what the server accepts.",
            problem="mode-refused",
            about=tuple(sorted((name, value) for name, value in about.items() if value)),
        )


class DestinationRules:
    """All DestinationRules of the mesh, as the clients of each namespace use them."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._root = evidence.own_mesh.root_namespace

    @cached_property
    def _policies(self) -> Policies:
        return Policies(self._evidence.peer_authentications, self._root)

    @cached_property
    def _effective(self) -> EffectiveRules:
        return EffectiveRules(
            self._evidence.destination_rules,
            self._root,
            self._evidence.own_mesh.cluster_domain,
        )

    @cached_property
    def _clients(self) -> list[Pod]:
        """One pod with a proxy for each namespace and each set of labels that a rule selects by."""
        selectors = [
            rule.spec.workload_selector.match_labels
            for rule in self._evidence.destination_rules
            if rule.spec.workload_selector
        ]
        found: dict[tuple[str, tuple[bool, ...]], Pod] = {}
        for pod in self._evidence.own_mesh.own(self._evidence.pods):
            if workloads.is_active(pod) and workloads.proxy(pod) is not None:
                labels = pod.metadata.labels.items()
                selected = tuple(each.items() <= labels for each in selectors)
                found.setdefault((pod.metadata.namespace, selected), pod)
        return list(found.values())

    @property
    def breaking(self) -> list[Finding]:
        """Rules by which clients use a TLS mode that the servers refuse.

        Raises NotApplicable if no rule sets a TLS mode.
        """
        rules = self._evidence.destination_rules
        if not any(map(sets_tls, rules)):
            raise NotApplicable(f"none of {len(rules)} DestinationRules sets tls.mode")
        return [finding for use in self._uses() for finding in self._breaking(use)]

    def _uses(self) -> Iterator[_Use]:
        """Yield each rule with each Service that clients use it for, once."""
        seen: set[tuple[str, str, str, str]] = set()
        for client in self._clients:
            for service in self._evidence.services:
                for rule in self._effective.effective(client, service):
                    use = _Use(rule, service, client.metadata.namespace)
                    if use.key not in seen:
                        seen.add(use.key)
                        yield use

    def _breaking(self, use: _Use) -> Iterator[Finding]:
        for port in use.service.spec.ports:
            for clause in clauses(use.rule, port.port) if port.protocol == "TCP" else ():
                refusals = (
                    self._refusal(clause, pod, number)
                    for pod in self._behind(use.service, clause)
                    if (number := workloads.target(port, pod))
                )
                if wrong := next(filter(None, refusals), ""):
                    yield use.finding(clause, port, wrong)

    def _refusal(self, clause: Clause, pod: Pod, port: int) -> str:
        """Return why a pod refuses the clause's mode; empty if it accepts it."""
        if not workloads.has_sidecar(pod):
            plain = workloads.proxy(pod) is None and clause.mode == ISTIO_MUTUAL
            return NO_SIDECAR if plain else ""
        expected: Mode = self._policies.mode(pod, port)
        if clause.mode in REFUSED and expected.mode == STRICT:
            return f"{expected.policy} requires STRICT"
        if clause.mode == ISTIO_MUTUAL and expected.mode == DISABLE:
            return f"{expected.policy} sets DISABLE"
        return ""

    def _behind(self, service: Service, clause: Clause) -> Iterator[Pod]:
        for pod in self._evidence.pods:
            if (
                workloads.is_active(pod)
                and workloads.fronts(service, pod)
                and clause.labels.items() <= pod.metadata.labels.items()
            ):
                yield pod
