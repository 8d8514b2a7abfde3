"""The progress of a run on a terminal: lines that change in place and disappear at the end.

Without a terminal (a Job's log) plain lines are printed instead and this is not loaded.
"""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text


class View:
    """The stages, what is being read, what is being waited for and for how much longer.

    Args:
        out: a terminal.
        stages: of which claims are taken.
        clock: seconds, to count down by.
    """

    def __init__(
        self, out: IO[str], stages: Iterable[str], clock: Callable[[], float], width: int
    ) -> None:
        self._clock = clock
        self._head = Spinner("dots", _line(f"stage {', '.join(stages)}"))
        self._reading = ""
        self._waits_for: tuple[str, ...] = ()
        self._until = 0.0
        self._live = Live(
            self,
            console=Console(file=out, width=width, highlight=False),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "View":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __rich_console__(self, *_: object) -> Iterator[Spinner | Text]:
        yield self._head
        if self._reading:
            yield _line(f"  {self._reading}")
        if self._waits_for:
            left = max(self._until - self._clock(), 0)
            more = f" and {len(self._waits_for) - 1} more" if len(self._waits_for) > 1 else ""
            yield _line(f"  waiting, {left:.0f} s at the most{more}, for {self._waits_for[0]}")

    def reading(self, words: str) -> None:
        """Return what is being read now."""
        self._reading = words

    def waiting(self, waits_for: tuple[str, ...], seconds_left: float) -> None:
        """Return what is being waited for, and for how many seconds more at the most."""
        self._waits_for, self._until = waits_for, self._clock() + seconds_left


def _line(words: str) -> Text:
    """One line, cut at the terminal's width."""
    printable = "".join(each if each.isprintable() else " " for each in words)
    return Text(printable, no_wrap=True, overflow="ellipsis")
