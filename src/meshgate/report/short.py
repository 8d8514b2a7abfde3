"""A verdict as one line and as a short text, for annotations, Events and metrics."""

from collections.abc import Iterable

import msgspec

from meshgate.catalogue import OPTIONAL, check
from meshgate.report import text
from meshgate.report.visible import visible
from meshgate.verdict import Gate, Outcome, Ruling, Verdict, ruling

# the name of a run that is stored: its time in UTC
RUN = "%Y%m%d-%H%M%S"

LINE = 1000
PAGE = 8000


class Short(msgspec.Struct, frozen=True):
    """The verdict of a run: `line` has the gate and the first failure, `page` all failures.

    `stages` maps each selected stage to whether its gate is open.
    """

    exit: int
    line: str
    page: str
    stages: dict[str, bool]

    @property
    def open(self) -> bool:
        """Return whether the gate is open."""
        return self.exit == Gate.OPEN


def short(verdict: Ruling, exit: int, sentence: str) -> Short:
    """Return the short form of a complete run; `sentence` is its last line.

    Args:
        verdict: the outcomes.
        exit: the exit code.
        sentence: the last line of the run.

    Returns:
        The short form.
    """
    failures = _lines(
        msgspec.structs.replace(outcome, warnings=())
        for each in (Verdict.FAIL, Verdict.UNKNOWN)
        for outcome in verdict.of(each)
    )
    warnings = _lines(
        Outcome(outcome.check, Verdict.WARN, warnings=outcome.warnings)
        for outcome in verdict.outcomes
        if outcome.warnings
    )
    worst = [line for line in failures if line.startswith(("FAIL", "UNKNOWN", " "))][:2]
    stages = {check(each.check).stage for each in verdict.outcomes}
    # without an object in the mesh they are neither open nor closed
    absent = {each for each in stages & OPTIONAL if not _applies(verdict, each)}
    stages -= absent if stages != absent else set()
    # closed by a test that is not in the catalogue: no stage is open then
    believed = not verdict.reason and (exit == Gate.OPEN or verdict.gate is not Gate.OPEN)
    return Short(
        exit,
        cut(" ".join([sentence, *(line.strip() for line in worst)]), LINE),
        cut("\n".join([sentence, *failures, *warnings]), PAGE),
        {stage: believed and _open(verdict, stage) for stage in sorted(stages)},
    )


def _lines(outcomes: Iterable[Outcome]) -> list[str]:
    return [line for each in outcomes for line in text.outcome_lines(each, text.SHOWN)]


def broken(sentence: str, exit: int, stages: Iterable[str]) -> Short:
    """Return the short form of a run that ended early: none of its gates is open.

    Args:
        sentence: the last line of the run.
        exit: the exit code.
        stages: the stages that were selected.

    Returns:
        The short form.
    """
    return Short(
        exit,
        cut(visible(sentence), LINE),
        cut(visible(sentence), PAGE),
        dict.fromkeys(sorted(stages), False),
    )


def _applies(verdict: Ruling, stage: str) -> bool:
    return any(
        check(each.check).stage == stage and each.verdict is not Verdict.NOT_APPLICABLE
        for each in verdict.outcomes
    )


def _open(verdict: Ruling, stage: str) -> bool:
    own = [each for each in verdict.outcomes if check(each.check).stage == stage]
    return ruling(own, {each.check: stage for each in own}).gate is Gate.OPEN


def cut(words: str, limit: int) -> str:
    """Return the words, cut after `limit` characters and visibly so."""
    return words if len(words) <= limit else f"{words[: limit - 2]} …"
