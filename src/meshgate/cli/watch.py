"""`meshgate watch`: requests during the whole upgrade, and which of them were lost."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from meshgate import __version__
from meshgate.cli.evidence import Place, open_mesh
from meshgate.cli.options import CLUSTER, app, errors, say, with_settings
from meshgate.collect.capture import Live
from meshgate.collect.errors import ReadError
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.pipeline.events import publish_event
from meshgate.settings import Settings
from meshgate.settings.reference import ObjectReference
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.watch import Watch

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster
    from meshgate.collect.watch import Asked

SOON, LATE = 5.0, 30.0  # seconds between two times that the evidence is saved
FLOWS = 40  # with more of them it is saved less often, since each time all of it is written


@app.command()
@with_settings(*CLUSTER, "access.istiod_access", "ingress.urls", "probes.probe_namespace")
def watch(
    place: Place,
    *,
    image: Annotated[
        str, typer.Option(help="image of pods in the mesh that send requests; it needs Python")
    ] = "",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Service that these pods call and that must answer: http, http2, grpc, tcp, idle, "
            "stream or ws, as http://SERVICE.NAMESPACE[:PORT]/PATH",
        ),
    ] = None,
    sample: Annotated[int, typer.Option(help="number of other HTTP Services that they call")] = 3,
    rate: Annotated[float, typer.Option(help="requests per second, over all routes")] = 5.0,
    mesh_rate: Annotated[
        float, typer.Option(help="requests per second of each pod in the mesh")
    ] = 20.0,
    lasting: Annotated[float, typer.Option(help="seconds after which it ends")] = 21600.0,
    slow_after: Annotated[
        int, typer.Option(help="milliseconds after which an answer is slow")
    ] = 1000,
    begun: Annotated[
        Path | None,
        typer.Option(
            help="file that is created once results are saved; if it exists, an earlier watch has "
            "ended, and no new one starts over it"
        ),
    ] = None,
    stay: Annotated[
        bool,
        typer.Option(
            "--stay",
            help="if the watch fails, save the reason, create the file of --begun and wait to be "
            "ended: the pipeline continues, and the checks of the watch are UNKNOWN",
        ),
    ] = False,
    pod: Annotated[
        str, typer.Option(help="NAMESPACE/NAME[@UID] that gets an Event if the watch fails")
    ] = "",
    settings: Settings,
) -> None:
    """Send safe requests during the whole upgrade, few and steadily, until it is ended.

    They go through the gateways and, with --image, from pods in the mesh: one with the old proxy
    and one with the new.  PLACE gets how many were lost and what happened then, for the gates
    (`pytest {run.watch=PLACE}`).  Start it before istiod is upgraded.
    """
    from meshgate.collect.watch import Asked

    limited = replace(settings, ingress=replace(settings.ingress, rate=rate, deadline=lasting))
    asked = Asked(image, tuple(target or ()), sample, mesh_rate, slow_after)
    with errors("watch"):
        about = ObjectReference.parse(pod) if pod else None
        source = open_mesh(limited)
        writer = _Writer(place, source, begun)
        ended = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        try:
            with _failure_event(source.cluster, about):
                seen = _watched(source, asked, writer, ended)
        except ReadError as error:
            if not stay:
                raise
            say(f"could not watch: {error.why} (fix: {error.remedy})")
            writer.give_up(error.why)
            ended.wait(lasting)
            return
    say(seen.words)
    # threads still wait for the API server, and the interpreter may abort when it ends under them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _watched(source: Live, asked: "Asked", writer: "_Writer", ended: Event) -> Watch:
    """Return what was seen until the end; raise ReadError if the watch cannot begin.

    Args:
        source: the mesh.
        asked: what is sent.
        writer: saves the evidence.
        ended: is set when the watch has to end.
    """
    if writer.has_begun:
        raise ReadError(
            "an earlier watch has ended, and a new one would hide what it missed",
            "start a new watch before the next upgrade",
        )
    running = source.watch(asked)
    running.run(writer.update, ended)
    seen = running.seen
    writer.save(seen)
    return seen


class _Writer:
    """Saves what a watch has seen so far."""

    def __init__(self, place: str, source: Live, begun: Path | None) -> None:
        self._location = SnapshotLocation(place)
        self._source = source
        self._begun = begun
        self._saved = False

    @property
    def has_begun(self) -> bool:
        """Return whether an earlier watch has saved something in this pod."""
        return self._begun is not None and self._begun.exists()

    def give_up(self, why: str) -> None:
        """Save the reason in place of evidence, unless there is evidence of an earlier watch."""
        if not self.has_begun and not self._saved:
            now = datetime.now(UTC)
            with suppress(ReadError):  # without it the gates report that nothing was saved
                self.save(Watch(began=now, last=now, unusable=why))
        if self._begun:
            self._begun.touch()

    def save(self, seen: Watch) -> None:
        """Save it; raise ReadError."""
        snapshot = Snapshot(
            meshgate_version=__version__,
            taken=seen.last,
            started=seen.began,
            source=self._source.cluster.source,
            watch=seen,
        )
        self._location.save(snapshot, self._source.cluster)
        if self._begun and seen.sent:
            self._begun.touch()

    def update(self, seen: Watch) -> float:
        """Save it, and return after how many seconds to do so again.

        Once something is saved, a failure only delays the next time.
        """
        try:
            self.save(seen)
        except ReadError as error:
            if not self._saved:
                raise
            say(f"not saved yet: {error.why}")
        self._saved = True
        return SOON if len(seen.flows) <= FLOWS else LATE


@contextmanager
def _failure_event(cluster: "Cluster", pod: ObjectReference | None) -> Iterator[None]:
    """Publish a failure as an Event of the pod, whose log may be deleted before it is read."""
    try:
        yield
    except ReadError as error:
        if pod:
            words = f"{error.why} (fix: {error.remedy})"
            with suppress(ReadError):  # the log has it anyway
                publish_event(
                    cluster,
                    ("v1", "Pod"),
                    pod,
                    "WatchFailed",
                    words,
                    datetime.now(UTC),
                    warning=True,
                )
        raise
