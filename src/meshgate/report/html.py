"""The verdict as HTML, above pytest-html's table of tests.

The template engine escapes all values; the page loads nothing from the network or other files.
"""

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from meshgate.catalogue import STAGES, Check, check, checks
from meshgate.facts.evidence import Evidence
from meshgate.facts.overview import STATES, overview
from meshgate.report.visible import visible
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import Finding, Gate, Outcome, Ruling, Verdict

TEMPLATES = Environment(
    finalize=lambda value: visible(value) if type(value) is str else value,
    loader=PackageLoader("meshgate", "report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
# no raw HTML: the pages are ours, and stay plain all the same
_MARKDOWN = MarkdownIt("commonmark", {"html": False})

WRONG = (Verdict.FAIL, Verdict.UNKNOWN)


class ShownCheck(NamedTuple):
    """One check, as the page shows it."""

    row: Check
    outcome: Outcome

    @property
    def word(self) -> str:
        return self.outcome.verdict.word

    @property
    def sentence(self) -> str:
        """Return what is wrong if the check failed, else its title."""
        failed = self.outcome.verdict is Verdict.FAIL
        return self.row.failure if failed and self.row.failure else self.row.title

    @property
    def page(self) -> Markup:
        """Return its page as markup, without the title."""
        _, _, body = self.row.text.partition("\n")
        # its sections are below the heading of the check
        rendered = _MARKDOWN.render(body).replace("h2>", "h4>")
        return Markup(rendered)  # noqa: S704  # made from our own pages

    def of(self, *, suppressed: bool) -> tuple[Finding, ...]:
        """Return its warnings that are suppressed, or those that are not."""
        return tuple(each for each in self.outcome.warnings if bool(each.suppression) is suppressed)


class Bar(NamedTuple):
    """The proxies of one version: (state, count, x, width), x and width in per cent."""

    version: str
    total: int
    parts: tuple[tuple[str, int, float, float], ...]


def summary(ruling: Ruling, snapshot: Snapshot | None) -> Iterable[str]:
    """Yield the verdict, what is wrong (failures first), and the evidence for it."""
    shown = [ShownCheck(check(each.check), each) for each in ruling.outcomes]
    selected = {each.row.stage for each in shown}
    glance = overview(Evidence(snapshot)) if snapshot else None
    known = snapshot.expectations.known_problems if snapshot else None
    seen = {
        (each.check, *finding.identity)
        for each in ruling.outcomes
        for finding in (*each.findings, *each.warnings)
    }
    yield TEMPLATES.get_template("page.html.jinja").render(
        ruling=ruling,
        is_open=ruling.gate is Gate.OPEN,
        shown=shown,
        stages=[stage for stage in STAGES if stage in selected],
        others=sorted({row.stage for row in checks().values()} - selected, key=STAGES.index),
        wrong=[each for verdict in WRONG for each in shown if each.outcome.verdict is verdict],
        warned=[each for each in shown if each.of(suppressed=False)],
        suppressed=[each for each in shown if each.of(suppressed=True)],
        spared=[each for each in shown if each.outcome.verdict is Verdict.NOT_APPLICABLE],
        snapshot=snapshot,
        compared=known is not None,
        before=snapshot.expectations.before if snapshot else None,
        new=[
            f"{each.row.id} {finding.subject}: {finding.seen}"
            for each in shown
            for finding in each.outcome.findings
        ],
        resolved=[
            f"{each.check} {each.subject}: {each.problem}"
            for each in known or ()
            if (each.check, each.subject, each.problem, tuple(sorted(each.about))) not in seen
        ],
        replicas=glance.replicas if glance else (),
        bars=[_bar(version, states) for version, states in glance.proxies.items()]
        if glance
        else [],
        states=STATES,
    )


def cell(outcome: Outcome) -> str:
    """Return the cell of pytest-html's table that names the check."""
    row = check(outcome.check)
    return f'<td class="col-testId">{escape(row.id)} {escape(row.title)}</td>'


def _bar(version: str, states: dict[str, int]) -> Bar:
    counts = [states.get(state, 0) for state in STATES]
    total = sum(counts)
    widths = [100 * count / total for count in counts]
    starts = [0.0, *accumulate(widths)]
    parts = zip(STATES, counts, starts, widths, strict=False)
    return Bar(version, total, tuple(part for part in parts if part[1]))
