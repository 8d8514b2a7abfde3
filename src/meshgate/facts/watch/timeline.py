"""The steps of an upgrade, as a watch saw them: rollouts, changed configuration and losses."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from meshgate.semantics.losses import CONFIG, OBSERVER
from meshgate.snapshot.watch import Flow, Happening, Watch

APART = timedelta(seconds=60)  # between two rollouts of one workload
MOST = 200


class Step(NamedTuple):
    """A step: `lost` if requests were lost."""

    at: datetime
    until: datetime
    words: str
    lost: bool = False


def timeline(watch: Watch) -> list[Step]:
    """Return the steps in the order of their begins, at most MOST of them."""
    steps = [
        Step(watch.began, watch.began, "the watch began"),
        *_observers(watch),
        *_rollouts(each for each in watch.happenings if each.role not in (CONFIG, OBSERVER)),
        *(
            Step(each.at, each.at, f"{each.subject} {each.what}")
            for each in watch.happenings
            if each.role == CONFIG
        ),
        *(step for flow in watch.flows for step in _losses(flow)),
        Step(watch.last, watch.last, watch.words),
    ]
    return sorted(steps, key=lambda each: each.at)[:MOST]


def _observers(watch: Watch) -> Iterator[Step]:
    for each in watch.observers:
        if each.created:
            words = f"a pod with proxy {each.proxy} began to send requests"
            yield Step(each.created, each.created, words)


def _rollouts(happenings: Iterable[Happening]) -> Iterator[Step]:
    """Yield one step for neighboring happenings of the pods of one workload."""
    open_steps: dict[str, Step] = {}
    for each in sorted(happenings, key=lambda each: each.at):
        name = each.workload or each.subject
        until = each.until or each.at
        known = open_steps.get(name)
        if known and each.at - known.until <= APART:
            open_steps[name] = known._replace(until=max(known.until, until))
            continue
        if known:
            yield known
        open_steps[name] = Step(each.at, until, f"pods of {name} were replaced")
    yield from open_steps.values()


def _losses(flow: Flow) -> Iterator[Step]:
    noun = "interruptions of" if flow.long_lived else "requests lost:"
    for each in flow.lost:
        words = f"{each.count} {noun} {flow.target} ({each.why})"
        yield Step(each.first, each.last, words, lost=True)
