"""DestinationRules that make clients use a TLS mode that the servers behind a Service refuse.

An explicit `tls.mode` replaces auto-mTLS.  DISABLE sends plaintext; SIMPLE and MUTUAL present
certificates of another CA: a STRICT port refuses all three.  Where the mesh config turns auto-mTLS
off, clients send plaintext without a rule.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.config_revisions import LABEL, applies_to
from meshgate.semantics.destination_rules import Clause, clauses, sets_tls
from meshgate.semantics.destination_rules import DestinationRules as EffectiveRules
from meshgate.semantics.policies import DISABLE, STRICT, Mode, Policies
from meshgate.semantics.selectors import fronts
from meshgate.semantics.webhooks import IGNORED
from meshgate.snapshot.istio import DestinationRule
from meshgate.snapshot.kubernetes import Namespace, Pod, Service, ServicePort
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
    def key(self) -> tuple[str, str, str, str, bool, int]:
        """What counts of the rule may differ by client, where others replace parts of it."""
        rule, service, spec = self.rule.metadata, self.service.metadata, self.rule.spec
        used = (spec.traffic_policy is not None, len(spec.subsets))
        return (rule.namespace, rule.name, service.namespace, service.name, *used)

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
            self._evidence.own_mesh.default_exports.destination_rules,
        )

    @cached_property
    def _clients(self) -> list[Pod]:
        """One pod with a proxy for each namespace, revision and set of labels that rules select."""
        selectors = [
            rule.spec.workload_selector.match_labels
            for rule in self._evidence.destination_rules
            if rule.spec.workload_selector
        ]
        rules = self._evidence.destination_rules
        labeled = [rule.metadata for rule in rules if LABEL in rule.metadata.labels]
        found: dict[tuple[str, bool, tuple[bool, ...]], Pod] = {}
        for pod in self._evidence.own_mesh.own(self._evidence.pods):
            if workloads.is_active(pod) and workloads.proxy(pod) is not None:
                labels = pod.metadata.labels.items()
                read = tuple(applies_to(each, pod) for each in labeled)
                selected = (*read, *(each.items() <= labels for each in selectors))
                automatic = self._evidence.own_mesh.has_auto_mtls(pod)
                found.setdefault((pod.metadata.namespace, automatic, selected), pod)
        return list(found.values())

    @cached_property
    def setting_tls(self) -> list[DestinationRule]:
        """The rules that set a TLS mode; raises NotApplicable if there are none."""
        rules = self._evidence.destination_rules
        found = list(filter(sets_tls, rules))
        if not found:
            raise NotApplicable(f"none of {len(rules)} DestinationRules sets tls.mode")
        return found

    @property
    def breaking(self) -> list[Finding]:
        """Rules by which clients use a TLS mode that the servers refuse.

        Raises NotApplicable if no rule sets a TLS mode.
        """
        if not self.without_auto_mtls:
            _ = self.setting_tls
        found = [
            e for use in self._uses() if not self._is_rarely_called(use) for e in self._of(use)
        ]
        return found + [each for each, some_reach in self._plaintext if not some_reach]

    @property
    def limited(self) -> list[Finding]:
        """Services that refuse some clients, or that applications do not usually call."""
        uses = filter(self._is_rarely_called, self._uses())
        found = [finding for use in uses for finding in self._of(use)]
        return found + [each for each, some_reach in self._plaintext if some_reach]

    def _is_rarely_called(self, use: _Use) -> bool:
        """Return whether a mesh-wide rule meets a Service of istiod's or of a system namespace.

        Proxies call istiod past their own listeners, and DNS is UDP.
        """
        system = {*IGNORED, self._evidence.expectations.istio_namespace}
        wide = use.rule.spec.host.startswith("*")
        return wide and use.service.metadata.namespace in system

    @property
    def count(self) -> int:
        """How many rules set a TLS mode."""
        return sum(map(sets_tls, self._evidence.destination_rules))

    @cached_property
    def without_auto_mtls(self) -> list[Pod]:
        """One client for each namespace whose mesh config has `enableAutoMtls: false`."""
        return [e for e in self._clients if not self._evidence.own_mesh.has_auto_mtls(e)]

    @cached_property
    def _plaintext(self) -> list[tuple[Finding, bool]]:
        """The ports that refuse plaintext of clients, and whether other clients reach them."""
        return [
            found
            for service in (self._evidence.services if self.without_auto_mtls else ())
            for port in service.spec.ports
            if port.protocol == "TCP" and (found := self._plaintext_to(service, port))
        ]

    def _plaintext_to(self, service: Service, port: ServicePort) -> tuple[Finding, bool] | None:
        policy = self._strict(service, port)
        plain = [e for e in self.without_auto_mtls if policy and not self._sets(e, service, port)]
        if not plain:
            return None
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        namespaces = sorted({each.metadata.namespace for each in plain})
        more = f" and {len(namespaces) - 3} more" if len(namespaces) > 3 else ""
        finding = Finding(
            f"Service {name}",
            f"clients send plaintext to port {port.port} (enableAutoMtls: false, and no "
            f"DestinationRule sets tls.mode), but {policy} requires STRICT (clients: namespaces "
            f"{', '.join(namespaces[:3])}{more})",
            ISTIO_MUTUAL,
            f"create a DestinationRule for {service.metadata.name}.{service.metadata.namespace}."
            f"svc.{self._evidence.own_mesh.cluster_domain} with tls.mode {ISTIO_MUTUAL}",
            problem="plaintext-refused",
            about=(("port", str(port.port)),),
        )
        return finding, len(plain) < len(self._clients)

    def _strict(self, service: Service, port: ServicePort) -> str:
        """Return the policy by which pods behind a Service's port refuse plaintext; else empty."""
        modes = (
            self._policies.mode(pod, number)
            for pod in self._behind(service, {})
            if workloads.has_sidecar(pod) and (number := workloads.target(port, pod))
        )
        return next((each.policy for each in modes if each.mode == STRICT), "")

    def _sets(self, client: Pod, service: Service, port: ServicePort) -> bool:
        """Return whether a rule sets a TLS mode for a client's connections to the Service."""
        return any(
            not clause.subset
            for rule in self._effective.effective(client, service)
            for clause in clauses(rule, port.port)
        )

    def _uses(self) -> Iterator[_Use]:
        """Yield each rule with each Service that clients use it for, once."""
        seen: set[tuple[str, str, str, str, bool, int]] = set()
        for client in self._clients:
            for service in self._evidence.services:
                for rule in self._effective.effective(client, service):
                    use = _Use(rule, service, client.metadata.namespace)
                    if use.key not in seen:
                        seen.add(use.key)
                        yield use

    def _of(self, use: _Use) -> Iterator[Finding]:
        for port in use.service.spec.ports:
            for clause in clauses(use.rule, port.port) if port.protocol == "TCP" else ():
                refusals = (
                    self._refusal(clause, use.service, pod, number)
                    for pod in self._behind(use.service, clause.labels)
                    if (number := workloads.target(port, pod))
                )
                if wrong := next(filter(None, refusals), ""):
                    yield use.finding(clause, port, wrong)

    def _refusal(self, clause: Clause, service: Service, pod: Pod, port: int) -> str:
        """Return why a pod refuses the clause's mode; empty if it accepts it.

        Args:
            clause: the mode.
            service: the Service that clients call.
            pod: a pod behind it.
            port: the pod's.
        """
        if not workloads.has_sidecar(pod):
            plain = workloads.proxy(pod) is None and clause.mode == ISTIO_MUTUAL
            return NO_SIDECAR if plain and not self._has_hbone(service, pod) else ""
        expected: Mode = self._policies.mode(pod, port)
        if clause.mode in REFUSED and expected.mode == STRICT:
            return f"{expected.policy} requires STRICT"
        if clause.mode == ISTIO_MUTUAL and expected.mode == DISABLE:
            return f"{expected.policy} sets DISABLE"
        return ""

    def _has_hbone(self, service: Service, pod: Pod) -> bool:
        """Return whether clients use HBONE for a pod in place of ISTIO_MUTUAL.

        istiod does not change the clusters of headless Services so (in Istio,
        applyHBONETransportSocketMatches).
        """
        headless = "None" in service.spec.cluster_ips
        return workloads.ambient(pod, self._namespaces) and not headless

    @cached_property
    def _namespaces(self) -> dict[str, Namespace]:
        return {each.metadata.name: each for each in self._evidence.namespaces}

    def _behind(self, service: Service, labels: dict[str, str]) -> Iterator[Pod]:
        for pod in self._evidence.pods:
            if (
                workloads.is_active(pod)
                and fronts(service, pod)
                and labels.items() <= pod.metadata.labels.items()
            ):
                yield pod
