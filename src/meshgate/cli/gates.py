"""Commands that give a verdict: verify, demo and replay.  pytest runs underneath."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from meshgate.catalogue import STAGES
from meshgate.cli.commands import USAGE_ERROR
from meshgate.cli.options import app, say, with_words
from meshgate.cli.pytest_command import command, environment
from meshgate.settings import flag


@app.command()
@with_words()
def verify(
    *,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="|".join(STAGES), help="only this stage; may be repeated"),
    ] = None,
    words: list[str],
) -> None:
    """Verify the mesh: run the checks of the stages, write the reports, and exit as the gate.

    Runs pytest with the built-in checks and those of {run.checks}.  The exit code is 0 if the
    gate is open, 1 if a check failed, 10 if a check could not be verified, and 4 for wrong usage.
    """
    if unknown := [each for each in stage or () if each not in STAGES]:
        say(f"--stage: {unknown[0]!r} is not one of {', '.join(STAGES)}")
        raise typer.Exit(USAGE_ERROR)
    markers = ["-m", " or ".join(stage)] if stage else []
    _become([*markers, *words])


@app.command()
@with_words("reports.reports", "run.checks", "run.only", "run.skip")
def demo(
    *,
    broken: Annotated[
        bool, typer.Option("--broken", help="a mesh in which an upgrade went wrong")
    ] = False,
    words: list[str],
) -> None:
    """Verify a recorded mesh; no cluster is contacted.

    With --broken the gate closes, with exit code 1.
    """
    from meshgate import project

    say(
        "a recording of a mesh in which an upgrade went wrong: the gate closes (exit 1)"
        if broken
        else "a recording of a healthy mesh after an upgrade: the gate opens (exit 0)"
    )
    _become([flag("run.snapshot", project.demo("broken" if broken else "healthy")), *words])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(
    context: typer.Context,
    file: Path,
    *,
    expected: Annotated[
        Path | None,
        typer.Option(
            "--verify",
            metavar="FILE",
            help="prove that the verdict is that of this verdict.json, or with --key of this "
            "signed attestation",
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="public key of the attestation (PEM)")] = None,
) -> None:
    """Run every check on a recording, as `verify {run.snapshot=FILE}`.

    pytest's options are allowed.  With --verify, exits with 0 if the same bytes give the same
    verdict, and with 1 if not.
    """
    if expected:
        from meshgate.cli.attestations import verify_replay

        verify_replay(file, expected, key, context.args)
        return
    _become([flag("run.snapshot", file.absolute()), *context.args])


def _become(words: list[str]) -> NoReturn:
    """Replace this process by pytest: signals and the terminal reach it without a detour."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command(words), environment())  # noqa: S606  # our own Python
