"""Signals: a run that is terminated ends like one that is interrupted, with its reports written."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_termination() -> Callable[[], None]:
    """Let SIGTERM raise KeyboardInterrupt, as SIGINT does; return what undoes that.

    Kubernetes sends SIGTERM when the pod is deleted or its Job has reached its deadline.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    return lambda: _restore(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM while the block runs: the verdict is written and published."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, signal.SIG_IGN) for each in ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            _restore(each, handler)


def _restore(number: signal.Signals, handler: Any) -> None:
    # None: it was not set from Python
    signal.signal(number, signal.SIG_DFL if handler is None else handler)
