"""What each port answered to a caller of the mesh before the upgrade, compared with now.

The caller is the verifier, over mTLS, with the same identity in both captures.
"""

from collections import defaultdict
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.dataplane.mtls import ACCEPTED, MtlsProbes
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.semantics.workloads import Port
from meshgate.settings import flag
from meshgate.snapshot.mtls import Attempt
from meshgate.verdict import Finding, NotApplicable


class _Pair(NamedTuple):
    """A port, and its answers over mTLS: of any pod of its workload before, of its pod now."""

    port: Port
    before: list[Attempt]
    now: Attempt


class CallerComparison:
    """The ports of workloads that were probed before the upgrade and now."""

    def __init__(self, evidence: Evidence, probes: MtlsProbes) -> None:
        self._evidence = evidence
        self._probes = probes

    @cached_property
    def _before(self) -> dict[tuple[str, int], list[Attempt]]:
        """The answers in the baseline, by workload and port."""
        before = self._evidence.expectations.before
        if before is None:
            raise NotApplicable(f"no baseline is given ({flag('run.baseline')})")
        found: defaultdict[tuple[str, int], list[Attempt]] = defaultdict(list)
        probes = before.port_probes
        for each in probes.probes if probes else ():
            if each.workload and each.mesh is not None:
                found[each.workload, each.port].append(each.mesh)
        if probes is None or not found:
            raise NotApplicable("the baseline contains no connection with a mesh certificate")
        if probes.identity != self._probes.port_probes.identity:
            raise NotApplicable(
                f"the baseline was captured as {probes.identity}, and this run is "
                f"{self._probes.port_probes.identity or 'without an identity'}"
            )
        return found

    @cached_property
    def pairs(self) -> list[_Pair]:
        """The ports with an answer before and now; raises NotApplicable if there are none."""
        before = self._before
        found = [
            _Pair(port, before[key], probe.mesh)
            for port, probe in self._probes.pairs
            if probe.mesh is not None
            and (key := (workloads.lasting(port.pod), port.number)) in before
        ]
        if not found:
            raise NotApplicable("no port of the baseline was probed now")
        return found

    @property
    def rejecting(self) -> list[Finding]:
        """Ports that admitted the verifier before the upgrade and do not now."""
        return [
            pod_finding(
                pair.port.pod,
                f"port {pair.port.number} {words} to {self._identity}, which it admitted before "
                "the upgrade",
                "the answer from before the upgrade",
                f"kubectl -n {pair.port.pod.metadata.namespace} get authorizationpolicies,"
                "peerauthentications",
                problem="no-longer-admitted",
                transient=True,
                port=pair.port.number,
            )
            for pair in self.pairs
            if any(map(_admits, pair.before)) and (words := _rejection(pair))
        ]

    @property
    def admitting(self) -> list[Finding]:
        """Ports that denied the verifier before the upgrade and admit it now."""
        return [
            pod_finding(
                pair.port.pod,
                f"port {pair.port.number} answers {pair.now.status} to {self._identity}, which it "
                "denied before the upgrade",
                "403 (RBAC: access denied)",
                "Restore the AuthorizationPolicy unless it was removed on purpose.",
                problem="no-longer-denied",
                port=pair.port.number,
            )
            for pair in self.pairs
            if all(each.denied for each in pair.before)
            and _admits(pair.now)
            and pair.now.end == "answered"
        ]

    @property
    def _identity(self) -> str:
        return self._probes.port_probes.identity


def _admits(attempt: Attempt) -> bool:
    return attempt.end in ACCEPTED and not attempt.denied


def _rejection(pair: _Pair) -> str:
    """Return how a port rejects what it admitted; empty if it does not."""
    now = pair.now
    if now.denied:
        return "answers 403 (RBAC: access denied)"
    if now.end == "refused":
        return f"closes the connection ({now.error or 'no answer'})"
    worked = any(0 < each.status < 500 for each in pair.before if _admits(each))
    return f"answers {now.status}" if now.status >= 500 and worked else ""
