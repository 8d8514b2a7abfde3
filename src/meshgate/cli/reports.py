"""Commands about reports: last, commit-status, fetch, index and comment."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from meshgate.cli.options import CLUSTER, app, errors, say, show, with_settings
from meshgate.collect.capture import cluster
from meshgate.pipeline import reports
from meshgate.pipeline.commit_status import commit_status
from meshgate.pipeline.index import index as index_all
from meshgate.report.fleet import FleetReport
from meshgate.report.index import histories
from meshgate.settings import Settings, flag
from meshgate.verdict import Gate

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _duration(text: str) -> timedelta:
    """Return a duration such as `30m`, `24h` or `7d`."""
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a duration: use 30m, 24h or 7d")
    return int(found[1]) * UNITS[found[2]]


def _words(left: timedelta) -> str:
    minutes = -(-int(left.total_seconds()) // 60)  # rounded up: never 0
    return f"{minutes // 60} h {minutes % 60} min"


@app.command()
@with_settings(*CLUSTER, "criteria.target_version")
def last(
    places: Annotated[list[str], typer.Argument(metavar="configmap://NAMESPACE/NAME…")],
    *,
    at_least: Annotated[
        timedelta | None,
        typer.Option(
            metavar="DURATION",
            parser=_duration,
            help="time for which each gate must have been open without interruption (24h)",
        ),
    ] = None,
    settings: Settings,
) -> None:
    """Print the last verdict in each place that `{reports.report_to}` named.

    Exits with 1 if a gate is closed, and with 10 if a place has no verdict, or none of the target
    version: a missing verdict never counts as open.  With --at-least it also exits with 1 before a
    soak period has ended: until then a gate has not been open for so long.  The first open verdict
    of that period must still be stored ({reports.keep_reports}).
    """
    target = settings.criteria.target_version or ""
    codes = []
    with errors("read the reports"):
        api = cluster(settings)
        for place in places:
            found = _runs(place, api, target)
            if not found:
                of = f" for {target}" if target else ""
                show(f"{place}: NO VERDICT{of}: the gate did not run, or could not publish")
                codes.append(int(Gate.COULD_NOT_VERIFY))
                continue
            run = found[0]
            version = f" for {run.version}" if run.version else ""
            show(f"{place}: {run.at:%Y-%m-%d %H:%M} UTC{version}, run {run.name}: {run.line}")
            codes.append(min(run.exit, 1))
            if at_least is not None and run.exit == Gate.OPEN:
                since = list(takewhile(lambda each: each.exit == Gate.OPEN, found))[-1].at
                left = at_least - (datetime.now(UTC) - since)
                if left > timedelta():
                    show(f"{place}: open since {since:%Y-%m-%d %H:%M} UTC: {_words(left)} left")
                    codes.append(int(Gate.CLOSED))
    raise typer.Exit(max(codes))


def _runs(place: str, api: "Cluster | None", target: str) -> list[reports.Run]:
    """Return the runs of a place, the latest first; with a target, those of that version.

    A run without a version is closed: it ended before its options were known, and may be of any.
    """
    found = reports.runs(place, api)
    return [run for run in found if target in ("", run.version) or (run.exit and not run.version)]


def _fleet(file: str, target: str) -> reports.Run | None:
    """Return the verdict of a fleet as a run; None if it is of another target."""
    found = msgspec.json.decode(Path(file).read_bytes(), type=FleetReport)
    if found.target != target:
        return None
    return reports.Run(
        name="fleet",
        at=found.made,
        version=found.target,
        exit=found.exit,
        line=found.sentence,
        stages={},
    )


@app.command(name="commit-status")
@with_settings(*CLUSTER, "criteria.target_version")
def print_commit_status(
    places: Annotated[list[str], typer.Argument(metavar="configmap://NAMESPACE/NAME|FLEET.json…")],
    *,
    sha: Annotated[str, typer.Option(help="the hydrated commit", metavar="SHA")],
    repository: Annotated[str, typer.Option(help="name of the GitRepository", metavar="NAME")],
    key: Annotated[str, typer.Option(help="the key of the commit status")] = "meshgate",
    url: Annotated[str, typer.Option(help="a page with the reports", metavar="URL")] = "",
    settings: Settings,
) -> None:
    """Print the last verdicts as a CommitStatus of GitOps Promoter, for `kubectl apply -f -`.

    A place may be the report of `meshgate fleet --json`, for a proposed commit.
    Its phase is success only if every place has a verdict of the target version that is open,
    failure if a check failed, and pending if something could not be verified.
    """
    target = settings.criteria.target_version or ""
    if not target:
        raise typer.BadParameter(f"{flag('criteria.target_version', 'X.Y.Z')} is required")
    with errors("read the reports"):
        stored = [place for place in places if not Path(place).is_file()]
        api = cluster(settings) if stored else None
        runs = {
            place: next(iter(_runs(place, api, target)), None)
            if place in stored
            else _fleet(place, target)
            for place in places
        }
        found = commit_status(runs, sha, repository, key=key, url=url)
    show(json.dumps(found, indent=1))


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


@app.command()
def comment(
    file: Annotated[Path, typer.Argument(metavar="MARKDOWN")],
    number: Annotated[int | None, typer.Option(help="number of the pull request")] = None,
) -> None:
    """Write the comment of `meshgate fleet --markdown` to the pull request, once.

    In a job of GitHub or GitLab.  A comment of an earlier run is replaced.  Needs GITHUB_TOKEN with
    the right to write to pull requests, or MESHGATE_GITLAB_TOKEN with the scope api.
    """
    # here, as no other command needs its HTTP client
    from meshgate.pipeline import pull_request

    with errors("comment"):
        done = pull_request.publish(
            pull_request.forge(os.environ, number), file.read_text(encoding="utf-8")
        )
    say(f"the comment was {done}")
