"""AuthorizationPolicies: what they say of the verifier, compared with how ports answer it.

The verifier has a mesh certificate and no business at any workload.
"""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.authorization import (
    Request,
    allows_nothing,
    decide,
    denies_everything,
    is_dry_run,
    may_match,
    name,
    providers,
    selects,
)
from meshgate.semantics.layer4 import denied_by_http_rule, not_allowed_by_http_rules
from meshgate.semantics.selectors import Fronting
from meshgate.semantics.workloads import Port
from meshgate.snapshot.istio import AuthorizationPolicy
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mtls import Attempt
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

METHOD, PATH = "OPTIONS", "/"


class Authorization:
    """All AuthorizationPolicies, and the answers of each HTTP port to the verifier."""

    def __init__(self, evidence: Evidence, probes: MtlsProbes) -> None:
        self._evidence = evidence
        self._probes = probes

    @cached_property
    def _policies(self) -> list[AuthorizationPolicy]:
        return [each for each in self._evidence.authorization_policies if not is_dry_run(each)]

    @cached_property
    def _answered(self) -> list[tuple[Port, Attempt]]:
        """The HTTP ports that answered the verifier with its mesh certificate."""
        return [
            (port, port_probe.mesh)
            for port, port_probe in self._probes.pairs
            if port_probe.mesh and port_probe.mesh.end == "answered"
            # a TCP server that speaks first does so before policies are evaluated
            if port.http and not port.bypass
        ]

    @property
    def policy_violations(self) -> list[Finding]:
        """Ports that admit an identity that a policy denies, or deny one that all policies allow.

        Raises NotApplicable if there is no policy and no port denies, or if no port can be
        compared; CouldNotVerify if nothing is wrong, but a port with a policy did not answer.
        """
        found = [each for port, mesh in self._answered for each in self._violation(port, mesh)]
        found += self._closed_on_tcp()
        if not found and not self._policies:
            raise NotApplicable(
                "there is no AuthorizationPolicy, and none of "
                f"{len(self._answered)} HTTP ports denies"
            )
        if not found:
            self._need_answers()
        return found

    def _need_answers(self) -> None:
        for accepted in self._probes.unverified.accepted:
            raise NotApplicable(accepted.seen)
        if not self._answered and not self._probes.unanswered and not self._tcp_ports:
            raise NotApplicable(
                f"none of {len(self._probes.pairs)} ports is known to be HTTP or TCP behind a "
                "sidecar"
            )
        for port, port_probe in self._probes.unanswered:
            if policies := self._selecting(port.pod):
                mesh = port_probe.mesh
                why = f" ({mesh.error or mesh.end})" if mesh else ""
                raise CouldNotVerify(
                    f"{pods.name(port.pod)} port {port.number} did not answer the verifier{why}, "
                    f"so {name(policies[0])} was not compared with it",
                    "see the result of DP004",
                    transient=True,
                )

    def _violation(self, port: Port, mesh: Attempt) -> Iterator[Finding]:
        where = f"port {port.number}"
        policies = self._selecting(port.pod)
        decision = decide(policies, self._request(port))
        if mesh.denied and (closed := self._closed(port.pod)):
            yield _closed_finding(port, closed)
        elif mesh.denied and decision.allowed is None and (names := self._several(port)):
            yield pod_finding(
                port.pod,
                f"{where} denies what its CUSTOM policies match: they name several providers "
                f"({', '.join(names)})",
                "one provider for each workload",
                "Name one provider in all of them, or set "
                "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS=true on istiod 1.30 or newer.",
                problem="several-providers",
                transient=True,
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

    def _several(self, port: Port) -> list[str]:
        """Return the providers of a port's CUSTOM policies that istiod cannot serve together."""
        custom = [each for each in self._selecting(port.pod) if each.spec.action == "CUSTOM"]
        names = providers(custom)
        matching = any(may_match(each, self._request(port)) for each in custom)
        refuses = self._evidence.own_mesh.refuses_several_providers
        return names if len(names) > 1 and matching and refuses else []

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
    def _tcp_ports(self) -> list[Port]:
        """The ports that a Service declares as TCP and that a sidecar captures."""
        fronting = Fronting(self._evidence.services)
        return [
            port
            for port, _ in self._probes.pairs
            if not port.bypass and workloads.is_tcp(port, fronting)
        ]

    def _closed_on_tcp(self) -> Iterator[Finding]:
        """Report TCP ports that no client can connect to, by a DENY rule about HTTP or for all.

        It needs no probe: policies take effect with the first byte, which the verifier does not
        send to an unknown protocol.
        """
        for port in self._tcp_ports:
            effect = denied_by_http_rule(self._selecting(port.pod), port.number)
            if closed := self._closed(port.pod):
                yield _closed_finding(port, closed)
            elif effect and effect.everyone:
                yield _tcp_finding(port, name(effect.policy), "every connection to it")

    @property
    def limited_on_tcp(self) -> list[Finding]:
        """TCP ports to which policies about HTTP deny some connections, or allow none."""
        found = []
        for port in self._tcp_ports:
            policies = self._selecting(port.pod)
            effect = denied_by_http_rule(policies, port.number)
            if effect and not effect.everyone:
                what = "every connection from the sources that it names"
                found.append(_tcp_finding(port, name(effect.policy), what))
            elif not effect and (policy := not_allowed_by_http_rules(policies, port.number)):
                found.append(
                    pod_finding(
                        port.pod,
                        f"port {port.number} is TCP and admits no client: ALLOW rules about HTTP, "
                        f"as in {name(policy)}, are ignored there",
                        remedy=f"Add a rule with `to.operation.ports` for {port.number} to "
                        f"{name(policy)}, unless nothing calls the port.",
                        problem="tcp-not-allowed",
                        port=port.number,
                    )
                )
        return found

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


def _closed_finding(port: Port, policy: str) -> Finding:
    return pod_finding(
        port.pod,
        f"port {port.number} admits no client: {policy} denies every request",
        "a policy that allows at least one client",
        f"kubectl -n {port.pod.metadata.namespace} get authorizationpolicies",
        problem="denies-everyone",
        port=port.number,
    )


def _tcp_finding(port: Port, policy: str, what: str) -> Finding:
    return pod_finding(
        port.pod,
        f"port {port.number} is TCP, so {policy} denies {what}: DENY rules ignore HTTP attributes "
        "there",
        "a policy that denies what it names",
        f"Add the HTTP ports to `to.operation.ports` in {policy}.",
        problem="denies-tcp",
        port=port.number,
    )
