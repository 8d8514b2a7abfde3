"""One page about the reports of many runs: gates that are open, closed or without a verdict."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import msgspec

from meshgate.report.html import TEMPLATES
from meshgate.report.json import Report
from meshgate.report.short import RUN


class Entry(msgspec.Struct, frozen=True):
    """The folder of one run; `why` is the reason if it has no verdict."""

    folder: str
    report: Report | None = None
    page: str = ""
    why: str = ""

    @property
    def place(self) -> str:
        """Return the parent folder, which contains the runs of one gate."""
        return self.folder.rpartition("/")[0] or "."

    @property
    def run(self) -> str:
        """Return the name of the run in that folder."""
        return self.folder.rpartition("/")[2]

    @property
    def state(self) -> str:
        """Return open, closed or silent; a run without a verdict is never open."""
        return self.report.gate if self.report else "silent"

    @property
    def stages(self) -> str:
        """Return the stages of the run."""
        checks = self.report.checks if self.report else ()
        return ", ".join(dict.fromkeys(each.stage for each in checks))

    @property
    def wrong(self) -> tuple[str, ...]:
        """Return the ids of the checks that closed the gate."""
        checks = self.report.checks if self.report else ()
        return tuple(each.id for each in checks if each.verdict in ("fail", "could not verify"))


class GateHistory(NamedTuple):
    """A gate of a cluster: the latest run, and the earlier ones."""

    name: str
    latest: Entry
    earlier: Sequence[Entry]


def histories(entries: Iterable[Entry]) -> list[GateHistory]:
    """Return the gates by folder; a run whose time is not known counts as the latest."""
    found = []
    ordered = sorted(entries, key=lambda each: (each.place, each.run))
    for name, runs in groupby(ordered, key=lambda each: each.place):
        latest, *earlier = sorted(runs, key=_age, reverse=True)
        found.append(GateHistory(name, latest, earlier))
    return found


def _age(entry: Entry) -> tuple[bool, float, str]:
    at = _published(entry.run) or (entry.report.taken if entry.report else None)
    return at is None, at.timestamp() if at else 0.0, entry.run


def _published(run: str) -> datetime | None:
    """Return when a run was published, which the name of its folder says; None for other names."""
    try:
        return datetime.strptime(run, RUN).replace(tzinfo=UTC)
    except ValueError:
        return None


def page(entries: Sequence[Entry], made: datetime, last: int) -> str:
    """Return the HTML page.

    Args:
        entries: The runs.
        made: When the page is written, in UTC.
        last: How many runs of each gate are linked.

    Returns:
        The complete document.
    """
    return TEMPLATES.get_template("index.html.jinja").render(
        histories=histories(entries), made=made, last=last
    )
