"""A command imports only what it needs: the start of each gate waits for it."""

from importlib import import_module

from meshgate.cli import app
from meshgate.cli.commands import MODULES
from tests.conftest import ROOT, Gate

PROGRAM = """
import sys
from meshgate.cli import app
try:
    app()
finally:
    print("loaded", *sorted(sys.modules))
"""


def test_each_module_has_the_commands_that_the_table_says() -> None:
    registered: dict[str, str] = {}
    for module in MODULES:
        import_module(f"meshgate.cli.{module}")
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        registered[name] = command.callback.__module__.rpartition(".")[2]
    for group in app.registered_groups:
        assert group.name is not None
        registered[group.name] = group.name

    assert registered == {name: module for module, names in MODULES.items() for name in names}


def test_the_help_lists_every_command(started: Gate) -> None:
    run = started("-c", "from meshgate.cli import app; app()", "--help", cwd=ROOT)

    assert run.code == 0, run.out
    listed = {line.split()[0] for line in run.out.partition("Commands:")[2].splitlines() if line}
    assert listed >= {name for names in MODULES.values() for name in names}


def test_a_similar_command_is_suggested(started: Gate) -> None:
    run = started("-c", "from meshgate.cli import app; app()", "replya", cwd=ROOT)

    assert run.code == 4, run.out
    assert "Did you mean 'replay'" in run.out


def test_the_start_of_a_gate_imports_no_facts_and_no_reports(started: Gate) -> None:
    for words in (["--version"], ["verify", "--help"]):
        run = started("-c", PROGRAM, *words, cwd=ROOT)

        (loaded,) = [line.split() for line in run.lines if line.startswith("loaded ")]
        heavy = ("meshgate.facts", "meshgate.pipeline", "cryptography", "jinja2", "markdown_it")
        assert [each for each in loaded if each.startswith(heavy)] == [], words
