"""The verdict on top of pytest-html's page."""

from collections.abc import Iterator
from html import escape

from meshgate.catalogue import check
from meshgate.report import text
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import Gate, Outcome, Ruling, Verdict

# pytest-html's "environment" is this machine's packages: what was looked at stands in its place
STYLE = """<style>
body { max-width: 75rem; margin: auto; padding: 1rem; line-height: 1.45 }
#environment-header, #environment { display: none }
.evidence th { text-align: left; font-weight: 600; padding-right: 1.5rem }
</style>"""


def summary(ruling: Ruling, snapshot: Snapshot | None) -> Iterator[str]:
    """The verdict, what is wrong (failures first), and what evidence that rests on."""
    yield STYLE
    colour = "#1a7f37" if ruling.gate is Gate.OPEN else "#b42318"
    yield f'<p style="font-size:1.4em;font-weight:600;color:{colour}">{escape(ruling.sentence)}</p>'
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN):
        for outcome in ruling.of(verdict):
            for line in text.outcome_lines(outcome):
                yield f"<p>{escape(line)}</p>"
    if snapshot is not None:
        rows = _evidence(snapshot).items()
        cells = (
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
        )
        yield f'<table class="evidence">{"".join(cells)}</table>'


def cell(outcome: Outcome) -> str:
    """What a row is about."""
    row = check(outcome.check)
    return f'<td class="col-testId">{escape(row.id)} {escape(row.claim)}</td>'


def _evidence(snapshot: Snapshot) -> dict[str, str]:
    """What the verdict rests on."""
    return {
        "Seen at": f"{snapshot.taken:%Y-%m-%d %H:%M:%S} UTC",
        "Seen in": snapshot.source,
        "Kubernetes": snapshot.kubernetes_version or "not reached",
        "istiod": f"{len(snapshot.istiod)} replicas were asked",
        "Pods": f"{len(snapshot.pods)}",
        "Not read": ", ".join(gap.item for gap in snapshot.gaps) or "nothing",
        "meshgate": snapshot.meshgate_version,
    }
