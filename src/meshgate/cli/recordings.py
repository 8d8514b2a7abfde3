"""Commands about snapshots: record, recordings and diff."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshgate.catalogue import checks
from meshgate.cli.evidence import open_mesh
from meshgate.cli.options import CLUSTER, ISTIOD, app, errors, say, show, with_settings
from meshgate.cli.pytest_command import NoVerdict, judge
from meshgate.collect.capture import cluster
from meshgate.pipeline.recordings import Connect, keep, open_place
from meshgate.settings import Settings
from meshgate.snapshot.items import OFFLINE_BUNDLE, SHADOW
from meshgate.verdict import Gate

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

Place = Annotated[str, typer.Argument(metavar="FOLDER|URL|configmap://NAMESPACE/NAME")]


def connect(settings: Settings) -> Connect:
    """Return what connects to the cluster of a context; without one, to that of the settings."""

    def connected(context: str) -> "Cluster":
        access = replace(settings.access, context=context or settings.access.context)
        return cluster(replace(settings, access=access))

    return connected


@app.command()
@with_settings(*ISTIOD, "access.cluster_name", "access.istioctl", "access.window")
def record(
    place: Place,
    *,
    keep_last: Annotated[
        int, typer.Option("--keep", min=1, help="recordings of this cluster that are kept")
    ] = 7,
    settings: Settings,
) -> None:
    """Record the cluster for `meshgate fleet`, and delete its older recordings.

    A recording contains what stage A reads and what the simulation of an upgrade needs, redacted,
    with a digest.  What could not be read is printed and stored with it, and the exit code is then
    10.
    """
    reads = {item for row in checks().values() if row.stage == "precheck" for item in row.reads}
    with errors("record"):
        source = open_mesh(settings)
        stored = open_place(place, connect(settings))
        head = keep(stored, source.capture((reads | {OFFLINE_BUNDLE}) - {SHADOW}), keep_last)
    for gap in head.gaps:
        say(f"could not read {gap}")
    say(f"stored the recording {head.cluster}/{head.name} ({head.size} bytes, {head.sha256[:12]})")
    if head.gaps:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


@app.command()
@with_settings(*CLUSTER)
def recordings(place: Place, *, settings: Settings) -> None:
    """List the recordings in a place: cluster, versions of istiod, age and gaps."""
    now = datetime.now(UTC)
    with errors("list the recordings"):
        heads = open_place(place, connect(settings)).heads()
    for each in sorted(heads, key=lambda each: (each.cluster, each.taken)):
        proxies = "no simulation" if each.proxies is None else f"{each.proxies} proxies"
        hours = each.age(now).total_seconds() / 3600
        show(
            f"{each.cluster}/{each.name}  istiod {each.versions or 'unknown'} "
            f"({each.revisions or 'no revision'}), {proxies}, {hours:.1f} h old, "
            f"{len(each.gaps)} gaps, sha256 {each.sha256[:12]}"
        )
    if not heads:
        say(f"there are no recordings in {place}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


@app.command()
def diff(before: Path, after: Path) -> None:
    """Compare two snapshots: new findings, findings that both have, and resolved ones."""
    then, now = _offenders(before), _offenders(after)
    for title, keys, words in (
        ("new", now.keys() - then.keys(), now),
        ("still", now.keys() & then.keys(), now),
        ("gone", then.keys() - now.keys(), then),
    ):
        for each in sorted(keys):
            show(f"{title:5} {words[each]}")
    if then.keys() == now.keys():
        show("no new findings, none resolved")


def _offenders(snapshot: Path) -> dict[str, str]:
    """Return every finding of a snapshot by its key, and every UNKNOWN by its check."""
    try:
        report = judge(snapshot)
    except NoVerdict as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.code) from error
    found = {
        offender.key: f"{row.id} {offender.subject}: {offender.seen}"
        for row in report.checks
        for offender in row.findings
    }
    unknown = {
        row.id: f"{row.id} could not be verified: {row.why}"
        for row in report.checks
        if row.verdict == "could not verify"
    }
    return found | unknown
