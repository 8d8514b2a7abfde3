"""Signals: a run that is terminated ends like one that is interrupted, with its reports written."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

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

    def undo() -> None:
        if signal.getsignal(signal.SIGTERM) is interrupt:
            # None: it was not set from Python
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    return undo


def ignore_interrupts() -> None:
    """Ignore SIGINT and SIGTERM until the process ends.

    The verdict is written, published and printed next.  A signal after that would change the exit
    code only, and the reports would say something else.
    """
    if threading.current_thread() is threading.main_thread():
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
