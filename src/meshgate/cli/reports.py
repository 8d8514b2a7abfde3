"""Commands about the reports of earlier runs: last, fetch and index."""

from pathlib import Path
from typing import Annotated

import typer

from meshgate.cli.options import CLUSTER, app, errors, say, show, with_settings
from meshgate.collect.capture import cluster
from meshgate.pipeline import reports
from meshgate.pipeline.index import index as index_all
from meshgate.report.index import histories
from meshgate.settings import Settings
from meshgate.verdict import Gate


@app.command()
@with_settings(*CLUSTER, "criteria.target_version")
def last(
    places: Annotated[list[str], typer.Argument(metavar="configmap://NAMESPACE/NAME…")],
    *,
    settings: Settings,
) -> None:
    """Print the last verdict in each place that `--report-to` named.

    Exits with 1 if a gate is closed, and with 10 if a place has no verdict, or none of the target
    version: a missing verdict never counts as open.
    """
    target = settings.criteria.target_version or ""
    codes = []
    with errors("read the reports"):
        api = cluster(settings)
        for place in places:
            found = [run for run in reports.runs(place, api) if target in ("", run.version)]
            if not found:
                of = f" for {target}" if target else ""
                show(f"{place}: NO VERDICT{of}: the gate did not run, or could not publish")
                codes.append(int(Gate.COULD_NOT_VERIFY))
                continue
            run = found[0]
            version = f" for {run.version}" if run.version else ""
            show(f"{place}: {run.at:%Y-%m-%d %H:%M} UTC{version}, run {run.name}: {run.line}")
            codes.append(min(run.exit, 1))
    raise typer.Exit(max(codes))


@app.command()
@with_settings(*CLUSTER)
def fetch(
    place: Annotated[str, typer.Argument(metavar="configmap://NAMESPACE/NAME")],
    run: Annotated[str, typer.Argument(metavar="RUN")],
    folder: Path,
    *,
    settings: Settings,
) -> None:
    """Write the JUnit, HTML, verdict and snapshot of a run that `last` names into a folder."""
    with errors("fetch"):
        reports.fetch(place, run, folder, cluster(settings))


@app.command()
def index(
    place: Annotated[str, typer.Argument(metavar="FOLDER|URL")],
    last: Annotated[int, typer.Option(help="runs of each gate that the page links to")] = 10,
) -> None:
    """Write one page, `index.html`, over all reports below a folder or a URL of fsspec.

    Exits with 1 if the latest verdict of a gate is closed, and with 10 if a gate has no verdict.
    """
    with errors("index"):
        found, page = index_all(place, last)
    latest = [each.latest for each in histories(found)]
    for entry in latest:
        words = entry.report.sentence if entry.report else entry.why
        show(f"{entry.state:6} {entry.place}: {words}")
    say(f"{len(found)} runs of {len(latest)} gates are in {page}")
    states = {each.state for each in latest}
    if "silent" in states:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))
    raise typer.Exit(int(Gate.CLOSED if "closed" in states else Gate.OPEN))
