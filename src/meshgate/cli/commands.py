"""The group of commands: it imports the module of a command only when that command runs.

All modules together take three times as long to import as most commands need.  The docstring of a
command is its help; it names the option of a setting as `{topic.field}`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from meshgate.report.visible import visible

# pytest's code for wrong usage; click's own, 2, is pytest's code for an interrupted run
USAGE_ERROR = 4
_CLICK_USAGE_ERROR = 2

# module: its commands, in the order of the help
MODULES = {
    "gates": ("verify", "demo", "replay"),
    "attestations": ("attest",),
    "evidence": ("capture", "shadow"),
    "watch": ("watch",),
    "recordings": ("record", "recordings", "diff"),
    "fleet": ("fleet",),
    "init": ("init",),
    "pairs": ("pairs",),
    "reference": ("list", "explain", "schema", "rbac"),
    "reports": ("last", "commit-status", "fetch", "index", "comment"),
    "revisions": ("revisions",),
    "rollout": ("restart",),
}
_UsageError: Any = typer.BadParameter.__base__  # click's, or typer's own copy of it
_MODULE_OF = {command: module for module, commands in MODULES.items() for command in commands}


class Commands(TyperGroup):
    """The commands; wrong usage ends them with the exit code that it has in a gate."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Run a command."""
        try:
            return super().main(*args, **more)
        except SystemExit as end:
            raise SystemExit(USAGE_ERROR if end.code == _CLICK_USAGE_ERROR else end.code) from end

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Parse the options before the command."""
        with _redacted_errors():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of the command, and run it."""
        with _redacted_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the name of every command, from the table."""
        return list(_MODULE_OF)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, after the import of its module; None if there is no such command."""
        if cmd_name not in _MODULE_OF:
            return None
        if cmd_name not in self.commands:
            import_module(f"meshgate.cli.{_MODULE_OF[cmd_name]}")
            from meshgate.cli.options import app
            from meshgate.settings import with_flags

            self.commands.update(typer.main.get_group(app).commands)
            for command in self.commands.values():
                command.help = with_flags(command.help or "")
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name; an error suggests one with a similar name."""
        if args and args[0] not in _MODULE_OF:
            for name in _MODULE_OF:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


@contextmanager
def _redacted_errors() -> Iterator[None]:
    """Redact the value of an option in the message that it is wrong: it may be a credential."""
    try:
        yield
    except _UsageError as error:
        error.message = visible(error.message)
        raise
