"""A watch of the whole upgrade: requests through the gateways and from pods, and what happens."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import Event
from typing import NamedTuple
from urllib.parse import urlsplit

from meshgate.collect.errors import ReadError
from meshgate.collect.happenings import Happenings
from meshgate.collect.readers import Context, plan_ingress
from meshgate.probe import observers
from meshgate.probe.observer.calls import Target
from meshgate.probe.watch import Stream, watched
from meshgate.semantics.hosts import service_name
from meshgate.semantics.sampling import sample
from meshgate.snapshot.items import Items
from meshgate.snapshot.redact import redacted
from meshgate.snapshot.watch import Happening, Watch

EVERY = 5.0  # seconds between two looks at the observers
KINDS = {
    "http": "http1",
    "http2": "http2",
    "grpc": "grpc",
    "tcp": "tcp",
    "idle": "idle",
    "stream": "stream",
    "ws": "websocket",
}
PORTS = {"tcp": 0, "idle": 0}


class Asked(NamedTuple):
    """What a watch sends besides the requests through the gateways.

    Attributes:
        image: of the pods in the mesh; empty for none.
        targets: URLs of Services that they call.
        sample: how many other HTTP Services they call.
        rate: requests per second of each pod.
        slow_after: milliseconds from which on an answer is slow.
    """

    image: str = ""
    targets: tuple[str, ...] = ()
    sample: int = 3
    rate: float = 20.0
    slow_after: int = 1000


class MeshWatch:
    """One watch.

    Args:
        context: the cluster and the settings.
        found: the items that plan the requests.
        asked: what is sent.
    """

    def __init__(self, context: Context, found: Items, asked: Asked) -> None:
        self._asked = asked
        self._probes = context.settings.probes
        self._namespace = self._probes.probe_namespace
        planned = watched(plan_ingress(context, found).planned)
        if not (planned or asked.image):
            raise ReadError("no safe request can be derived from any route", "is there a Gateway?")
        self._stream = Stream(planned, context.traffic, asked.slow_after)
        self._feed = Happenings(context.cluster, found.services, found.pods)
        self._began = datetime.now(UTC)
        self._rate = context.traffic.rate
        self._seconds = context.traffic.deadline
        self._observers: observers.Observers | None = None
        if asked.image:
            plan = observers.Plan(
                image=asked.image,
                namespace=self._namespace,
                called=tuple(self._called(context, found)),
                rate=asked.rate,
                slow_after=asked.slow_after,
                seconds=self._seconds,
            )
            self._observers = observers.Observers(context.cluster, plan)

    @property
    def seen(self) -> Watch:
        """What was seen so far."""
        own = self._observers
        return redacted(
            Watch(
                began=self._began,
                last=datetime.now(UTC),
                rate=self._rate,
                slow_after=self._asked.slow_after,
                image=self._asked.image,
                namespace=self._namespace if own else "",
                flows=(*self._stream.flows, *(own.flows if own else ())),
                observers=own.seen if own else (),
                happenings=self._feed.seen,
                more_happenings=self._feed.more,
            )
        )

    def run(self, keep: Callable[[Watch], float], ended: Event) -> None:
        """Send until it is ended or until the time is up; raise ReadError if it cannot begin.

        Args:
            keep: is called with what was seen so far, and returns after how many seconds again.
            ended: is set when it has to end.
        """
        end = time.monotonic() + self._seconds
        self._feed.start()
        if self._observers:
            self._observers.begin()
        self._stream.start()
        saved = looked = time.monotonic() - EVERY
        pause = EVERY
        try:
            while time.monotonic() < end and not ended.wait(1.0):
                if time.monotonic() - looked >= EVERY:
                    looked = time.monotonic()
                    self._look()
                if time.monotonic() - saved >= pause:
                    saved = time.monotonic()
                    pause = keep(self.seen)
            self._look()
        finally:
            self._stream.stop.set()
            self._feed.stop.set()
            if self._observers:
                self._observers.end()

    def _look(self) -> None:
        """Create and read the observers; that this fails is something that happened."""
        if self._observers is None:
            return
        try:
            self._observers.step()
        except ReadError as error:
            now = datetime.now(UTC)
            name = f"Namespace {self._namespace}"
            what = "could not be used for observers"
            # one for each minute: an outage is not a list of attempts
            key = f"{error.why} {now:%H:%M}"
            detail = error.why[:200]
            happening = Happening(at=now, until=now, subject=name, what=what, detail=detail)
            self._feed.add(key, what, happening)

    def _called(self, context: Context, found: Items) -> Iterable[observers.Called]:
        """Yield the Services that the observers call, named ones first."""
        expectations = context.expectations
        for number, url in enumerate(self._asked.targets):
            yield _named(f"target/{number}", url)
        others = [
            each
            for each in found.services
            if each.metadata.namespace not in (self._namespace, expectations.istio_namespace)
        ]
        named = {urlsplit(url).hostname for url in self._asked.targets}
        urls = sample(found.pods, others, expectations, self._asked.sample + len(named))
        left = [url for url in urls if urlsplit(url).hostname not in named]
        for number, url in enumerate(left[: self._asked.sample]):
            parts = urlsplit(url)
            host = parts.hostname or ""
            target = Target(f"sample/{number}", "http1", host, parts.port or 80)
            yield observers.Called(target, service_name(host))


def _named(key: str, url: str) -> observers.Called:
    """Return a declared target; raise ReadError for a URL that is not one."""
    parts = urlsplit(url)
    try:
        port = parts.port or PORTS.get(parts.scheme, 80)
    except ValueError:
        port = 0
    host = parts.hostname or ""
    if parts.scheme not in KINDS or "." not in host or not port:
        raise ReadError(
            f"{url} is not a target of a watch",
            f"use {'://, '.join(KINDS)}:// with SERVICE.NAMESPACE[:PORT]; tcp and idle need a port",
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(key, KINDS[parts.scheme], host, port, path, "GET")
    return observers.Called(target, service_name(host), declared=True)
