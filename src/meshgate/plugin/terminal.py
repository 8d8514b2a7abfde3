"""What is printed while the run reads and waits."""

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from meshgate.report.visible import visible

if TYPE_CHECKING:
    from meshgate.report.live import View

# pytest's verbosity as pytest.ini has it; with another -q only the last line is printed
USUAL = -1


class Terminal:
    """The lines of a run: on a terminal they change in place, in a log each is a line.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._view: View | None = None
        self._held: tuple[IO[str], io.StringIO] | None = None

    def hold(self) -> None:
        """Hold back what any plugin prints, if only the last line was requested with -q."""
        if self._config.get_verbosity() < USUAL and not self._config.option.collectonly:
            # pytest has no public way to redirect the terminal of all plugins
            writer = self._config.get_terminal_writer()
            self._held = writer._file, io.StringIO()
            writer._file = self._held[1]

    def release(self, *, discard: bool) -> None:
        """Print again; what was held back is printed too, or discarded."""
        if self._held:
            out, held = self._held
            self._config.get_terminal_writer()._file = out
            if not discard:
                out.write(held.getvalue())

    @contextmanager
    def viewed(self, stages: Iterable[str]) -> Iterator[None]:
        """Show the progress in lines that change in place, on a terminal."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty or self._config.get_verbosity() != USUAL:
            yield
            return
        from meshgate.report.live import View  # only on a terminal

        writer = self._config.get_terminal_writer()
        with View(writer._file, stages, time.monotonic, writer.fullwidth) as self._view:
            try:
                yield
            finally:
                self._view = None

    def reading(self, words: str) -> None:
        """Show what is being read."""
        if self._view:
            self._view.reading(visible(words))
        else:
            self.say(words)

    def waiting(self, waits_for: tuple[str, ...], seconds_left: float) -> None:
        """Show what the run waits for, and for how many more seconds at most."""
        if self._view:
            self._view.waiting(tuple(map(visible, waits_for)), seconds_left)
            return
        more = f" and {len(waits_for) - 1} more" if len(waits_for) > 1 else ""
        self.say(f"waiting, at most {seconds_left:.0f} s, for {waits_for[0]}{more}")

    def say(self, words: str) -> None:
        """Print a line."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(visible(words))
