"""A slow, steady stream of requests through the gateways, and which of them failed."""

import itertools
import threading
import time
from collections.abc import Sequence

import msgspec

from meshgate.probe.client import Client, Planned
from meshgate.probe.observer import evidence
from meshgate.probe.pace import Pace
from meshgate.probe.traffic import Traffic
from meshgate.snapshot.ingress import Exchange
from meshgate.snapshot.watch import Flow

WORKERS = 8


def watched(planned: Sequence[Planned]) -> list[Planned]:
    """Return the requests that a backend answers: only those show that a rollout loses some."""
    return [
        each
        for each in planned
        if each.request.kind == "request"
        and each.request.route
        and not (each.request.expected or each.request.declared)
    ]


class Stream:
    """Sends the same requests again and again until it is stopped.

    Args:
        planned: what is sent, in turn.
        traffic: its rate is in requests a second, over all of them; its deadline ends the watch.
        slow_after: milliseconds from which on an answer counts as slow.
    """

    def __init__(self, planned: Sequence[Planned], traffic: Traffic, slow_after: int) -> None:
        self._planned = planned
        self._traffic = traffic
        self._client = Client(traffic)
        self._lock = threading.Lock()
        self._seen = [evidence.Flow(slow_after) for _ in planned]
        self._defects: list[BaseException] = []
        self.stop = threading.Event()

    @property
    def flows(self) -> tuple[Flow, ...]:
        """What was seen so far; raise what a worker raised, which is a defect."""
        if self._defects:
            raise self._defects[0]
        return tuple(
            flow(
                seen.as_data(),
                subject=each.request.gateway,
                target=each.request.words,
                kind="gateway",
                service=each.request.service.partition(" ")[2],
            )
            for each, seen in zip(self._planned, self._seen, strict=True)
        )

    def start(self) -> None:
        """Start sending, in threads that never delay the end of the process."""
        pace = Pace(self._traffic.rate, self._traffic.deadline)
        turns = itertools.cycle(range(len(self._planned)))

        def work() -> None:
            try:
                while not self.stop.is_set() and pace.wait(self.stop.wait):
                    with self._lock:
                        number = next(turns)
                    at = time.time()
                    got = self._client.send(self._planned[number])
                    self._seen[number].note(at, got.milliseconds, problem(got))
            except BaseException as error:
                self._defects.append(error)

        for _ in range(WORKERS if self._planned else 0):
            threading.Thread(target=work, daemon=True).start()


def flow(data: dict[str, object], **more: object) -> Flow:
    """Return the evidence of a flow (observer/evidence.py) with what it is about.

    Raises msgspec.ValidationError for data of another form.
    """
    return msgspec.convert({**data, **more}, Flow)


def problem(got: Exchange) -> str:
    """Return what is wrong with an answer; empty if nothing is."""
    if got.error:
        return f"{got.stage}: {got.error}"
    if (got.status >= 500 or got.reason) and not got.refused:
        return f"{got.status} {got.reason}".strip()
    return ""
