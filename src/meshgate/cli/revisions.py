"""The command that lists the users of each revision, before an old one is removed."""

from typing import Annotated

import typer

from meshgate.cli.evidence import open_mesh
from meshgate.cli.options import ISTIOD, app, errors, say, show, with_settings
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.facts.mesh import Mesh
from meshgate.settings import Settings
from meshgate.snapshot.items import expand
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import CouldNotVerify, Gate

READS = frozenset(expand(("@mesh", "deployments", "istiod", "mutating_webhooks")))


@app.command()
@with_settings(*ISTIOD)
def revisions(
    place: Annotated[str, typer.Argument(metavar="[SNAPSHOT]")] = "",
    *,
    unused: Annotated[
        str, typer.Option(metavar="REVISION", help="revision that must not be in use")
    ] = "",
    settings: Settings,
) -> None:
    """List what uses each revision: pods, namespaces, tags, and proxies of other clusters and VMs.

    Reads the cluster, or a snapshot of `capture`.  With --unused, exits with 1 if something uses
    that revision, with 4 if the revision does not exist, and with 10 if that could not be verified.
    meshgate never removes a revision.
    """
    with errors("verify"):
        snapshot = _snapshot(place, settings)
    for gap in (each for each in snapshot.gaps if each.item in READS):
        say(f"could not verify: {gap.item}: {gap.why} (fix: {gap.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))
    try:
        found = Mesh(snapshot).revisions
        users, known = found.users, found.known
    except CouldNotVerify as error:
        say(f"could not verify: {error}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    for revision, names in sorted(users.items()):
        for name in names:
            show(f"{revision:12} {name}")
    if unused:
        _require_unused(unused, users.get(unused, []), known)


def _snapshot(place: str, settings: Settings) -> Snapshot:
    if place:
        return SnapshotLocation(place).load(None)
    return open_mesh(settings).capture(READS)


def _require_unused(revision: str, users: list[str], known: frozenset[str]) -> None:
    """Raise Exit unless the revision exists and has no users."""
    if revision not in known:
        say(f"revision {revision} does not exist (known: {', '.join(sorted(known)) or 'none'})")
        raise typer.Exit(4)
    if users:
        count = "1 object uses" if len(users) == 1 else f"{len(users)} objects use"
        say(f"{count} revision {revision}: do not remove it")
        raise typer.Exit(1)
    say(f"nothing uses revision {revision}")
