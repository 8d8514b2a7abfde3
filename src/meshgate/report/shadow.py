"""Report a simulated upgrade as lines of text, and as an HTML page."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from meshgate.facts.precheck.shadow_upgrade import (
    Difference,
    broken,
    difference,
    findings,
    reshaped,
    unanswered,
    unseen,
)
from meshgate.report.html import TEMPLATES
from meshgate.snapshot.shadow import Change, Shadow
from meshgate.verdict import Finding

NO_PROBLEM = "no problem"


class ShadowReport(NamedTuple):
    """The contents of both reports.

    Attributes:
        shadow: the result of the simulation.
        findings: what fails a check.
        unseen: what could not be verified.
        changed: every change.
        proxies: how many proxies were simulated.
        compared: how many resources were compared.
    """

    shadow: Shadow
    findings: list[Finding]
    unseen: list[str]
    changed: Difference
    proxies: int
    compared: int

    @classmethod
    def of(cls, shadow: Shadow, accepted: Iterable[str] = ()) -> "ShadowReport":
        """Return the report; `accepted` has globs of removals that are allowed."""
        different = difference(shadow)
        return cls(
            shadow,
            findings(shadow, different, accepted),
            [*unseen(shadow), *unanswered(shadow)],
            different,
            sum(len(each.proxies) for each in shadow.classes),
            sum(each.resources for each in shadow.classes),
        )

    @property
    def verdict(self) -> str:
        """Return the result in words."""
        if count := len(self.findings):
            return f"{count} problems" if count > 1 else "1 problem"
        return "could not be verified completely" if self.unseen else NO_PROBLEM


def shadow_lines(report: ShadowReport) -> list[str]:
    """Return findings, what could not be verified, changes, and a summary as the last line."""
    shadow = report.shadow
    return [
        *(f"FAIL shadow {each} (fix: {each.remedy})" for each in report.findings),
        *(f"UNKNOWN shadow {each}" for each in report.unseen),
        *(
            f"all   {each.change.kind} in {each.places} places: {_place(each.change)}"
            for each in report.changed.widespread
        ),
        *(
            f"some  {change.kind} for {', '.join(names)}: {_place(change)}"
            for change, names in report.changed.partial
            if not broken(change)
        ),
        *(f"pod   {each}" for each in reshaped(shadow)),
        f"Upgrade to {shadow.version}: {report.verdict} ({report.proxies} proxies in "
        f"{len(shadow.classes)} classes, {report.compared} resources compared)",
    ]


def shadow_page(report: ShadowReport) -> str:
    """Return a standalone HTML page with the same contents, grouped by proxy."""
    some: defaultdict[str, list[Change]] = defaultdict(list)
    for change, names in report.changed.partial:
        for name in names:
            some[name].append(change)
    return TEMPLATES.get_template("shadow.html.jinja").render(
        version=report.shadow.version,
        classes=report.shadow.classes,
        widespread=report.changed.widespread,
        some=dict(sorted(some.items())),
        verdict=report.verdict,
        passed=report.verdict == NO_PROBLEM,
        **report._asdict(),
    )


def _place(change: Change) -> str:
    where = f"{change.type} {change.resource} {change.path}".rstrip()
    return f"{where} {change.before} -> {change.after}" if change.before else where
