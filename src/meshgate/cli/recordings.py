"""Commands that need a snapshot: replay, diff and revisions."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from meshgate.cli.options import app, say, show
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.facts.mesh import Mesh
from meshgate.report.json import read
from meshgate.snapshot.store import UnusableSnapshot
from meshgate.verdict import CouldNotVerify, Gate


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(context: typer.Context, file: Path) -> None:
    """Run every check on a recording: `pytest --snapshot=FILE`, from the project's folder."""
    raise typer.Exit(_pytest(f"--snapshot={file.absolute()}", *context.args).returncode)


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
    with tempfile.TemporaryDirectory(prefix="meshgate-") as folder:
        file = Path(folder, "verdict.json")
        done = _pytest(
            f"--snapshot={snapshot.absolute()}",
            f"--json={file}",
            f"--junitxml={folder}/junit.xml",
            f"--html={folder}/index.html",
            capture_output=True,
        )
        if not file.exists():
            typer.echo(done.stdout + done.stderr, err=True)
            raise typer.Exit(done.returncode)
        report = read(file)
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


def _pytest(*arguments: str, capture_output: bool = False) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        check=False,
        capture_output=capture_output,
        text=True,
    )


@app.command()
def revisions(
    place: Annotated[str, typer.Argument(metavar="SNAPSHOT")],
    unused: Annotated[str, typer.Option(help="revision that must not be in use")] = "",
) -> None:
    """List the users of each revision, in a snapshot of `capture`.

    With --unused, exits with 1 if something still uses that revision: then do not remove it.
    meshgate never removes a revision.
    """
    try:
        users = Mesh(SnapshotLocation(place).load(None)).revisions.users
    except (UnusableSnapshot, ReadError, CouldNotVerify) as error:
        say(f"could not verify: {error}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    for revision, names in sorted(users.items()):
        for name in names:
            show(f"{revision:12} {name}")
    if unused and users.get(unused):
        say(f"{len(users[unused])} objects still use revision {unused}: do not remove it")
        raise typer.Exit(1)
    if unused:
        say(f"nothing uses revision {unused}")
