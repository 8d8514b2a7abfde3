"""What one flow of requests has shown so far: counts by latency and time, and losses.

Single requests are not kept, so the size does not depend on how long a watch lasts.
"""

import bisect
import threading
from datetime import UTC, datetime
from typing import Any

BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds
WIDTH = 60  # seconds of a bucket, at first
BUCKETS = 120  # of a flow; beyond that two become one
INTERVALS = 100  # of losses, and as many of slow answers
TOGETHER = 3.0  # seconds between two losses of one interval
WORDS = 160  # characters of a reason


class Intervals:
    """Times at which something happened, with the reason: neighbors are kept as one."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, float, int, str]] = []
        self.more = 0

    def add(self, at: float, why: str) -> None:
        """Add one time, in seconds since the epoch."""
        why = " ".join(why.split())[:WORDS]
        for number in range(len(self._kept) - 1, max(-1, len(self._kept) - 5), -1):
            first, last, count, same = self._kept[number]
            if same == why and at - last <= TOGETHER:
                self._kept[number] = (min(first, at), max(last, at), count + 1, why)
                return
        if len(self._kept) < INTERVALS:
            self._kept.append((at, at, 1, why))
        else:
            self.more += 1

    def as_data(self) -> list[dict[str, Any]]:
        """Return them as JSON data."""
        return [
            {"first": iso(first), "last": iso(last), "count": count, "why": why}
            for first, last, count, why in self._kept
        ]


class Flow:
    """The results of one request that is sent again and again.

    What fails before the first success is not a loss: it never worked.
    """

    def __init__(self, slow_after: int) -> None:
        self._slow_after = slow_after
        self._lock = threading.Lock()
        self._lost, self._slow = Intervals(), Intervals()
        self._sent = 0
        self._width = WIDTH
        self._buckets: dict[int, list[int]] = {}
        self._failing = ""
        self._answered: float | None = None
        self._caller: str | None = None

    def note(
        self, at: float, milliseconds: float, why: str = "", caller: str | None = None
    ) -> None:
        """Add one result.

        Args:
            at: when it began, in seconds since the epoch.
            milliseconds: how long it took.
            why: what is wrong with it; empty for a success.
            caller: the identity that the called peer saw.
        """
        with self._lock:
            self._failing = why
            if self._answered is None and why:
                return
            self._sent += 1
            if why:
                self._lost.add(at, why)
                return
            self._answered = at
            self._caller = self._caller if caller is None else caller
            self._count(at, milliseconds)
            if milliseconds > self._slow_after:
                self._slow.add(at, f"slower than {self._slow_after} ms")

    def interrupted(self, at: float, why: str) -> None:
        """Add an interruption of a connection that was opened successfully."""
        with self._lock:
            self._failing = why
            self._lost.add(at, why)

    def unopened(self, why: str) -> None:
        """Note that a connection that is kept open could not be opened: that loses nothing more."""
        with self._lock:
            self._failing = why

    def _count(self, at: float, milliseconds: float) -> None:
        counts = self._buckets.setdefault(int(at) // self._width, [0] * (len(BOUNDS) + 1))
        counts[bisect.bisect_left(BOUNDS, milliseconds)] += 1
        if len(self._buckets) > BUCKETS:
            self._width *= 2
            halved: dict[int, list[int]] = {}
            for key, each in self._buckets.items():
                known = halved.setdefault(key // 2, [0] * len(each))
                halved[key // 2] = [a + b for a, b in zip(known, each, strict=True)]
            self._buckets = halved

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data (snapshot/watch.py: Flow)."""
        with self._lock:
            data: dict[str, Any] = {
                "sent": self._sent,
                "lost": self._lost.as_data(),
                "moreLost": self._lost.more,
                "slow": self._slow.as_data(),
                "moreSlow": self._slow.more,
                "failing": " ".join(self._failing.split())[:WORDS],
                "width": self._width,
                "buckets": [
                    {"at": iso(key * self._width), "counts": _trimmed(counts)}
                    for key, counts in sorted(self._buckets.items())
                ],
            }
            if self._answered is not None:
                data["answered"] = iso(self._answered)
            if self._caller is not None:
                data["caller"] = self._caller
            return data


def _trimmed(counts: list[int]) -> list[int]:
    used = max((number for number, count in enumerate(counts) if count), default=-1)
    return counts[: used + 1]


def iso(at: float) -> str:
    """Return a time in seconds since the epoch as RFC 3339, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
