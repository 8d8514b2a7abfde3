"""What the page shows, as data: the script of the page draws it, a part at a time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2s
from itertools import count
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

from meshgate.catalogue import Check, check
from meshgate.facts.overview import STATES
from meshgate.facts.watch.timeline import timeline
from meshgate.report.causes import Member
from meshgate.report.run import Run
from meshgate.report.visible import visible
from meshgate.suppressions import PRE_EXISTING, excused, key
from meshgate.verdict import Finding, Outcome, Verdict

# no raw HTML: the pages are ours, or a team's
_MARKDOWN = MarkdownIt("commonmark", {"html": False})

WORDS = {
    Verdict.FAIL: "failed",
    Verdict.UNKNOWN: "unknown",
    Verdict.WARN: "warning",
    Verdict.PASS: "passed",
    Verdict.NOT_APPLICABLE: "not run",
}


class Event(NamedTuple):
    """One step of a run, and when it began, in UTC."""

    at: datetime
    words: str


def page_data(run: Run, events: Sequence[Event] = ()) -> dict[str, Any]:
    """Return everything that the script of the page draws.

    Args:
        run: the outcomes and the evidence.
        events: the steps of the run, in order.
    """
    findings = list(_findings(run))
    causes = [
        {"title": visible(each.title), "checks": each.checks, "remedy": visible(each.remedy)}
        for each in run.causes
    ]
    return {
        "checks": [_check(each) for each in run.ruling.outcomes],
        "findings": findings,
        "causes": causes,
        "baseline": _baseline(run),
        "mesh": _mesh(run),
        "events": [
            {"at": f"{each.at:%H:%M:%S}", "ms": int(each.at.timestamp() * 1000), "words": words}
            for each in events
            for words in [visible(each.words)]
        ],
        "upgrade": _upgrade(run),
        "day": f"{run.snapshot.taken:%Y-%m-%d}" if run.snapshot else "",
    }


def _upgrade(run: Run) -> list[dict[str, Any]]:
    """Return the steps of the upgrade as a watch saw them; none without a watch."""
    watch = run.snapshot.expectations.watch if run.snapshot else None
    if watch is None:
        return []
    return [
        {
            "at": f"{each.at:%H:%M:%S}",
            "words": visible(each.words),
            "seconds": round((each.until - each.at).total_seconds()),
            "lost": each.lost,
        }
        for each in timeline(watch)
    ]


def _check(outcome: Outcome) -> dict[str, Any]:
    row = check(outcome.check)
    closing = outcome.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
    return {
        "id": row.id,
        "stage": row.stage,
        "title": row.title,
        "failure": row.failure or f"not true: {row.title}",
        "verdict": WORDS[outcome.verdict],
        "why": visible(outcome.why),
        "remedy": visible(outcome.remedy or row.hint) if closing else "",
        "basis": visible(outcome.basis),
        "page": _page(row) if closing or outcome.warnings else "",
    }


def _page(row: Check) -> str:
    """Return the page of a check as HTML, without its title; its sections are headings 4."""
    _, _, body = row.text.partition("\n")
    return str(_MARKDOWN.render(body)).replace("h2>", "h4>")


def _findings(run: Run) -> Iterator[dict[str, Any]]:
    """Yield each finding and warning, with the number of its cause and its anchor."""
    cause_of = {
        member: number for number, cause in enumerate(run.causes) for member in cause.members
    }
    compared = run.snapshot is not None and excused(run.snapshot) is not None
    seen: defaultdict[str, count[int]] = defaultdict(count)
    for outcome in run.ruling.outcomes:
        for failed, finding in (
            *((True, each) for each in outcome.findings),
            *((False, each) for each in outcome.warnings),
        ):
            name = blake2s(key(outcome.check, finding).encode(), digest_size=4).hexdigest()
            again = next(seen[f"{outcome.check}-{name}"])
            yield {
                "anchor": f"{outcome.check}-{name}" + (f"-{again}" if again else ""),
                "check": outcome.check,
                "verdict": _word(finding, failed=failed),
                "cause": cause_of.get(Member(outcome.check, finding), -1) if failed else -1,
                "object": visible(finding.owner or finding.subject),
                **_texts(outcome.check, finding),
                "new": compared and failed,
            }


def _word(finding: Finding, *, failed: bool) -> str:
    if failed:
        return "failed"
    return "suppressed" if finding.suppression else "warning"


def _texts(id: str, finding: Finding) -> dict[str, Any]:
    return {
        "subject": visible(finding.subject),
        "seen": visible(finding.seen),
        "expected": visible(finding.expected),
        "remedy": visible(finding.remedy or check(id).hint),
        "suppression": visible(finding.suppression),
        "problem": visible(finding.problem),
        "about": {visible(name): visible(value) for name, value in finding.about},
    }


def _baseline(run: Run) -> dict[str, Any] | None:
    """Return what a baseline has that this run does not; None without a baseline."""
    known_problems = excused(run.snapshot) if run.snapshot else None
    if run.snapshot is None or known_problems is None:
        return None
    before = run.snapshot.expectations.before
    ran = {each.check for each in run.ruling.outcomes}
    seen = {
        (each.check, *finding.identity)
        for each in run.ruling.outcomes
        for finding in (*each.findings, *each.warnings)
    }
    resolved = [
        f"{each.check} {each.subject}: {each.problem}"
        for each in known_problems
        if each.check in ran
        and (each.check, each.subject, each.problem, tuple(sorted(each.about))) not in seen
    ]
    known = sum(
        finding.suppression == PRE_EXISTING
        for each in run.ruling.outcomes
        for finding in each.warnings
    )
    return {
        "resolved": list(map(visible, resolved)),
        "known": known,
        "taken": f"{before.taken:%Y-%m-%d %H:%M} UTC" if before else "",
        "target": visible((before and before.target_version) or ""),
    }


def _mesh(run: Run) -> dict[str, Any] | None:
    """Return istiod's replicas and the proxies by version; None if they are not known."""
    if run.overview is None:
        return None
    return {
        "states": STATES,
        "replicas": [
            {name: visible(str(value)) for name, value in each._asdict().items()}
            for each in run.overview.replicas
        ],
        "proxies": [
            {"version": visible(version), "counts": [states.get(each, 0) for each in STATES]}
            for version, states in run.overview.proxies.items()
        ],
    }
