"""What to do after a run: proceed, hold, roll back, or that a rollback is not possible.

meshgate never carries a decision out.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from meshgate.catalogue import check
from meshgate.settings import flag
from meshgate.verdict import Gate, Outcome, Ruling, Verdict

Action = Literal["proceed", "hold", "roll back", "cannot roll back"]

# the checks that say whether a rollback is possible
READINESS = ("CP029", "CP030")
REASONS = 5  # checks that are named
OBSTACLE = "must be solved before a rollback"


class Decision(msgspec.Struct, frozen=True):
    """What to do, and why."""

    action: Action
    reasons: tuple[str, ...]


def decide(ruling: Ruling, *, compared: bool) -> Decision:
    """Return what the outcomes of a run suggest.

    A rollback is suggested only for problems that the baseline did not have.

    Args:
        ruling: the outcomes of the run.
        compared: whether there was a baseline.

    Returns:
        `proceed` for an open gate; `roll back` or `cannot roll back` if the upgrade broke
        something; else `hold`.
    """
    if ruling.gate is Gate.OPEN and not ruling.reason:
        return Decision("proceed", ("the gate is open",))
    failed = [each for each in ruling.of(Verdict.FAIL) if each.check not in READINESS]
    applied = [each for each in failed if check(each.check).stage != "precheck"]
    broken = [each for each in applied if check(each.check).baseline]
    if not compared or not broken:
        return Decision("hold", tuple(_waiting(ruling, failed, broken)))
    reasons = _words(broken, "is new since the baseline")
    obstacles = [each for each in ruling.of(Verdict.FAIL) if each.check in READINESS]
    if obstacles:
        return Decision("cannot roll back", (*reasons, *_words(obstacles, OBSTACLE)))
    known = {each.check: each for each in ruling.outcomes if each.check in READINESS}
    first = known.get(READINESS[0])
    unknown = [each for each in known.values() if each.verdict is Verdict.UNKNOWN]
    if first is None or first.verdict is Verdict.NOT_APPLICABLE or unknown:
        why = unknown[0].why if unknown else (first.why if first else "stage B did not run")
        return Decision("hold", (*reasons, f"whether a rollback is possible is unknown: {why}"))
    return Decision("roll back", (*reasons, f"{READINESS[0]}: {check(READINESS[0]).title}"))


def _waiting(ruling: Ruling, failed: list[Outcome], broken: list[Outcome]) -> Iterable[str]:
    """Yield why to wait."""
    if ruling.reason:
        yield ruling.reason
    yield from _words(failed, "must be fixed first")
    yield from _words(ruling.of(Verdict.UNKNOWN), "could not be verified")
    yield from _words(
        [each for each in ruling.of(Verdict.FAIL) if each.check in READINESS], OBSTACLE
    )
    if broken:
        yield f"without {flag('run.baseline')} it is unknown whether the upgrade caused this"
    if not ruling.reason and not ruling.of(Verdict.FAIL) and not ruling.of(Verdict.UNKNOWN):
        yield "no check of a stage produced evidence"


def _words(outcomes: Iterable[Outcome], what: str) -> tuple[str, ...]:
    """Return what is said of one check with its title, or of several in one sentence."""
    found = list(outcomes)
    if len(found) == 1:
        return (f"{found[0].check} {what}: {_title(found[0])}",)
    if not found:
        return ()
    more = len(found) - REASONS
    named = [each.check for each in found[:REASONS]]
    if more > 0:
        named.append(f"{more} more check{'s' if more > 1 else ''}")
    *first, last = named
    return (f"{', '.join(first)} and {last} {what.replace('is ', 'are ', 1)}",)


def _title(outcome: Outcome) -> str:
    row = check(outcome.check)
    return row.title if outcome.verdict is Verdict.UNKNOWN else row.failure or row.title
