"""One page over the reports of many runs: which gates are open, closed, or silent."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import msgspec

from meshgate.report.html import TEMPLATES
from meshgate.report.json import Report


class Entry(msgspec.Struct, frozen=True):
    """The folder of one run, as it was found; `why` says why it has no verdict."""

    folder: str
    report: Report | None = None
    page: str = ""
    why: str = ""

    @property
    def place(self) -> str:
        """Where its runs are: the folder above."""
        return self.folder.rpartition("/")[0] or "."

    @property
    def run(self) -> str:
        """Its own name there."""
        return self.folder.rpartition("/")[2]

    @property
    def state(self) -> str:
        """Silence is no good news: what has no verdict is not open."""
        return self.report.gate if self.report else "silent"

    @property
    def stages(self) -> str:
        """The stages that it ran."""
        checks = self.report.checks if self.report else ()
        return ", ".join(dict.fromkeys(each.stage for each in checks))

    @property
    def wrong(self) -> tuple[str, ...]:
        """The ids of the checks that closed it."""
        checks = self.report.checks if self.report else ()
        return tuple(each.id for each in checks if each.verdict in ("fail", "could not verify"))


class GateHistory(NamedTuple):
    """A gate of a cluster: the latest run, and those before."""

    name: str
    latest: Entry
    earlier: Sequence[Entry]


def histories(entries: Iterable[Entry]) -> list[GateHistory]:
    """By place; a run without a verdict counts as the latest, since nobody knows when it was."""
    found = []
    ordered = sorted(entries, key=lambda each: (each.place, each.run))
    for name, runs in groupby(ordered, key=lambda each: each.place):
        latest, *earlier = sorted(runs, key=_age, reverse=True)
        found.append(GateHistory(name, latest, earlier))
    return found


def _age(entry: Entry) -> tuple[bool, float, str]:
    taken = entry.report.taken if entry.report else None
    return entry.report is None, taken.timestamp() if taken else 0.0, entry.run


def page(entries: Sequence[Entry], made: datetime, last: int) -> str:
    """The page, whole; `last` runs of each place."""
    return TEMPLATES.get_template("index.html.jinja").render(
        histories=histories(entries), made=made, last=last
    )
