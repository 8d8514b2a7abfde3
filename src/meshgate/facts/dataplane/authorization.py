"""AuthorizationPolicies: what they say of the verifier, compared with how ports answer it.

The verifier has a mesh certificate and no business at any workload.
"""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.authorization import (
    Request,
    allows_nothing,
    decide,
    denies_all_tcp,
    denies_everything,
    name,
    selects,
)
from meshgate.semantics.workloads import Port
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import AMBIENT
from meshgate.snapshot.mtls import Attempt
from meshgate.verdict import Finding, NotApplicable

METHOD, PATH = "OPTIONS", "/"


class Authorization:
    """All AuthorizationPolicies, and the answers of each HTTP port to the verifier."""

    def __init__(self, evidence: Evidence, probes: MtlsProbes) -> None:
        self._evidence = evidence
        self._probes = probes

    @cached_property
    def _policies(self) -> list[AuthorizationPolicy]:
        return [
            each
            for each in self._evidence.authorization_policies
            if each.metadata.annotations.dry_run != "true"
        ]

    @cached_property
    def _answered(self) -> list[tuple[Port, Attempt]]:
        """The HTTP ports that answered the verifier with its mesh certificate."""
        return [
            (port, port_probe.mesh)
            for port, port_probe in self._probes.pairs
            if port_probe.mesh and port_probe.mesh.end == "answered" and not port.bypass
        ]

    @property
    def policy_violations(self) -> list[Finding]:
        """Ports that admit an identity that a policy denies, or deny one that all policies allow.

        Raises NotApplicable if there is no policy and no port denies.
        """
        found = [each for port, mesh in self._answered for each in self._violation(port, mesh)]
        if not found:
            self._probes.unverified.need(AMBIENT)
        if not found and not self._policies:
            raise NotApplicable(
                "there is no AuthorizationPolicy, and none of "
                f"{len(self._answered)} HTTP ports denies"
            )
        return found

    def _violation(self, port: Port, mesh: Attempt) -> Iterator[Finding]:
        where = f"port {port.number}"
        policies = self._selecting(port.pod)
        decision = decide(policies, self._request(port))
        if mesh.denied and (closed := self._closed(port.pod)):
            yield pod_finding(
                port.pod,
                f"{where} admits no client: {closed} denies every request",
                "a policy that allows at least one client",
                f"kubectl -n {port.pod.metadata.namespace} get authorizationpolicies",
                problem="denies-everyone",
                port=port.number,
            )
        elif mesh.denied and decision.allowed:
            yield pod_finding(
                port.pod,
                f"{where} denies the verifier (RBAC: access denied), although {decision.policy} it",
                "an answer of the application",
                self._describe(port),
                problem="denied-without-policy",
                transient=True,
                port=port.number,
            )
        elif not mesh.denied and decision.allowed is False:
            yield pod_finding(
                port.pod,
                f"{where} answers {mesh.status} to {self._probes.port_probes.identity}, although "
                f"{decision.policy} denies it",
                "403 (RBAC: access denied)",
                self._describe(port),
                problem="not-denied",
                transient=True,
                port=port.number,
            )

    def _closed(self, pod: Pod) -> str:
        """Return the policy that admits no client by mistake; empty where one may get in.

        A namespace or mesh whose other policies allow something denies by default on purpose.
        """
        policies = self._selecting(pod)
        if policy := denies_everything(policies):
            return name(policy)
        policy = allows_nothing(policies)
        return name(policy) if policy and not self._is_default(policy) else ""

    def _is_default(self, policy: AuthorizationPolicy) -> bool:
        """Return whether a policy without rules is a default beside policies that allow."""
        root = self._evidence.own_mesh.root_namespace
        return policy.spec.selector is None and any(
            each.spec.action == "ALLOW" and each.spec.rules
            for each in self._policies
            if policy.metadata.namespace in (root, each.metadata.namespace)
        )

    @property
    def denied_by_default(self) -> list[Finding]:
        """Ports that no policy allows anyone to call, where policies deny by default."""
        return [
            pod_finding(
                port.pod,
                f"port {port.number} admits no client: {name(policy)} denies by default, and no "
                "policy allows a client",
                remedy="Accept this if nothing calls the port.",
                problem="denied-by-default",
                port=port.number,
            )
            for port, mesh in self._answered
            if mesh.denied
            and not denies_everything(self._selecting(port.pod))
            and (policy := allows_nothing(self._selecting(port.pod)))
            and self._is_default(policy)
        ]

    @property
    def denied_on_tcp(self) -> list[Finding]:
        """TCP ports to which a DENY rule about HTTP denies every connection."""
        return [
            pod_finding(
                port.pod,
                f"port {port.number} is TCP, so {name(policy)} denies every connection to it: "
                "DENY rules ignore HTTP attributes there",
                remedy=f"Add the HTTP ports to `to.operation.ports` in {name(policy)}.",
                problem="denies-tcp",
                port=port.number,
            )
            for port, _ in self._probes.pairs
            if workloads.is_tcp(port, self._evidence.services)
            and (policy := denies_all_tcp(self._selecting(port.pod), port.number))
        ]

    def _selecting(self, pod: Pod) -> list[AuthorizationPolicy]:
        root = self._evidence.own_mesh.root_namespace
        return [each for each in self._policies if selects(each, pod, root)]

    def _request(self, port: Port) -> Request:
        caller = self._probes.port_probes.identity.removeprefix("spiffe://")
        own = self._evidence.own_mesh
        aliases = own.trust_domain_aliases if own.is_configured else None
        return Request(caller, port.number, METHOD, PATH, aliases)

    @staticmethod
    def _describe(port: Port) -> str:
        metadata = port.pod.metadata
        return f"istioctl x authz check {metadata.name}.{metadata.namespace}"
