"""istiod's own numbers, over a window: what it counted since it began is history.

Of hundreds of series only those that a claim reads are kept, and of their labels one: none of them
names a proxy.
"""

import math
import time
from collections.abc import Iterable
from functools import partial

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import Session, Transport, ask_each, refusal
from meshgate.semantics.istiod_metrics import SERIES
from meshgate.snapshot.istiod import Conflicts, IstiodMetrics
from meshgate.snapshot.kubernetes import Pod

METRICS, PUSH_STATUS = "/metrics", "/debug/push_status"


def read(pods: Iterable[Pod], transport: Transport, window: float) -> tuple[IstiodMetrics, ...]:
    """Read every replica's numbers twice, `window` seconds apart.

    Args:
        pods: istiod's replicas.
        transport: how to reach them.
        window: seconds between the two readings.

    Returns:
        The metrics of each replica.
    """
    return ask_each(pods, transport, IstiodMetrics, partial(_watch, window=window))


def _watch(pod: Pod, session: Session, window: float) -> IstiodMetrics:
    begun = time.monotonic()
    before = _numbers(session)
    time.sleep(window)
    after = _numbers(session)
    return IstiodMetrics(
        pod=pod.metadata.name,
        seconds=round(time.monotonic() - begun, 1),
        before=before,
        after=after,
        conflicts=_conflicts(session),
    )


def _numbers(session: Session) -> dict[str, float]:
    answer = session.get(METRICS)
    if answer.status != 200:
        raise refusal(METRICS, answer)
    # a type's line is not needed, and a family of no interest need not be parsed
    lines = [
        line
        for line in answer.body.decode(errors="replace").splitlines()
        if line.startswith(SERIES)
    ]
    try:
        found = {
            "|".join([sample.name, *_label(sample.labels)]): sample.value
            for family in text_string_to_metric_families("\n".join(lines) + "\n")
            for sample in family.samples
            if sample.name in SERIES
        }
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise ReadError(
            f"cannot decode {METRICS}: {error}", "is this istiod of a version that meshgate knows?"
        ) from error

    # without such a series a check would find nothing wrong
    for key, value in found.items():
        if not math.isfinite(value):
            raise ReadError(
                f"{METRICS} has the value {value} for {key.replace('|', ' ')}",
                "is this istiod of a version that meshgate knows?",
            )
    return found


def _label(labels: dict[str, str]) -> list[str]:
    return [labels[name] for name in ("type", "le") if name in labels]


def _conflicts(session: Session) -> Conflicts | None:
    answer = session.get(PUSH_STATUS)
    if answer.status != 200:
        raise refusal(PUSH_STATUS, answer)
    if not answer.body.strip():
        return None
    try:
        return msgspec.json.decode(answer.body, type=Conflicts)
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise ReadError(
            f"cannot decode {PUSH_STATUS}: {error}",
            "is this istiod of a version that meshgate knows?",
        ) from error
