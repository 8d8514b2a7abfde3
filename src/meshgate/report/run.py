"""A run as all reports present it: the outcomes by stage, the causes, and the versions."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property

from meshgate import __version__
from meshgate.catalogue import STAGES, check
from meshgate.facts.evidence import Evidence
from meshgate.facts.overview import Overview, control_plane_summary, overview
from meshgate.report.causes import Cause, causes
from meshgate.report.decision import Decision, decide
from meshgate.semantics.versions import Target, Version
from meshgate.snapshot.model import Snapshot
from meshgate.suppressions import excused
from meshgate.verdict import Outcome, Ruling, Verdict

_WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.UNKNOWN: "unknown",
    Verdict.WARN: "warning",
    Verdict.NOT_APPLICABLE: "not run",
}


class Run:
    """What was verified, and the result.

    Args:
        ruling: the outcomes.
        snapshot: the evidence; None if none was captured.
    """

    def __init__(self, ruling: Ruling, snapshot: Snapshot | None = None) -> None:
        self.ruling = ruling
        self.snapshot = snapshot

    @cached_property
    def stages(self) -> dict[str, list[Outcome]]:
        """Return the outcomes by stage, in the order of the upgrade."""
        found: dict[str, list[Outcome]] = {}
        for each in self.ruling.outcomes:
            found.setdefault(check(each.check).stage, []).append(each)
        return {
            stage: found[stage] for stage in (*STAGES, *(found.keys() - STAGES)) if stage in found
        }

    @staticmethod
    def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
        """Return how many checks passed, failed, are unknown or warned; never 0."""
        found = Counter(each.verdict for each in outcomes)
        words = {}
        for verdict, word in _WORDS.items():
            if count := found.get(verdict, 0):
                plural = "s" if verdict is Verdict.WARN and count > 1 else ""
                words[f"{word}{plural}"] = count
        return words

    @cached_property
    def target(self) -> str:
        """Return the version of the upgrade; empty if none was given."""
        return (self.snapshot and self.snapshot.expectations.target_version) or ""

    @cached_property
    def decision(self) -> Decision:
        """Return what to do after the run."""
        compared = self.snapshot is not None and excused(self.snapshot) is not None
        return decide(self.ruling, compared=compared)

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Return what closes the gate, in the order in which to fix it."""
        return causes(self.ruling, self.target)

    @cached_property
    def _evidence(self) -> Evidence | None:
        return Evidence(self.snapshot) if self.snapshot else None

    @cached_property
    def overview(self) -> Overview | None:
        """Return istiod's replicas and the states of the proxies; None if they are not known."""
        return overview(self._evidence) if self._evidence else None

    @cached_property
    def cluster(self) -> str:
        """Return how the cluster is named; empty without evidence."""
        return self.snapshot.source if self.snapshot else ""

    @cached_property
    def versions(self) -> str:
        """Return `1.30.4 → 1.31.0`: the oldest version that runs and the target, if they differ."""
        running: set[Version] = set()
        if self._evidence:
            known = control_plane_summary(self._evidence).versions.split(", ")
            seen = (*known, *(self.overview.proxies if self.overview else ()))
            running = {each for text in seen if (each := Version.parse(text))}
        if not running:
            return self.target
        oldest, newest = min(running), self.target or str(max(running))
        wanted = Target.parse(newest)
        met = wanted is not None and wanted.met_by(oldest)
        return str(oldest) if met else f"{oldest} → {newest}"

    @cached_property
    def header(self) -> str:
        """Return the first line: program, cluster, versions and time."""
        parts = [f"meshgate {__version__}", self.cluster]
        if self.versions:
            parts.append(f"Istio {self.versions}")
        if self.snapshot:
            parts.append(f"{self.snapshot.taken:%Y-%m-%d %H:%M} UTC")
        return " · ".join(each for each in parts if each)
