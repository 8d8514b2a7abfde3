"""mTLS as connections to the workloads' ports show it, compared with the policies."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.pod_findings import not_probed, pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.facts.unverified import Unverified
from meshgate.semantics import injector, pods, workloads
from meshgate.semantics.policies import DISABLE, PERMISSIVE, STRICT, Mode, Policies
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import Port, chosen
from meshgate.settings import flag
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import EXTERNAL_CA
from meshgate.snapshot.mtls import Attempt, PortProbe, PortProbes
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

ACCEPTED = ("answered", "held")
UNDECIDED = ("silent", "unreachable")

IN_THE_CLUSTER = "run inside the cluster, as the chart's hook Job does"


class MtlsProbes:
    """How the workloads' ports answered, and how their policies say that they should."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.unverified = Unverified(evidence)

    @cached_property
    def port_probes(self) -> PortProbes:
        """Raise CouldNotVerify unless connections were made with and without a mesh certificate."""
        port_probes = self._evidence.port_probes
        if port_probes.skipped_reason:
            raise CouldNotVerify(port_probes.skipped_reason, IN_THE_CLUSTER)
        if port_probes.unsigned and not self.unverified.accepts(EXTERNAL_CA):
            raise CouldNotVerify(
                f"istiod signed no certificate for the verifier ({port_probes.unsigned}); without "
                "a mesh certificate, a refused connection does not prove mTLS",
                "pass a ServiceAccount token of audience istio-ca, or "
                f"{flag('criteria.accept_unverified', EXTERNAL_CA)} if another CA signs for this "
                "mesh",
                transient=True,
            )
        return port_probes

    @cached_property
    def pairs(self) -> list[tuple[Port, PortProbe]]:
        """Every port that had to be probed, with its probe.

        Raises CouldNotVerify if one was not probed, NotApplicable if there are none.
        """
        seen = {f"{each.pod}:{each.port}": each for each in self.port_probes.probes}
        configs = self._evidence.injector_configs
        ports = [
            port if port.bypass else port._replace(bypass=injector.bypass(port, configs))
            for port in chosen(
                self._evidence.own_mesh.own(self._evidence.pods),
                self._evidence.services,
                self._evidence.expectations,
            )
        ]
        if not ports:
            self._nothing_to_probe()
        for port in ports:
            if port.key not in seen:
                raise CouldNotVerify(
                    f"port {port.number} of {pods.name(port.pod)} was not probed",
                    "capture it again",
                    transient=True,
                )
        return [(port, seen[port.key]) for port in ports]

    def _nothing_to_probe(self) -> None:
        if machines := len(self._evidence.workload_entries):
            raise CouldNotVerify(
                f"{machines} WorkloadEntries are in the mesh, and no pod with a sidecar is",
                "only pods with a sidecar can be probed; verify these by other means",
            )
        if self._evidence.expectations.shard and any(
            workloads.ports(self._evidence.pods, self._evidence.services)
        ):
            raise NotApplicable("no port belongs to this shard")
        raise NotApplicable("no pod with a sidecar has a known port")

    @property
    def unanswered(self) -> list[tuple[Port, PortProbe]]:
        """The HTTP ports behind a sidecar with mTLS that gave no answer to a mesh certificate."""
        return [
            (port, port_probe)
            for port, port_probe in self.pairs
            if port.http
            and not port.bypass
            and not (port_probe.mesh and port_probe.mesh.end in ACCEPTED)
            and self._policies.mode(port.pod, port.number).mode != DISABLE
        ]

    # --- mode -----------------------------------------------------------------------------------

    @cached_property
    def _policies(self) -> Policies:
        return Policies(self._evidence.peer_authentications, self._evidence.own_mesh.root_namespace)

    @property
    def disagreements(self) -> list[Finding]:
        """Ports that do not behave as their policy says, or less strictly than required.

        Raises CouldNotVerify if nothing is wrong, but something was not seen.
        """
        found = [finding for pair in self.pairs for finding in self._disagreement(*pair)]
        if found:
            return found
        silent = [
            (port, port_probe)
            for port, port_probe in self.pairs
            if _undecided(port_probe, self._policies.mode(port.pod, port.number).mode)
        ]
        if silent:
            raise self._silence(silent)
        return []

    def _disagreement(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        where = f"port {port.number}"
        expected = self._policies.mode(port.pod, port.number)
        if expected.mode == STRICT and port.bypass:
            yield pod_finding(
                port.pod,
                f"{where} bypasses its sidecar ({port.bypass}), so {expected.policy} is not "
                "enforced",
                f"{expected.mode} by {expected.policy}",
                "remove that setting, then " + workloads.restart_command(port.pod),
                problem="bypasses-sidecar",
                port=port.number,
            )
            return
        code, what = _contradiction(port_probe, expected)
        if what and not port.bypass:
            yield pod_finding(
                port.pod,
                f"{where} {what}",
                f"{expected.mode} by {expected.policy}",
                f"istioctl proxy-config listener {port.pod.metadata.name}."
                f"{port.pod.metadata.namespace} --port 15006",
                problem=code,
                transient=True,  # a changed policy takes a moment to reach the proxy
                port=port.number,
            )
        elif expected.mode != STRICT and self._evidence.expectations.require_mtls == "strict":
            yield pod_finding(
                port.pod,
                f"{where} is {expected.mode} by {expected.policy}",
                STRICT,
                _make_strict(expected, port.pod),
                problem="not-strict",
                port=port.number,
            )

    @property
    def lax(self) -> list[Finding]:
        """Ports whose policy accepts plaintext, as they should and as is worth knowing."""
        if self._evidence.expectations.require_mtls == "strict":
            return []
        return [
            pod_finding(
                port.pod,
                f"port {port.number} accepts plaintext: {expected.mode} by {expected.policy}",
                remedy=_make_strict(expected, port.pod),
                problem="accepts-plaintext",
                port=port.number,
            )
            for port, _ in self.pairs
            if (expected := self._policies.mode(port.pod, port.number)).mode != STRICT
        ]

    @property
    def unseen(self) -> list[Finding]:
        """What this run did not probe, counted, with the reason."""
        seen = self._evidence
        every = list(workloads.ports(seen.own_mesh.own(seen.pods), seen.services))
        found = not_probed(len(every) - len(self.pairs), len(every), seen.expectations)
        if machines := len(self._evidence.workload_entries):
            found.append(
                Finding(
                    "the mesh",
                    f"{machines} WorkloadEntries were not probed: only pods are",
                    remedy="Verify these by other means.",
                    problem="machines-not-probed",
                )
            )
        return [*found, *self.unverified.accepted]

    def _silence(self, silent: list[tuple[Port, PortProbe]]) -> CouldNotVerify:
        port, port_probe = silent[0]
        attempt = next(each for each in _attempts(port_probe) if each.end in UNDECIDED)
        names = ", ".join(each.key for each, _ in silent[1:4])
        more = f" and {len(silent) - 4} more" if len(silent) > 4 else ""
        blocking = self._network_policy(port.pod)
        return CouldNotVerify(
            f"{pods.name(port.pod)} port {port.number} does not answer "
            f"({attempt.error or attempt.end})"
            + (f"; the same for {names}{more}" if names else ""),
            f"allow the verifier's namespace in {blocking}, which selects it"
            if blocking
            else "look for a firewall (a timeout is not a refusal), or exclude it "
            f"({flag('probes.exclude_port')})",
            transient=True,
        )

    def _network_policy(self, pod: Pod) -> str:
        return next(
            (
                f"NetworkPolicy {each.metadata.namespace}/{each.metadata.name}"
                for each in self._evidence.network_policies
                if each.metadata.namespace == pod.metadata.namespace
                and ("Ingress" in each.spec.policy_types or not each.spec.policy_types)
                and selects(each.spec.pod_selector, pod.metadata.labels)
            ),
            "",
        )


def _attempts(port_probe: PortProbe) -> list[Attempt]:
    every = (port_probe.anonymous, port_probe.foreign, port_probe.mesh, port_probe.plain)
    return [each for each in every if each is not None]


def _undecided(port_probe: PortProbe, expected: str) -> bool:
    """Return whether an attempt had no result that the expected mode depends on.

    An application may stay silent when the sidecar passes a connection on; a sidecar may not.
    """
    if expected == DISABLE:
        return port_probe.anonymous.end == "unreachable"
    terminated = [port_probe.foreign, port_probe.mesh]
    if expected == STRICT:
        terminated += [port_probe.anonymous, port_probe.plain]
    return any(each.end in UNDECIDED for each in terminated if each is not None)


def seen_mode(port_probe: PortProbe) -> str:
    """Return the mode that the connections show; empty if they show none.

    A sidecar under STRICT terminates all TLS, under PERMISSIVE only TLS with Istio's ALPN.
    """
    if port_probe.anonymous.identity:
        return STRICT
    if any(each.end in UNDECIDED for each in (port_probe.anonymous, port_probe.foreign)):
        return ""
    if port_probe.foreign.identity or (port_probe.mesh and port_probe.mesh.identity):
        return PERMISSIVE
    return "" if port_probe.mesh and port_probe.mesh.end in UNDECIDED else DISABLE


_SEEN = {
    STRICT: "accepts only mTLS: it refuses plaintext",
    PERMISSIVE: "is PERMISSIVE: it accepts plaintext and TLS without a mesh certificate",
    DISABLE: "does not accept mTLS: no sidecar answers there",
}


def _contradiction(port_probe: PortProbe, expected: Mode) -> tuple[str, str]:
    """Return what a port does against its policy, as a code and as words; empty for nothing."""
    seen, plain, mesh = seen_mode(port_probe), port_probe.plain, port_probe.mesh
    if expected.mode == STRICT and plain and plain.end == "answered":
        return "answers-plaintext", f"answers plaintext HTTP ({plain.status or 'not HTTP'})"
    if seen and seen != expected.mode:
        return f"is-{seen.lower()}", _SEEN[seen]
    if port_probe.anonymous.identity and port_probe.anonymous.end in ACCEPTED:
        return "accepts-anonymous", "accepts a client without a certificate"
    if port_probe.foreign.identity and port_probe.foreign.end in ACCEPTED:
        return "accepts-foreign", "accepts a client certificate of an unknown CA"
    # a TCP port on which nothing listens, and a denial, are closed without an alert
    refuses = mesh and mesh.end == "refused" and (mesh.error or plain is not None)
    if seen in (STRICT, PERMISSIVE) and mesh and refuses:
        return (
            "refuses-mesh",
            f"refuses a certificate that istiod signed ({mesh.error or 'closed'})",
        )
    return "", ""


def _make_strict(mode: Mode, pod: Pod) -> str:
    if mode.policy.startswith("PeerAuthentication"):
        return f"Set {mode.policy} to STRICT when all its clients have sidecars."
    return (
        f"Create a STRICT PeerAuthentication in {pod.metadata.namespace} when all its clients have "
        "sidecars."
    )
