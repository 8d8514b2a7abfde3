"""mTLS as the wire shows it, held against what the policies say."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.certificates import remaining
from meshgate.semantics.policies import DISABLE, PERMISSIVE, STRICT, Mode, Policies
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import Port, chosen
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mtls import Attempt, PortProbe, PortProbes
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

LET_IN = ("answered", "held")
UNDECIDED = ("silent", "unreachable")

# What must remain of a workload's certificate: it is renewed when about half is left.
SOON, TOO_LATE = 0.40, 0.20

IN_THE_CLUSTER = (
    "run inside the cluster (the chart's hook Job does), where pods are reached as others reach "
    "them"
)


class MtlsProbes:
    """What the ports of the workloads did, and what they should do."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def port_probes(self) -> PortProbes:
        """Raises CouldNotVerify unless we could come both as a stranger and as one of the mesh."""
        port_probes = self._evidence.port_probes
        if port_probes.skipped_reason:
            raise CouldNotVerify(port_probes.skipped_reason, IN_THE_CLUSTER)
        if port_probes.unsigned:
            raise CouldNotVerify(
                f"istiod signed us no certificate ({port_probes.unsigned}): that a port refuses "
                "strangers proves nothing while nobody is let in",
                "it must be a valid ServiceAccount token of audience istio-ca",
                transient=True,
            )
        return port_probes

    @cached_property
    def pairs(self) -> list[tuple[Port, PortProbe]]:
        """Every port that was to be connected to, and what it did."""
        seen = {f"{each.pod}:{each.port}": each for each in self.port_probes.probes}
        ports = chosen(self._evidence.pods, self._evidence.services, self._evidence.expectations)
        if not ports:
            self._nothing_there()
        for port in ports:
            if port.key not in seen:
                raise CouldNotVerify(
                    f"{pods.name(port.pod)} port {port.number} was not connected to",
                    "capture it again",
                    transient=True,
                )
        return [(port, seen[port.key]) for port in ports]

    def _nothing_there(self) -> None:
        if elsewhere := self._elsewhere:
            raise CouldNotVerify(
                f"{elsewhere}, and no other workload is in the mesh",
                "only sidecars can be connected to yet",
            )
        if self._evidence.expectations.shard and any(
            workloads.ports(self._evidence.pods, self._evidence.services)
        ):
            raise NotApplicable("no port falls into this shard")
        raise NotApplicable("no pod with a sidecar has a port that is named")

    @property
    def _elsewhere(self) -> str:
        """What is in the mesh and out of our reach, counted; empty for nothing."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        ambient = sum(
            workloads.is_active(pod) and workloads.ambient(pod, namespaces)
            for pod in self._evidence.pods
        )
        machines = len(self._evidence.workload_entries)
        return " and ".join(
            words
            for count, words in (
                (ambient, f"{ambient} pods are in ambient mode (HBONE)"),
                (machines, f"{machines} WorkloadEntries stand for machines"),
            )
            if count
        )

    # --- mode -----------------------------------------------------------------------------------

    @cached_property
    def _policies(self) -> Policies:
        return Policies(
            self._evidence.peer_authentications, self._evidence.expectations.istio_namespace
        )

    @property
    def disagreements(self) -> list[Finding]:
        """Ports that do other than their policy says, or that say too little if STRICT is asked."""
        found = [finding for pair in self.pairs for finding in self._disagreement(*pair)]
        if found:
            return found
        silent = [
            (port, port_probe)
            for port, port_probe in self.pairs
            if _undecided(port_probe, self._policies.mode(port.pod, port.number).mode)
        ]
        if silent:
            raise self._silence(*silent[0], len(silent))
        return []

    def _disagreement(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        subject, where = pods.name(port.pod), f"port {port.number}"
        expected = self._policies.mode(port.pod, port.number)
        if expected.mode == STRICT and port.bypass:
            yield Finding(
                subject,
                f"{where} bypasses its sidecar ({port.bypass}), so {expected.policy} does not hold",
                f"{expected.mode} by {expected.policy}",
                "take the annotation away and restart it, or give the port a policy of its own",
            )
            return
        if (what := _contradiction(port_probe, expected)) and not port.bypass:
            yield Finding(
                subject,
                f"{where} {what}",
                f"{expected.mode} by {expected.policy}",
                f"compare its configuration: istioctl proxy-config listener "
                f"{port.pod.metadata.name}.{port.pod.metadata.namespace} --port 15006",
                transient=True,  # a policy that has just changed is on its way
            )
        elif expected.mode != STRICT and self._evidence.expectations.require_mtls == "strict":
            yield Finding(
                subject,
                f"{where} is {expected.mode} by {expected.policy}",
                STRICT,
                _narrow(expected),
            )

    @property
    def lax(self) -> list[Finding]:
        """Ports whose policy lets plaintext in: as they should, and worth to know."""
        if self._evidence.expectations.require_mtls == "strict":
            return []
        found = []
        for port, _ in self.pairs:
            expected = self._policies.mode(port.pod, port.number)
            if expected.mode != STRICT:
                found.append(
                    Finding(
                        pods.name(port.pod),
                        f"port {port.number} takes plaintext: {expected.mode} by {expected.policy}",
                        remedy=_narrow(expected),
                    )
                )
        return found

    @property
    def unseen(self) -> list[Finding]:
        """What this run did not connect to, counted."""
        asked = self._evidence.expectations
        everywhere = list(workloads.ports(self._evidence.pods, self._evidence.services))
        left = len(everywhere) - len(self.pairs)
        why = [
            words
            for given, words in (
                (asked.excluded, "--exclude-port"),
                (asked.sample, f"--sample={asked.sample}"),
                (asked.shard, f"--shard={asked.shard}"),
            )
            if given
        ]
        found = []
        if left:
            found.append(
                Finding(
                    "the mesh",
                    f"{left} of {len(everywhere)} ports were not connected to ({', '.join(why)})",
                    remedy="nothing, if that is meant",
                )
            )
        if elsewhere := self._elsewhere:
            found.append(
                Finding(
                    "the mesh",
                    f"{elsewhere}: not covered yet",
                    remedy="verify these by other means",
                )
            )
        return found

    def _silence(self, port: Port, port_probe: PortProbe, count: int) -> CouldNotVerify:
        blocking = self._network_policy(port.pod)
        attempt = next(each for each in _attempts(port_probe) if each.end in UNDECIDED)
        return CouldNotVerify(
            f"{pods.name(port.pod)} port {port.number} does not answer "
            f"({attempt.error or attempt.end})"
            + (f", nor do {count - 1} more" if count > 1 else ""),
            f"{blocking} selects it: let the verifier's namespace in"
            if blocking
            else "a time-out is no refusal: look for a firewall, or exclude it (--exclude-port)",
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

    # --- certificates ---------------------------------------------------------------------------

    @property
    def bad_certificates(self) -> list[Finding]:
        """Certificates of sidecars that are another's, that nobody trusts, or that end."""
        found = [each for pair in self.pairs for each in self._bad(*pair)]
        if not found and not any(port_probe.chain for _, port_probe in self.pairs):
            raise CouldNotVerify(
                "no sidecar served a certificate",
                "see what the claim about mTLS says",
                transient=True,
            )
        return list(dict.fromkeys(found))  # a sidecar serves the same one on all ports

    @property
    def ageing_certificates(self) -> list[Finding]:
        """Certificates that should have been renewed by now."""
        return list(
            dict.fromkeys(
                finding
                for port, port_probe in self.pairs
                if TOO_LATE <= self._share(port_probe) < SOON
                for finding in self._ends(port, port_probe)
            )
        )

    def _share(self, port_probe: PortProbe) -> float:
        taken = self._evidence.snapshot.taken
        return remaining(port_probe.chain[0], taken) if port_probe.chain else 1.0

    def _bad(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        if not port_probe.chain:
            return
        subject, leaf = pods.name(port.pod), port_probe.chain[0]
        namespace, account = port.pod.metadata.namespace, port.pod.spec.service_account_name
        domain = self.port_probes.identity.removeprefix("spiffe://").partition("/")[0]
        expected = f"spiffe://{domain}/ns/{namespace}/sa/{account}"
        if leaf.sans != (expected,):
            yield Finding(
                subject,
                f"its sidecar says that it is {', '.join(leaf.sans) or 'nobody'}",
                expected,
                "restart it: it has a certificate of another ServiceAccount or trust domain",
            )
        if self._share(port_probe) < TOO_LATE:
            yield from self._ends(port, port_probe)
        elif port_probe.distrust:
            yield Finding(
                subject,
                f"its sidecar's certificate is not trusted: {port_probe.distrust}",
                "a chain that leads to the mesh's root",
                "restart it: it has a certificate of another CA than the rest of the mesh",
                transient=True,  # a new root spreads for a moment
            )

    def _ends(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        leaf = port_probe.chain[0]
        yield Finding(
            pods.name(port.pod),
            f"its sidecar's certificate ends at {leaf.not_after:%Y-%m-%d %H:%M} UTC: "
            f"{max(self._share(port_probe), 0):.0%} of its lifetime is left",
            f"at least {SOON:.0%}, since it is renewed at about half",
            f"kubectl -n {port.pod.metadata.namespace} logs {port.pod.metadata.name} "
            "-c istio-proxy: it cannot reach istiod's CA",
        )


def _attempts(port_probe: PortProbe) -> list[Attempt]:
    every = (port_probe.anonymous, port_probe.foreign, port_probe.mesh, port_probe.plain)
    return [each for each in every if each is not None]


def _undecided(port_probe: PortProbe, expected: str) -> bool:
    """Whether something is open that the expected mode would have settled.

    What is passed on to an application may well be met by silence; what a sidecar takes up is not.
    """
    if expected == DISABLE:
        return port_probe.anonymous.end == "unreachable"
    taken_up = [port_probe.foreign, port_probe.mesh]
    if expected == STRICT:
        taken_up += [port_probe.anonymous, port_probe.plain]
    return any(each.end in UNDECIDED for each in taken_up if each is not None)


def seen_mode(port_probe: PortProbe) -> str:
    """The mode that the wire shows; empty where that is open.

    A sidecar under STRICT takes up any TLS, under PERMISSIVE only what comes with Istio's ALPN.
    """
    if port_probe.anonymous.identity:
        return STRICT
    if any(each.end in UNDECIDED for each in (port_probe.anonymous, port_probe.foreign)):
        return ""
    if port_probe.foreign.identity or (port_probe.mesh and port_probe.mesh.identity):
        return PERMISSIVE
    return "" if port_probe.mesh and port_probe.mesh.end in UNDECIDED else DISABLE


def _contradiction(port_probe: PortProbe, expected: Mode) -> str:
    """What a port does that it should not; empty for nothing."""
    seen, plain, mesh = seen_mode(port_probe), port_probe.plain, port_probe.mesh
    if expected.mode == STRICT and plain and plain.end == "answered":
        return f"answers plaintext HTTP ({plain.status or 'not in HTTP'})"
    if seen and seen != expected.mode:
        return {
            STRICT: "takes mTLS alone: it refuses plaintext",
            PERMISSIVE: "is PERMISSIVE: it takes TLS and plaintext that are not the mesh's",
            DISABLE: "takes no mTLS: no sidecar answers there",
        }[seen]
    if port_probe.anonymous.identity and port_probe.anonymous.end in LET_IN:
        return "lets a client without a certificate in"
    if port_probe.foreign.identity and port_probe.foreign.end in LET_IN:
        return "lets a client in whose certificate is of an unknown CA"
    if seen in (STRICT, PERMISSIVE) and mesh and mesh.end == "refused":
        return f"refuses a certificate that istiod signed ({mesh.error or 'closed'})"
    return ""


def _narrow(mode: Mode) -> str:
    return (
        f"make {mode.policy} STRICT when no client without a sidecar is left"
        if mode.policy.startswith("PeerAuthentication")
        else "create a PeerAuthentication that says STRICT when no client without a sidecar is left"
    )
