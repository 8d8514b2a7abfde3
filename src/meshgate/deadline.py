"""One way to bound a wait: a point in time that several steps share, and a call that may hang."""

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """A point in time; without seconds it never passes.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until it passes: 0 after that, infinity where it never does."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left == 0

    def within(self, seconds: float) -> "Deadline":
        """Return the earlier of this deadline and one `seconds` from now."""
        return Deadline(min(seconds, self.left))


def bounded(call: Callable[[], T], seconds: float, name: str = "call") -> T:
    """Return what `call` returns; raise TimeoutError if that takes longer than `seconds`.

    The call runs in a thread.  One that is late is abandoned, and never delays the end of the
    process; what it holds open must end by itself.

    Args:
        call: the call to run.
        seconds: its time limit.
        name: what it does, for the error.

    Returns:
        The result of the call.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.3g} s")
    return results[0]
