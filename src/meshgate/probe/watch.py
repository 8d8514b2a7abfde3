"""A slow, steady stream of requests through the gateways, and which of them failed."""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from meshgate.probe.client import Client, Planned
from meshgate.probe.pace import Pace
from meshgate.probe.traffic import Traffic
from meshgate.snapshot.ingress import Exchange, Trouble, Watch
from meshgate.snapshot.redact import redacted

MOST = 2000
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
        now = datetime.now(UTC)
        self._planned = planned
        self._traffic = traffic
        self._client = Client(traffic)
        self._lock = threading.Lock()
        self._seen = Watch(began=now, last=now, rate=traffic.rate, slow_after=slow_after)
        self.stop = threading.Event()

    @property
    def seen(self) -> Watch:
        """What was seen so far."""
        with self._lock:
            self._seen = msgspec.structs.replace(self._seen, last=datetime.now(UTC))
            return redacted(self._seen)

    def run(self, keep: Callable[[Watch], None], every: float) -> None:
        """Send, and pass what was seen so far to `keep` every so many seconds."""
        pace = Pace(self._traffic.rate, self._traffic.deadline)
        turns = itertools.cycle(self._planned)

        def work() -> None:
            while not self.stop.is_set() and pace.wait(self.stop.wait):
                with self._lock:
                    each = next(turns)
                at = datetime.now(UTC)
                self._note(at, self._client.send(each))

        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            workers = [pool.submit(work) for _ in range(WORKERS)]
            try:
                while not all(each.done() for each in workers):
                    if self.stop.wait(every):
                        break
                    keep(self.seen)
            finally:
                self.stop.set()
        for each in workers:
            each.result()  # a defect must not vanish in its thread

    def _note(self, at: datetime, got: Exchange) -> None:
        why, slow = problem(got, self._seen.slow_after)
        with self._lock:
            seen = self._seen
            changes: dict[str, object] = {"sent": seen.sent + 1}
            if why and len(seen.troubles) < MOST:
                asked = got.request
                new = Trouble(at=at, gateway=asked.gateway, asked=asked.words, why=why, slow=slow)
                changes["troubles"] = (*seen.troubles, new)
            elif why:
                changes["more"] = seen.more + 1
            self._seen = msgspec.structs.replace(seen, **changes)


def problem(got: Exchange, slow_after: int) -> tuple[str, bool]:
    """Return what is wrong with an answer, and whether it is only that it was slow."""
    if got.error:
        return f"{got.stage}: {got.error}", False
    if (got.status >= 500 or got.reason) and not got.refused:
        return f"{got.status} {got.reason}".strip(), False
    if got.milliseconds > slow_after:
        return f"{got.milliseconds} ms", True
    return "", False
