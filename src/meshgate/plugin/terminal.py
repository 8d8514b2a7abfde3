"""What is printed: while the run reads and waits, and its result.

pytest's own lines are held back: a run of checks ends with the layout of `report/layout.py`.  They
are printed where they say more: for other tests, errors, -vv, --tb, -r and --durations.
"""

import io
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import pytest

from meshgate.report.layout import Layout
from meshgate.report.page_data import Event
from meshgate.report.text import wrapped
from meshgate.report.visible import one_line, visible

if TYPE_CHECKING:
    from meshgate.report.live import View
    from meshgate.report.run import Run
    from meshgate.verdict import Gate

_STYLES: dict[str, dict[str, bool]] = {
    "good": {"green": True, "bold": True},
    "bad": {"red": True, "bold": True},
    "warn": {"yellow": True},
    "dim": {"light": True},
    "bold": {"bold": True},
}
# for a terminal that is not in UTF-8
_ASCII = str.maketrans({"✗": "x", "✓": "+", "·": "|", "─": "-", "→": ">", "…": "."})


# what colors a line of a terminal or begins it again, and forges nothing
_HARMLESS = re.compile(r"(\A\r|\x1b\[[0-9;]*m)")


class Output:
    """A stream that can be held back; pytest prints to it as to the terminal behind it.

    Tracebacks and messages of pytest contain what the mesh said: they are made visible, too.

    Args:
        stream: standard output.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self._held: io.StringIO | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, or keep for later."""
        parts = _HARMLESS.split(text) if self.stream.isatty() else [text]
        # the odd parts are what it splits at
        shown = [visible(each) if n % 2 == 0 else each for n, each in enumerate(parts)]
        (self._held or self.stream).write("".join(shown))
        return len(text)

    def hold(self) -> None:
        """Keep what is written from now on."""
        self._held = io.StringIO()

    def release(self, *, discard: bool = False) -> None:
        """Write again; what was kept is written first, unless it is discarded."""
        held, self._held = self._held, None
        if held and not discard:
            text = held.getvalue()
            # the next line of ours begins a line
            self.stream.write(text if not text or text.endswith("\n") else f"{text}\n")
            self.stream.flush()


class Terminal:
    """The lines of a run: on a terminal they change in place, in a log each is a line.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._view: View | None = None
        self._output = Output(sys.stdout)
        self.events: list[Event] = []

    @property
    def _verbosity(self) -> int:
        return int(self._config.get_verbosity())

    @property
    def quiet(self) -> bool:
        """Return whether only the last line is requested (-q)."""
        return self._verbosity < 0

    def attach(self) -> None:
        """Let pytest's reporter, which is created after this, print to what can be held back."""
        sys.stdout = self._output

    def hold(self) -> None:
        """Hold back what pytest and its plugins print."""
        self.detach()
        if not self._pytests_own:
            self._output.hold()

    @property
    def _pytests_own(self) -> bool:
        """Return whether options request what pytest itself prints."""
        option = self._config.option
        return bool(
            self._verbosity > 1
            or option.durations
            or option.tbstyle not in ("auto", "no")
            or set(option.reportchars or "") - set("NfEw")
        )

    def detach(self) -> None:
        """Give standard output back."""
        if sys.stdout is self._output:
            sys.stdout = self._output.stream

    def release(self, *, discard: bool) -> None:
        """Print again; what was held back is printed too, or discarded."""
        self._output.release(discard=discard)

    @contextmanager
    def viewed(self, stages: Iterable[str]) -> Iterator[None]:
        """Show the progress in lines that change in place, on a terminal."""
        writer = self._config.get_terminal_writer()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty or self._verbosity != 0:
            yield
            return
        from meshgate.report.live import View  # only on a terminal

        stream = self._output.stream
        with View(stream, stages, time.monotonic, writer.fullwidth) as self._view:
            try:
                yield
            finally:
                self._view = None

    def reading(self, words: str) -> None:
        """Show what is being read."""
        self.mark(words)
        if self._view:
            self._view.reading(visible(words))
        elif not self.quiet:
            self.say(words)

    def waiting(self, waits_for: tuple[str, ...], seconds_left: float) -> None:
        """Show what the run waits for, and for how many more seconds at most."""
        self.mark(f"waiting for {waits_for[0]}")
        if self._view:
            self._view.waiting(tuple(map(visible, waits_for)), seconds_left)
            return
        more = f" and {len(waits_for) - 1} more" if len(waits_for) > 1 else ""
        if not self.quiet:
            self.say(f"waiting, at most {seconds_left:.0f} s, for {waits_for[0]}{more}")

    def mark(self, words: str) -> None:
        """Add a step to the timeline of the run."""
        self.events.append(Event(datetime.now(UTC), words))

    def result(self, run: "Run") -> None:
        """Print everything about the result except the last line."""
        if self.quiet:
            return
        for line in self._layout.lines(run):
            self._print(line)

    def last(self, line: str, gate: "Gate") -> None:
        """Print the last line; what pytest prints after it is discarded."""
        self._print(self._layout.last(line, gate))
        self._output.hold()

    def say(self, words: str) -> None:
        """Print a text, wrapped; an error of others in it begins no line."""
        for line in wrapped([one_line(words)]):
            self._print(line)

    @property
    def _layout(self) -> Layout:
        return Layout(verbose=self._verbosity > 0, paint=self._paint)

    def _paint(self, text: str, style: str) -> str:
        if not self._config.pluginmanager.hasplugin("terminalreporter"):
            return text  # the run ended before pytest created its reporter
        return str(self._config.get_terminal_writer().markup(text, **_STYLES[style]))

    def _print(self, line: str) -> None:
        if not self._config.pluginmanager.hasplugin("terminal"):
            return
        stream = self._output.stream
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            line = line.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
        stream.write(f"{line}\n")
        stream.flush()
