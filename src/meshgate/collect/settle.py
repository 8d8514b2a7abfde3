"""Looking again until what is transient has passed, or one shared deadline has."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from meshgate.collect.capture import Source
from meshgate.snapshot.model import Snapshot

INTERVAL = 2.0


class Unsettled(msgspec.Struct, frozen=True):
    """What the evidence says of the claims: `waits_for` may pass by itself, `final` never will.

    `reads`: the items that the waiting claims rest on, all that needs to be read again.
    """

    waits_for: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    final: bool = False


class Watcher(Protocol):
    """Is told what is being waited for, and for how many seconds more at the most."""

    def __call__(self, waits_for: tuple[str, ...], seconds_left: float) -> None: ...


def settle(
    source: Source,
    items: Iterable[str],
    judge: Callable[[Snapshot], Unsettled],
    *,
    deadline: float,
    interval: float = INTERVAL,
    watcher: Watcher = lambda waits_for, seconds_left: None,
) -> Snapshot:
    """Evidence on which nothing is transient any more, or that is as old as the deadline allows.

    It ends at once when something is wrong that no waiting mends.  What the claims are judged by
    is one capture: after waiting, everything is read once more, and judged once more.  Only where
    the gate is closed anyway, by what is final or still waited for, is it the newest of each item.

    Args:
        items: what to read (snapshot/items.py).
        judge: takes all claims on a capture, without reporting.
        deadline: seconds from the end of the first look; 0 means to look once.
        interval: seconds between two looks.
    """
    wanted = frozenset(items)
    snapshot = source.capture(wanted)
    end = time.monotonic() + deadline
    partial = False
    while source.live:
        state = judge(snapshot)
        left = end - time.monotonic()
        if state.final or (state.waits_for and left <= 0):
            return snapshot
        if state.waits_for:
            watcher(state.waits_for, left)
            time.sleep(min(interval, left))
            snapshot = source.capture(wanted, snapshot, state.reads)
            partial = True
        elif partial:
            snapshot = source.capture(wanted, snapshot, wanted)
            partial = False
        else:
            return snapshot
    return snapshot
