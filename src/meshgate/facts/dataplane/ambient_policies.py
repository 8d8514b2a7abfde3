"""Pods in ambient mode: whether ztunnel enforces the policies of layer 4, and refuses plaintext."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from meshgate.facts.dataplane.ambient import UNAUTHORIZED, AmbientPorts
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.facts.unverified import Unverified
from meshgate.semantics import pods, workloads
from meshgate.semantics.authorization import (
    Decision,
    Request,
    decide,
    is_dry_run,
    selects,
)
from meshgate.semantics.layer4 import at_ztunnel
from meshgate.semantics.policies import STRICT, Mode, Policies
from meshgate.semantics.workloads import Port, is_first_shard
from meshgate.settings import flag
from meshgate.snapshot.hbone import Tunnel
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.pair import PeerCall
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

ADMITTED = ("answered", "held")


class AmbientPolicies:
    """PeerAuthentications and AuthorizationPolicies, compared with what ports admit."""

    def __init__(self, evidence: Evidence, ports: AmbientPorts) -> None:
        self._evidence = evidence
        self._ports = ports

    @cached_property
    def _peer_authentications(self) -> Policies:
        return Policies(self._evidence.peer_authentications, self._evidence.own_mesh.root_namespace)

    def _decide(self, pod: Pod, caller: str, port: int) -> Decision:
        """Return what the policies that ztunnel enforces say of a connection."""
        own = self._evidence.own_mesh
        policies = [
            at_ztunnel(each)
            for each in self._evidence.authorization_policies
            if not is_dry_run(each)
            and each.spec.action in ("ALLOW", "DENY")
            and selects(each, pod, own.root_namespace)
        ]
        aliases = own.trust_domain_aliases if own.is_configured else None
        return decide(policies, Request(caller.removeprefix("spiffe://"), port, "", "", aliases))

    @property
    def policy_violations(self) -> list[Finding]:
        """Ports that admit an identity that a policy denies, or deny one that all allow.

        Raise NotApplicable if no policy decides about a probed port, and CouldNotVerify if nothing
        is wrong, but a port that a policy closes to the verifier gave no answer.
        """
        found, decided = [], 0
        silent: list[tuple[Port, Decision, Tunnel]] = []
        for port, probe in self._ports.pairs:
            mesh = probe.mesh
            if mesh is None or not port.number:
                continue
            decision = self._decide(port.pod, self._ports.probes.identity, port.number)
            if mesh.end not in ("open", "declined"):
                silent += [(port, decision, mesh)] if decision.allowed is False else []
                continue
            denied = mesh.connect == UNAUTHORIZED
            decided += denied or decision.allowed is False
            if denied and decision.allowed:
                found.append(
                    self._violation(
                        port,
                        f"ztunnel denies the verifier (CONNECT is answered {UNAUTHORIZED}), "
                        f"although {decision.policy} it",
                        "an open connection",
                        "denied-without-policy",
                    )
                )
            elif not denied and decision.allowed is False:
                found.append(
                    self._violation(
                        port,
                        f"ztunnel admits {self._ports.probes.identity}, although {decision.policy} "
                        "denies it",
                        f"a CONNECT that is answered {UNAUTHORIZED}",
                        "not-denied",
                    )
                )
        for port, decision, mesh in silent if not found else ():
            raise CouldNotVerify(
                f"{pods.name(port.pod)} port {port.number} gave no answer through HBONE "
                f"({mesh.error or mesh.end}), so {decision.policy} was not compared with it",
                "see the result of DP012",
                transient=True,
            )
        if not found and not decided:
            count = len(self._ports.pairs)
            raise NotApplicable(
                f"no AuthorizationPolicy denies the verifier at {count} ports in ambient mode"
            )
        return found

    def _violation(self, port: Port, seen: str, expected: str, problem: str) -> Finding:
        return pod_finding(
            port.pod,
            f"port {port.number}: {seen}",
            expected,
            f"kubectl -n {port.pod.metadata.namespace} get authorizationpolicies",
            problem=problem,
            transient=True,  # a changed policy takes a moment to reach ztunnel
            port=port.number,
        )

    @cached_property
    def plaintext_ports(self) -> list[Port]:
        """The ports that a pod outside the mesh connects to: those that are known."""
        return [each for each in self._ports.of_all_shards if each.number]

    @property
    def plaintext(self) -> list[Finding]:
        """Ports that admit plaintext from a pod against their policy, or refuse it.

        Raise CouldNotVerify if nothing is wrong, but no pod connected to a port in plaintext.
        """
        shard, ports = self._evidence.expectations.shard, self.plaintext_ports
        if not is_first_shard(shard):
            raise NotApplicable(f"this is shard {shard}: the first one connects in plaintext")
        if not ports:
            raise NotApplicable("no pod in ambient mode has a known port")
        calls = self._plaintext_calls(ports)
        found = [each for port in ports for each in self._plain(port, calls[port.key])]
        if found:
            return found
        for port in ports:
            call = calls[port.key]
            if call.end in ("silent", "") or (call.end == "unreachable" and "timed" in call.error):
                raise CouldNotVerify(
                    f"{pods.name(port.pod)} port {port.number} does not answer a connection in "
                    f"plaintext ({call.error or call.end or 'no result'})",
                    f"look for a NetworkPolicy, or exclude it ({flag('probes.exclude_port')})",
                    transient=True,
                )
        return []

    def _plaintext_calls(self, ports: Iterable[Port]) -> dict[str, PeerCall]:
        pair = self._evidence.pair
        if pair.skipped_reason:
            raise Unverified(self._evidence).of_ambient(
                "no pod connected in plaintext to the pods in ambient mode: plaintext from here "
                f"may bypass ztunnel, and {pair.skipped_reason}",
                f"pass {flag('probes.probe_pair', 'IMAGE')}, which creates a pod outside the "
                "mesh that connects",
            )
        for peer in pair.outside:
            if reason := peer.unmade or peer.stuck:
                raise CouldNotVerify(
                    f"Probe {pair.namespace}/{peer.name} did not connect in plaintext: {reason}",
                    f"kubectl -n {pair.namespace} get events",
                    transient=True,
                )
            if peer.proxy_image or peer.captured:
                raise CouldNotVerify(
                    f"Probe {pair.namespace}/{peer.name} is in the mesh although its labels opt "
                    "out, so it does not send plaintext",
                    f"kubectl describe namespace {pair.namespace}",
                )
        calls = {each.target: each for each in pair.calls if each.kind == "plaintext"}
        for port in ports:
            if port.key not in calls:
                raise CouldNotVerify(
                    f"no pod connected in plaintext to {pods.name(port.pod)} port {port.number}",
                    "capture it again",
                    transient=True,
                )
        return calls

    def _plain(self, port: Port, call: PeerCall) -> Iterator[Finding]:
        mode = self._mode(port)
        decision = self._decide(port.pod, "", port.number)
        if call.end in ADMITTED and mode.mode == STRICT:
            yield self._plain_finding(
                port, "accepts plaintext from a pod", mode, "accepts-plaintext"
            )
        elif call.end in ADMITTED and decision.allowed is False:
            seen = f"accepts plaintext from a pod, although {decision.policy} denies it"
            yield self._plain_finding(port, seen, mode, "not-denied")
        elif call.end == "refused" and mode.mode != STRICT and decision.allowed:
            yield self._plain_finding(port, "refuses plaintext", mode, "refuses-plaintext")
        elif mode.mode != STRICT and self._evidence.expectations.require_mtls == "strict":
            seen = f"is {mode.mode} by {mode.policy}"
            yield self._plain_finding(
                port, seen, Mode(STRICT, flag("criteria.require_mtls")), "not-strict"
            )

    def _mode(self, port: Port) -> Mode:
        return self._peer_authentications.mode(port.pod, port.number)

    @staticmethod
    def _plain_finding(port: Port, seen: str, mode: Mode, problem: str) -> Finding:
        return pod_finding(
            port.pod,
            f"port {port.number} {seen}",
            f"{mode.mode} by {mode.policy}",
            workloads.restart_command(port.pod),
            problem=problem,
            transient=problem != "not-strict",
            port=port.number,
        )
