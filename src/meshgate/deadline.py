"""Bounded waits: a point in time that several steps share, and calls that may hang.

All threads here are daemons: one that hangs never delays the end of the process, which
`concurrent.futures` would wait for.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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

    def expire(self) -> None:
        """Let it pass now: everything that shares it stops waiting."""
        self._end = -math.inf

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


def concurrently(call: Callable[[T], R], values: Iterable[T], workers: int) -> list[R]:
    """Return what `call` returns for each value, in their order, several at a time.

    Args:
        call: is called once for each value; after one call has raised, no further one starts.
        values: are read before the first call.
        workers: how many calls run at the same time.

    Returns:
        One result for each value.

    Raises:
        BaseException: what a call raised; of several calls, the first by position.
    """
    given = list(values)
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}
    positions: SimpleQueue[int] = SimpleQueue()
    for position in range(len(given)):
        positions.put(position)

    def work() -> None:
        while not errors:
            try:
                position = positions.get_nowait()
            except Empty:
                return
            try:
                results[position] = call(given[position])
            except BaseException as error:
                errors[position] = error

    threads = [
        threading.Thread(target=work, name=f"worker {number}", daemon=True)
        for number in range(min(workers, len(given)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[position] for position in range(len(given))]
