"""A verdict in one line and in a page, for what holds little: annotations, Events, metrics."""

from collections.abc import Iterable

import msgspec

from meshgate.catalogue import check
from meshgate.report import text
from meshgate.verdict import Gate, Ruling, Verdict, ruling

LINE = 1000
PAGE = 8000


class Short(msgspec.Struct, frozen=True):
    """What a run came to; `line` says the gate and the worst of it, `page` all that is wrong.

    `stages` maps each stage that was asked for to whether its gate is open.
    """

    exit: int
    line: str
    page: str
    stages: dict[str, bool]

    @property
    def open(self) -> bool:
        """Whether the gate is."""
        return self.exit == Gate.OPEN


def short(verdict: Ruling, exit: int, sentence: str) -> Short:
    """Of a run that came to its end; `sentence` is its last line."""
    wrong = [
        line
        for each in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN)
        for outcome in verdict.of(each)
        for line in text.outcome_lines(outcome, text.SHOWN)
    ]
    wrong.sort(key=_warns)  # an outcome that failed may have warnings too, and they come first
    worst = wrong[0] if wrong and not _warns(wrong[0]) else ""
    stages = {check(each.check).stage for each in verdict.outcomes}
    # closed by something that is in no catalogue: then no stage is open either
    believed = exit == Gate.OPEN or verdict.gate is not Gate.OPEN
    return Short(
        exit,
        cut(f"{sentence} {worst}".strip(), LINE),
        cut("\n".join([sentence, *wrong]), PAGE),
        {stage: believed and _open(verdict, stage) for stage in sorted(stages)},
    )


def broken(sentence: str, exit: int, stages: Iterable[str]) -> Short:
    """Of a run that was broken off: none of its gates is open."""
    return Short(
        exit, cut(sentence, LINE), cut(sentence, PAGE), dict.fromkeys(sorted(stages), False)
    )


def _warns(line: str) -> bool:
    return line.startswith("WARN")


def _open(verdict: Ruling, stage: str) -> bool:
    own = [each for each in verdict.outcomes if check(each.check).stage == stage]
    return ruling(own, {each.check: stage for each in own}).gate is Gate.OPEN


def cut(words: str, limit: int) -> str:
    """No longer than that, and visibly so."""
    return words if len(words) <= limit else f"{words[: limit - 2]} …"
