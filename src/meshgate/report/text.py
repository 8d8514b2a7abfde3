"""Outcomes as lines of plain text: the body of a JUnit failure, annotations and Events."""

import textwrap
from collections.abc import Iterable, Iterator

from meshgate.catalogue import check
from meshgate.report.visible import one_line
from meshgate.verdict import Finding, Gate, Outcome, Verdict

# Findings that the terminal shows of one check, and characters of one of its texts; the reports
# have everything.
SHOWN = 10
LENGTH = 800

WIDTH = 100
_FIX = "    fix: "
COMMANDS = ("kubectl ", "istioctl ", "meshgate ", "helm ", "pytest ", "argocd ")


def finding_line(id: str, finding: Finding, word: str = "FAIL", limit: int | None = None) -> str:
    """Return `FAIL ID OBJECT: what is wrong (expected …)`, on one line.

    Args:
        id: the check's id.
        finding: the finding.
        word: the verdict.
        limit: characters after which the finding is cut; None for all.

    Returns:
        The line.
    """
    return f"{word} {id} {one_line(str(finding), limit)}"


def fix_line(remedy: str, limit: int | None = None) -> str:
    """Return the line under a finding that says what to do."""
    return f"{_FIX}{one_line(remedy, limit).rstrip('.')}"


def outcome_lines(outcome: Outcome, shown: int | None = None) -> Iterator[str]:
    """Yield the lines of one check: one if it passed, else two for each finding.

    Args:
        outcome: its result.
        shown: how many findings are shown, each cut to LENGTH characters; None for all, whole.
    """
    row = check(outcome.check)
    limit = LENGTH if shown is not None else None
    basis = f" (based on {outcome.basis})" if outcome.basis else ""
    match outcome.verdict:
        case Verdict.PASS:
            yield f"pass {row.id} {row.title}{basis}"
        case Verdict.WARN:
            yield from _findings(row.id, outcome.warnings, "WARN", shown)
        case Verdict.NOT_APPLICABLE:
            yield f"n/a  {row.id} {row.title}: {one_line(outcome.why, limit)}"
        case Verdict.UNKNOWN:
            yield f"UNKNOWN {row.id} {row.title}: could not verify: {one_line(outcome.why, limit)}"
            yield fix_line(outcome.remedy or row.hint, limit)
        case Verdict.FAIL:
            yield from _findings(row.id, outcome.warnings, "WARN", shown)
            yield f"{row.id}: {row.failure or f'this is not true: {row.title}'} (see {row.page})"
            if outcome.findings:
                yield from _findings(row.id, outcome.findings, "FAIL", shown)
            else:
                yield f"FAIL {row.id} {one_line(outcome.why, limit)}"
                yield fix_line(row.hint)


def _findings(
    id: str, findings: tuple[Finding, ...], word: str, shown: int | None
) -> Iterator[str]:
    limit = LENGTH if shown is not None else None
    for finding in findings[:shown]:
        yield finding_line(id, finding, word, limit)
        yield fix_line(finding.remedy or check(id).hint, limit)
    if shown is not None and len(findings) > shown:
        yield f"{word} {id} and {len(findings) - shown} more: see the report"


def note_line(note: str) -> str:
    """Return a remark about the run."""
    return f"note {one_line(note)}"


def last_line(sentence: str, code: int) -> str:
    """Return the last line of every run: the gate, why, and the exit code."""
    gap = "  " if sentence.startswith(("GATE OPEN ", "GATE CLOSED ")) else ""
    return f"{_spaced(sentence)}{gap} (exit {code}{_MEANING.get(code, '')})"


def _spaced(sentence: str) -> str:
    """Return the sentence on one line, with the two spaces after the gate."""
    gate, _, counts = sentence.partition("  ")
    return f"{one_line(gate)}  {one_line(counts)}" if counts else one_line(sentence)


_MEANING = {
    2: ": the run was interrupted",
    3: ": meshgate crashed",
    4: ": usage error",
    5: ": nothing was verified",
    int(Gate.COULD_NOT_VERIFY): ": could not verify",
}


def wrapped(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines of at most WIDTH columns; a command to paste stays on its line."""
    for line in lines:
        if len(line) <= WIDTH or line.removeprefix(_FIX).startswith(COMMANDS):
            yield line
            continue
        indent = line[: len(line) - len(line.lstrip())]
        yield from textwrap.wrap(
            line.strip(),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent or '  '}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
