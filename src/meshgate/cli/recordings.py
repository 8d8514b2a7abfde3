"""The command that compares two snapshots: diff."""

import subprocess
import tempfile
from pathlib import Path

import typer

from meshgate.cli.options import app, show
from meshgate.cli.pytest_command import command, environment
from meshgate.report.json import read


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


def _pytest(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(list(arguments)), env=environment(), check=False, capture_output=True, text=True
    )
