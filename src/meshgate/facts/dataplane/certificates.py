"""The certificates that sidecars serve: whose they are, who trusts them, and when they expire."""

from collections.abc import Iterator

from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.facts.tunnels import own_identity
from meshgate.semantics import workloads
from meshgate.semantics.certificates import remaining
from meshgate.semantics.workloads import PROXY, Port
from meshgate.snapshot.mtls import PortProbe
from meshgate.verdict import CouldNotVerify, Finding

# The share of its lifetime that a workload's certificate must have left: it is renewed at half.
SOON, TOO_LATE = 0.40, 0.20


class SidecarCertificates:
    """The certificate of each sidecar, as its ports serve it."""

    def __init__(self, evidence: Evidence, probes: MtlsProbes) -> None:
        self._evidence = evidence
        self._probes = probes

    @property
    def bad(self) -> list[Finding]:
        """Certificates of another identity, that are not trusted, or that were not renewed.

        Raises CouldNotVerify if no sidecar served a certificate.
        """
        pairs = self._probes.pairs
        found = [each for pair in pairs for each in self._bad(*pair)]
        if not found and not any(port_probe.chain for _, port_probe in pairs):
            raise CouldNotVerify(
                f"none of the {len(pairs)} probed ports served a sidecar's certificate",
                "see the result of DP004",
                transient=True,
            )
        return list(dict.fromkeys(found))  # a sidecar serves the same one on all ports

    @property
    def ageing(self) -> list[Finding]:
        """Certificates that should have been renewed by now."""
        return list(
            dict.fromkeys(
                finding
                for port, port_probe in self._probes.pairs
                if TOO_LATE <= self._remaining(port_probe) < SOON
                for finding in self._expiring(port, port_probe)
            )
        )

    def _remaining(self, port_probe: PortProbe) -> float:
        taken = self._evidence.snapshot.taken
        return remaining(port_probe.chain[0], taken) if port_probe.chain else 1.0

    def _bad(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        if not port_probe.chain:
            return
        leaf = port_probe.chain[0]
        known = self._probes.port_probes.identity or next(iter(leaf.sans), "")
        expected, *others = own_identity(self._evidence, port.pod, known)
        if leaf.sans not in {(each,) for each in (expected, *others)}:
            yield pod_finding(
                port.pod,
                f"its sidecar's certificate is for {', '.join(leaf.sans)}"
                if leaf.sans
                else "its sidecar's certificate has no SPIFFE ID",
                expected,
                workloads.restart_command(port.pod),
                problem="wrong-identity",
                identity=", ".join(leaf.sans),
            )
        if self._remaining(port_probe) < TOO_LATE:
            yield from self._expiring(port, port_probe)
        elif port_probe.distrust:
            yield pod_finding(
                port.pod,
                f"its sidecar's certificate is not trusted: {port_probe.distrust}",
                "a chain to the mesh's root certificate",
                workloads.restart_command(port.pod),
                problem="not-trusted",
                transient=True,  # a new root takes a moment to reach all namespaces
            )

    def _expiring(self, port: Port, port_probe: PortProbe) -> Iterator[Finding]:
        leaf = port_probe.chain[0]
        namespace, name = port.pod.metadata.namespace, port.pod.metadata.name
        yield pod_finding(
            port.pod,
            f"its sidecar's certificate expires at {leaf.not_after:%Y-%m-%d %H:%M} UTC: "
            f"{max(self._remaining(port_probe), 0):.0%} of its lifetime is left",
            f"at least {SOON:.0%} (it is renewed at about half)",
            f"kubectl -n {namespace} logs {name} -c {PROXY}",
            problem="not-renewed",
        )
