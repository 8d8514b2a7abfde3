"""Limits in time: how fast requests are sent, and until when an answer is awaited."""

import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from meshgate.deadline import Deadline


class RequestDeadline(Deadline):
    """The deadline of everything that belongs to one request."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._seconds = seconds

    def check(self) -> float:
        """Return the seconds left; raise TimeoutError if there are none."""
        if (left := self.left) > 0:
            return left
        raise TimeoutError(f"no complete answer within {self._seconds:g} s")


class Pace:
    """Says when the next request may be sent, to several threads.

    Args:
        rate: requests a second; 0 for no limit.
        deadline: seconds after which nothing is sent any more; None for no limit.
    """

    def __init__(self, rate: float, deadline: float | None = None) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        self._end = None if deadline is None else self._next + deadline
        self._lock = threading.Lock()

    def wait(self, stopped: Callable[[float], bool] | None = None) -> bool:
        """Wait for a turn; return False if it would come after the deadline.

        Args:
            stopped: waits so many seconds, and returns True if no more turns are wanted.
        """
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        if self._end is not None and turn >= self._end:
            return False
        pause = max(0.0, turn - time.monotonic())
        if stopped is not None:
            return not stopped(pause)
        time.sleep(pause)
        return True


class TimedReader(io.RawIOBase):
    """The bytes of a connection, until a deadline: `socket` has a time limit for each read only."""

    def __init__(self, connection: socket.socket, deadline: RequestDeadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there; raise TimeoutError after the deadline."""
        self._connection.settimeout(self._deadline.check())
        try:
            return self._connection.recv_into(buffer)
        except TimeoutError:
            self._deadline.check()
            raise


class TimedConnection:
    """As much of a socket as http.client needs, with one deadline for all of it."""

    def __init__(self, connection: socket.socket, deadline: RequestDeadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send everything; raise TimeoutError after the deadline."""
        self._connection.settimeout(self._deadline.check())
        self._connection.sendall(data)

    def makefile(self, mode: str = "rb", *_: Any) -> io.BufferedReader:
        """Return the reader of the answer."""
        return io.BufferedReader(TimedReader(self._connection, self._deadline))

    def close(self) -> None:
        """Leave the connection open: its owner closes it."""
