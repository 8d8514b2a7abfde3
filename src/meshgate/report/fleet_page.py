"""The report over many clusters as one page, without scripts and external resources."""

from meshgate.report.fleet import CLOSING, FleetReport
from meshgate.report.html import TEMPLATES

# What the page shows of long lists; `fleet.json` has all of it.
_CHANGES, _UNKNOWN = 200, 20


def fleet_page(report: FleetReport) -> str:
    """Return the complete document."""
    return TEMPLATES.get_template("fleet.html.jinja").render(
        report=report, closing=CLOSING, changes=report.changes[:_CHANGES], most_unknown=_UNKNOWN
    )
