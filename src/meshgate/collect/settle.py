"""Capture again until transient findings disappear or a shared deadline passes."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from meshgate.collect.capture import Source
from meshgate.deadline import Deadline
from meshgate.snapshot.model import KnownProblem, Snapshot

INTERVAL = 2.0

# Captures in a row in which every transient finding is of another object than in the one before:
# then short-lived objects come and go, and no wait ends that.
CHURN = 3


class Unsettled(msgspec.Struct, frozen=True):
    """What a capture says of the checks: `waits_for` may pass by itself, `final` never will.

    Attributes:
        reads: the items that the waiting checks need: all that has to be read again.
        sightings: the transient findings, each of one object (suppressions.sighting).
        blocked: whether a check waits for evidence, and not only for findings to pass.
    """

    waits_for: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    final: bool = False
    sightings: frozenset[KnownProblem] = frozenset()
    blocked: bool = False


class Watcher(Protocol):
    """Called with what the run waits for, and the seconds until it stops waiting."""

    def __call__(self, waits_for: tuple[str, ...], seconds_left: float) -> None: ...


def settle(
    source: Source,
    items: Iterable[str],
    judge: Callable[[Snapshot], Unsettled],
    *,
    deadline: float,
    interval: float = INTERVAL,
    watcher: Watcher = lambda waits_for, seconds_left: None,
    run_ends: Deadline | None = None,
) -> Snapshot:
    """Return evidence without transient findings, or the newest at the deadline.

    Permanent failures end the wait immediately.  The result is one capture: after waiting,
    everything is read and judged once more.  Only where the gate stays closed anyway is it the
    newest of each item.  A transient finding counts only if two captures in a row have it for the
    same object; the others are the result's `unconfirmed`.

    Args:
        source: the cluster or the recording.
        items: what to read (snapshot/items.py).
        judge: runs all checks on a capture, without reporting.
        deadline: seconds from the end of the first capture; 0 means to capture once.
        interval: seconds between two captures.
        watcher: is called with what is waited for.
        run_ends: the end of the whole run, after which nothing is waited for.

    Returns:
        The settled snapshot.
    """
    wanted = frozenset(items)
    snapshot = source.capture(wanted)
    end = time.monotonic() + deadline
    partial = False
    previous: frozenset[KnownProblem] | None = None
    churn = 0
    while source.live:
        state = judge(snapshot)
        left = min(end - time.monotonic(), run_ends.left if run_ends else math.inf)
        new = state.sightings - previous if previous is not None else frozenset()
        churns = bool(new) and new == state.sightings and not state.blocked
        churn = churn + 1 if churns else 0
        if state.final or (state.waits_for and left <= 0):
            return _with_unconfirmed(snapshot, new)
        if churn >= CHURN and not partial:
            return _with_unconfirmed(snapshot, new)
        previous = state.sightings
        if state.waits_for and churn < CHURN:
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


def _with_unconfirmed(snapshot: Snapshot, new: frozenset[KnownProblem]) -> Snapshot:
    if not new:
        return snapshot  # the same object: what was computed from it is used again
    ordered = sorted(new, key=lambda each: (each.check, each.subject, each.problem, each.about))
    return msgspec.structs.replace(snapshot, unconfirmed=tuple(ordered))
