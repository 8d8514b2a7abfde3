"""The settings as options of pytest and of the commands."""

from collections.abc import Callable
from pathlib import Path

import typer
from typer.core import TyperGroup

from meshgate.cli import app
from meshgate.settings import TOPICS, definitions
from meshgate.snapshot.model import Snapshot
from tests.conftest import ROOT, Gate
from tests.support.builders import snapshot

Recorded = Callable[[Snapshot], Path]


def test_an_option_has_one_name_in_both_programs() -> None:
    known = {each.flag for topic in TOPICS.values() for each in definitions(topic)}
    former = {
        name
        for topic in TOPICS.values()
        for each in definitions(topic)
        for name in (*each.aliases, *each.command_aliases)
    }
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)

    context = typer.Context(group)
    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    assert len(commands) > 10
    for command in commands:
        assert command is not None
        for parameter in command.params:
            if parameter.name and "_" in parameter.name and parameter.name.split("_")[0] in TOPICS:
                assert set(parameter.opts) <= (former if parameter.hidden else known)  # type: ignore[attr-defined]


def test_a_file_beside_pytest_ini_sets_options(
    gate: Gate, recorded: Recorded, tmp_path: Path
) -> None:
    file = recorded(snapshot())
    settings = tmp_path / "mine.toml"
    settings.write_text('[criteria]\ntarget-version = "1.30"\n')

    run = gate(f"--snapshot={file}", f"--settings={settings}", "--check=CP001")
    overridden = gate(
        f"--snapshot={file}", f"--settings={settings}", "--target-version=1.29", "--check=CP001"
    )

    assert (run.code, overridden.code) == (1, 0), run.out + overridden.out
    assert "expected 1.30" in run.out


def test_a_settings_file_with_a_mistake_ends_the_run(gate: Gate, tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text("[run]\nsettel = 1\n")

    run = gate(f"--settings={settings}")

    assert run.code == 4, run.out
    assert "has no setting 'settel'" in run.out


def test_one_directory_gets_all_reports(started: Gate, recorded: Recorded, tmp_path: Path) -> None:
    folder = tmp_path / "deeper/reports"
    words = (f"--snapshot={recorded(snapshot())}", f"--reports={folder}", "--check=CP001")

    started("-m", "pytest", *words, cwd=ROOT)

    assert {each.name for each in folder.iterdir()} == {"index.html", "junit.xml", "verdict.json"}


def test_a_directory_that_cannot_be_made_ends_the_run(
    gate: Gate, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()

    run = gate(f"--snapshot={recorded(snapshot())}", f"--reports={tmp_path}/a-file/reports")

    assert run.code == 4, run.out
    assert "cannot write the report" in run.out
