"""Outcomes as lines of plain text: the Job's log, the terminal, and the body of a JUnit failure."""

from collections.abc import Iterator

from meshgate.catalogue import check
from meshgate.verdict import Finding, Gate, Outcome, Ruling, Verdict

# Offenders that are shown of one claim; JUnit and HTML show all.
SHOWN = 10


def _sentence(words: str) -> str:
    """On one line, whatever an object of the mesh had to say."""
    return " ".join(words.split()).rstrip(".")


def finding_line(id: str, finding: Finding, word: str = "FAIL") -> str:
    """Id, object, what was seen, what was expected, what to do, the page: all on one line."""
    row = check(id)
    remedy = _sentence(finding.remedy or row.hint)
    return f"{word} {id} {_sentence(str(finding))}. Do: {remedy}. See {row.page}"


def outcome_lines(outcome: Outcome, limit: int | None = None) -> Iterator[str]:
    """One claim: a line where all is well, else a line for each offender."""
    row = check(outcome.check)
    match outcome.verdict:
        case Verdict.PASS:
            yield f"pass {row.id} {row.title}"
        case Verdict.WARN:
            yield from _listing(row.id, outcome.warnings, "WARN", limit)
        case Verdict.NOT_APPLICABLE:
            yield f"n/a  {row.id} {row.title}: {_sentence(outcome.why)}"
        case Verdict.UNKNOWN:
            remedy = _sentence(outcome.remedy or row.hint)
            why = f"could not verify that {row.title}: {_sentence(outcome.why)}"
            yield f"???? {row.id} {why}. Do: {remedy}. See {row.page}"
        case Verdict.FAIL if outcome.findings:
            yield from _listing(row.id, outcome.warnings, "WARN", limit)
            yield from _listing(row.id, outcome.findings, "FAIL", limit)
        case Verdict.FAIL:
            why = f"{_sentence(outcome.why)}; expected that {row.title}"
            yield f"FAIL {row.id} {why}. Do: {_sentence(row.hint)}. See {row.page}"


def _listing(id: str, findings: tuple[Finding, ...], word: str, limit: int | None) -> Iterator[str]:
    for finding in findings[:limit]:
        yield finding_line(id, finding, word)
    if limit is not None and len(findings) > limit:
        yield f"{word} {id} and {len(findings) - limit} more: all are in the report"


def ruling_lines(ruling: Ruling) -> Iterator[str]:
    """The whole run; the worst comes last, where the eye is, and the verdict at the very end.

    Within one verdict the catalogue's order holds: causes stand before what follows from them.
    """
    order = (Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN)
    for verdict in order:
        for outcome in ruling.of(verdict):
            yield from outcome_lines(outcome, SHOWN)
    for note in ruling.notes:
        yield f"note {note}"
    yield f"{ruling.sentence} (exit {int(ruling.gate)}{_meaning(ruling.gate)})"


def _meaning(gate: Gate) -> str:
    return {
        Gate.OPEN: "",
        Gate.CLOSED: ": a claim failed",
        Gate.COULD_NOT_VERIFY: ": could not verify",
    }[gate]
