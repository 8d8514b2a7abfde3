"""From a cluster, or from a file, to a Snapshot: two sources behind one protocol."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from meshgate import __version__
from meshgate.collect.errors import ReadError
from meshgate.collect.reading import Reading
from meshgate.deadline import Deadline
from meshgate.settings import Settings
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.items import INGRESS, ISTIOD, closure
from meshgate.snapshot.model import Expectations, Gap, Snapshot
from meshgate.snapshot.redact import redacted

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster
    from meshgate.collect.readers import Context
    from meshgate.collect.watch import Asked, MeshWatch

Progress = Callable[[str], None]


class Source(Protocol):
    """Where evidence comes from."""

    live: bool

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        """Evidence that holds at least `items`.

        With `previous` only the items of `refresh` are read again, the rest is carried over.

        Args:
            items: names of items (snapshot/items.py).
            previous: an earlier capture; only `refresh` is read again, everything else is copied.
            refresh: the items to read again.

        Returns:
            A snapshot.
        """


class Replay:
    """A recording: the same evidence however often one looks.

    Args:
        snapshot: what was recorded.
        expectations: what it is held against now.
    """

    live = False

    def __init__(self, snapshot: Snapshot, expectations: Expectations) -> None:
        self.snapshot = msgspec.structs.replace(snapshot, expectations=expectations)

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        """Return at least `items` (see Source).

        Args:
            items: names of items (snapshot/items.py).
            previous: an earlier capture; only `refresh` is read again, everything else is copied.
            refresh: the items to read again.

        Returns:
            A snapshot.
        """
        return self.snapshot


def cluster(settings: Settings) -> "Cluster":
    """Return the cluster; raise NoCluster where none is configured."""
    from meshgate.collect.kubernetes import Cluster  # a second to load: only where it is needed

    return Cluster(config=settings.access.kubeconfig, context=settings.access.context)


def connect(
    settings: Settings,
    expectations: Expectations,
    progress: Progress = lambda words: None,
    deadline: Deadline | None = None,
) -> "Live":
    """Return a source that reads a cluster; raise NoCluster when none is configured.

    Args:
        settings: how to reach the cluster, and what to probe.
        expectations: what the snapshot is judged by.
        progress: is called with what is being read.
        deadline: when the run ends; what is not read by then becomes a Gap.

    Returns:
        A source; its cluster and transport are open until the process ends.
    """
    # here, and not above: a replay needs none of the client libraries, which take a second to load
    from meshgate.collect import istiod
    from meshgate.collect.kubernetes import Cluster
    from meshgate.collect.readers import Context

    access = settings.access
    reached = Cluster(
        config=access.kubeconfig,
        context=access.context,
        timeout=access.request_timeout,
        deadline=deadline,
    )
    reached.source = access.cluster_name or reached.source
    token = Path(access.istiod_token_file) if access.istiod_token_file else None
    transport: istiod.Transport = istiod.PortForward(reached, token, access.request_timeout)
    if access.istiod_access == "direct" or (access.istiod_access == "auto" and reached.in_cluster):
        transport = istiod.Direct(token, access.request_timeout)
    context = Context(
        cluster=reached,
        transport=transport,
        expectations=expectations,
        settings=settings,
        progress=progress,
    )
    return Live(context, progress)


class Live:
    """A cluster.

    Args:
        context: what its readers read with.
        progress: called with a description of what is being read.
    """

    live = True

    def __init__(self, context: "Context", progress: Progress = lambda words: None) -> None:
        self.cluster = context.cluster
        self.transport = context.transport
        self.deadline = context.cluster.deadline
        self._context = context
        self._progress = progress

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        """Return at least `items` (see Source).

        Args:
            items: names of items (snapshot/items.py).
            previous: an earlier capture; only `refresh` is read again, everything else is copied.
            refresh: the items to read again.

        Returns:
            A snapshot.
        """
        started = _now()
        wanted = closure(items)
        fresh = wanted if previous is None else closure(refresh) & wanted
        base = previous or Snapshot(
            meshgate_version=__version__,
            taken=started,
            started=started,
            source=self.cluster.source,
            expectations=self._context.expectations,
        )
        self._progress(f"reading {', '.join(sorted(fresh))} from {self.cluster.source}")
        reading = self._read(fresh)
        gaps = reading.gaps
        kept = [gap for gap in base.gaps if gap.item not in fresh]
        snapshot = msgspec.structs.replace(
            base,
            taken=_now(),
            read=tuple(sorted({*base.read} - fresh | (fresh - {gap.item for gap in gaps}))),
            gaps=tuple(sorted([*kept, *gaps], key=lambda gap: gap.item)),
            kubernetes_version=reading.kubernetes_version or base.kubernetes_version,
            api_versions=base.api_versions | reading.api_versions,
            **redacted(reading.found),
        )
        if ISTIOD in reading.found:
            since = _unanswered(snapshot, previous)
            snapshot = msgspec.structs.replace(snapshot, unanswered_since=since)
        return redacted_rest(snapshot)

    def plan_requests(self) -> tuple[list[str], list[Gap]]:
        """Every request that would be sent through the gateways, in words; none is."""
        from meshgate.collect.readers import plan_ingress

        reading = self._read(closure({INGRESS}) - {INGRESS})
        if reading.gaps:
            return [], reading.gaps
        plan = plan_ingress(self._context, reading.items)
        skipped = [f"not requested: {each.subject} ({each.why})" for each in plan.skipped]
        return [*map(str, plan.planned), *skipped], []

    def watch(self, asked: "Asked") -> "MeshWatch":
        """Return a watch of the upgrade; raise ReadError if it could see nothing."""
        from meshgate.collect.watch import MeshWatch

        if not self._context.transport.sees_the_wire:
            raise ReadError(
                "a port-forward ends with its pod: from here no rollout is seen as others see it",
                "run `meshgate watch` inside the cluster",
            )
        reading = self._read(closure({INGRESS}) - {INGRESS})
        if reading.gaps:
            raise ReadError(reading.gaps[0].why, reading.gaps[0].remedy)
        return MeshWatch(self._context, reading.items, asked)

    def _read(self, items: frozenset[str]) -> Reading:
        reading = Reading(self._context, self.deadline)
        reading.read(items)
        return reading


def redacted_rest(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with errors, options and the name of the context redacted too."""
    return msgspec.structs.replace(
        snapshot,
        gaps=redacted(snapshot.gaps),
        source=redacted(snapshot.source),
        expectations=redacted(snapshot.expectations),
    )


def _unanswered(snapshot: Snapshot, previous: Snapshot | None) -> dict[str, datetime]:
    """When each push that is unanswered now was first seen so, in this run or by istiod's word.

    A proxy that has answered another one since is slow, and not silent.
    """
    before = previous.unanswered_since if previous else {}
    answered = set(_answers(previous)) if previous else set()
    since: dict[str, datetime] = {}
    for reading in snapshot.istiod:
        for proxy in reading.proxies:
            for key, sent, acked in _pending(proxy):
                read = reading.read or snapshot.taken
                at = reading.at or read
                # istiod's clock may run apart from ours: only the age is taken from it
                first = read - (at - sent if sent and at > sent else at - at)
                silent = (key, acked) in answered
                since[key] = min(before.get(key, first), first) if silent else first
    return since


def _pending(proxy: ProxySync) -> Iterable[tuple[str, datetime | None, str]]:
    for type_url, state in proxy.resources.items():
        if state.sent and state.sent != state.acked and not state.last_error:
            yield f"{proxy.proxy}|{type_url}", state.sent_time, state.acked


def _answers(snapshot: Snapshot) -> Iterable[tuple[str, str]]:
    for reading in snapshot.istiod:
        for proxy in reading.proxies:
            for type_url, state in proxy.resources.items():
                yield f"{proxy.proxy}|{type_url}", state.acked


def _now() -> datetime:
    return datetime.now(UTC)
