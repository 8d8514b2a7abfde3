"""What happened in the cluster when requests were lost."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from meshgate.snapshot.watch import Flow, Happening, Interval

AROUND = timedelta(seconds=3)  # clocks differ, and endpoints reach the proxies late
EFFECT = timedelta(seconds=15)  # until a changed object has reached the proxies
DRAINED = timedelta(seconds=75)  # until they have also drained a listener, 45 s by default
OBSERVED = "meshgate.dev/observer"  # the label of the pods of a watch
CONFIG, ISTIOD, GATEWAY, OBSERVER = "config", "istiod", "gateway", "observer"


class Cause(NamedTuple):
    """What happened at the time of a loss; `happening` is None where nothing is known."""

    happening: Happening | None
    more: int = 0

    def __str__(self) -> str:
        each = self.happening
        if each is None:
            return "while no pod was terminating and no configuration changed"
        detail = f" ({each.detail})" if each.detail else ""
        more = f" and {self.more} more" if self.more else ""
        when = "after" if each.role == CONFIG else "while"
        return f"{when} {each.subject} {each.what}{detail}{more}"


def cause(flow: Flow, loss: Interval, happenings: Iterable[Happening]) -> Cause:
    """Return the most likely cause of a loss: what happened to its server first, then the rest.

    Args:
        flow: what was sent.
        loss: when it was lost.
        happenings: what the API server reported.

    Returns:
        The cause, with the number of others of the same rank.
    """
    ranked: dict[int, list[Happening]] = {}
    for each in happenings:
        if _concerns(flow, each) and _overlaps(flow, each, loss):
            ranked.setdefault(_rank(flow, each), []).append(each)
    if not ranked:
        return Cause(None)
    first, *others = sorted(ranked[min(ranked)], key=lambda each: abs(each.at - loss.first))
    return Cause(first, len(others))


def _concerns(flow: Flow, happening: Happening) -> bool:
    """Return whether a happening can be a cause: not the start of another pod, or an observer."""
    if flow.service in happening.services:
        return True
    if happening.role == OBSERVER:
        return bool(flow.observer) and f"-{flow.observer}-" in happening.subject
    return happening.what != "was starting"


def _overlaps(flow: Flow, happening: Happening, loss: Interval) -> bool:
    if happening.role == CONFIG:
        effect = DRAINED if flow.long_lived else EFFECT
        return happening.at - AROUND <= loss.first <= happening.at + effect
    end = happening.until
    return happening.at - AROUND <= loss.last and (end is None or loss.first <= end + AROUND)


def _rank(flow: Flow, happening: Happening) -> int:
    """Return how directly a happening concerns a flow, 0 for its server's own pods."""
    if flow.service and flow.service in happening.services:
        return 0 if happening.what != "was starting" else 1
    if happening.role == OBSERVER:
        return 2
    if happening.role == CONFIG:
        namespace = happening.subject.partition(" ")[2].partition("/")[0]
        return 3 if namespace == flow.service.partition("/")[0] else 4
    return {ISTIOD: 5, GATEWAY: 6}.get(happening.role, 7)


def is_restart_of_server(flow: Flow, found: Cause) -> bool:
    """Return whether a long-lived connection ended with a pod at one of its ends."""
    each = found.happening
    return each is not None and (flow.service in each.services or each.role == OBSERVER)
