"""Commands that need a mesh: capture, watch and shadow."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from meshgate import __version__
from meshgate.catalogue import checks
from meshgate.cli.options import CLUSTER, ISTIOD, Stage, app, errors, say, show, with_settings
from meshgate.collect.capture import Live, connect
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.pipeline.events import publish_event
from meshgate.report.shadow import ShadowReport, shadow_lines, shadow_page
from meshgate.settings import Settings
from meshgate.settings.reference import ObjectReference
from meshgate.snapshot.ingress import Watch
from meshgate.snapshot.items import OFFLINE_BUNDLE, SHADOW
from meshgate.snapshot.model import Expectations, Snapshot
from meshgate.snapshot.shadow import Shadow
from meshgate.verdict import Gate

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

Place = Annotated[str, typer.Argument(metavar="FILE|configmap://NAMESPACE/NAME")]


def open_mesh(settings: Settings) -> Live:
    """Return the live mesh; raise NoCluster if no cluster is configured."""
    named = settings.criteria.istio_namespace
    judged_by = Expectations(istio_namespace=named) if named else Expectations()
    return connect(settings, judged_by, progress=say)


@app.command()
@with_settings(*ISTIOD, "access.istioctl", "access.window")
def capture(
    place: Place,
    *,
    stage: Stage = None,
    for_shadow: Annotated[
        bool, typer.Option("--for-shadow", help="also what `meshgate shadow --snapshot` needs")
    ] = False,
    settings: Settings,
) -> None:
    """Capture the mesh once, for a baseline, a replay or a support case.

    Everything that the checks read is saved.  What could not be read is printed, and the exit code
    is then 10.
    """
    items = {item for row in checks().values() if stage in (None, row.stage) for item in row.reads}
    items |= {OFFLINE_BUNDLE} if for_shadow else set()
    with errors("capture"):
        source = open_mesh(settings)
        snapshot = source.capture(items)
        SnapshotLocation(place).save(snapshot, source.cluster)
    for gap in snapshot.gaps:
        say(f"could not read {gap.item}: {gap.why} (fix: {gap.remedy})")
    say(f"saved {len(snapshot.read)} items of {snapshot.source} in {place}")
    if snapshot.gaps:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


@app.command("shadow")
@with_settings(
    "run.snapshot",
    "simulation.istiod",
    "simulation.envoy",
    "simulation.manifests",
    "criteria.target_version",
    *ISTIOD,
    "simulation.allow_removal",
    "simulation.classes",
    "simulation.timeout",
    "simulation.deadline",
    "simulation.memory",
)
def shadow_upgrade(
    *,
    save: Annotated[Path | None, typer.Option(help="file for the result, as JSON")] = None,
    html: Annotated[Path | None, typer.Option(help="file for the result, as a page")] = None,
    settings: Settings,
) -> None:
    """Simulate the upgrade with the target's programs; nothing is applied.

    Shows what the target's istiod would send to every proxy, whether the target's Envoy would
    accept it, and what changes.  Exits with 1 if something would break, and with 10 if that could
    not be seen.
    """
    programs = Programs.of(settings)
    if programs is None:
        raise typer.BadParameter(
            "--shadow-istiod, --shadow-envoy and --shadow-manifests are required"
        )
    with errors("verify"):
        if settings.run.snapshot:
            from meshgate.collect.shadow import simulation  # protobuf's messages: only where needed

            recorded = SnapshotLocation(settings.run.snapshot).load(None)
            seen = simulation.simulate_recorded(recorded, programs, say)
        else:
            seen = _simulate_now(settings)
    report = ShadowReport.of(seen, settings.simulation.allow_removal)
    if save:
        save.write_bytes(msgspec.json.encode(seen))
    if html:
        html.write_text(shadow_page(report))
    for line in shadow_lines(report):
        show(line)
    if report.findings:
        raise typer.Exit(1)
    if report.unseen:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


def _simulate_now(settings: Settings) -> Shadow:
    snapshot = open_mesh(settings).capture({SHADOW})
    if snapshot.shadow is None:
        (gap,) = (gap for gap in snapshot.gaps if gap.item == SHADOW)
        raise ReadError(gap.why, gap.remedy)
    return snapshot.shadow


@app.command()
@with_settings(*CLUSTER, "access.istiod_access", "ingress.urls")
def watch(
    place: Place,
    *,
    rate: Annotated[float, typer.Option(help="requests per second, over all routes")] = 5.0,
    lasting: Annotated[float, typer.Option(help="seconds after which it ends")] = 7200.0,
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
    pod: Annotated[
        str, typer.Option(help="NAMESPACE/NAME[@UID] that gets an Event if the watch fails")
    ] = "",
    settings: Settings,
) -> None:
    """Send safe requests through the gateways, few and steadily, until it is ended.

    Saves every failed or slow one in PLACE, for stage C (`pytest -m ingress --watch=PLACE`).  Start
    it before the gateways are replaced.
    """
    limited = _limited(settings, rate=rate, deadline=lasting)
    with errors("watch"):
        about = ObjectReference.parse(pod) if pod else None
        source = open_mesh(limited)
        writer = _Writer(place, source, begun)
        with _failure_event(source.cluster, about):
            if begun and begun.exists():
                raise ReadError(
                    "an earlier watch has ended, and a new one would hide what it missed",
                    "start a new watch before the gateways are replaced",
                )
            stream = source.stream(slow_after)
            signal.signal(signal.SIGTERM, lambda number, frame: stream.stop.set())
            signal.signal(signal.SIGINT, lambda number, frame: stream.stop.set())
            stream.run(writer.update, every=5.0)
            writer.save(stream.seen)
    seen = stream.seen
    say(f"{seen.sent} requests were sent, {len(seen.troubles) + seen.more} failed or were slow")


def _limited(settings: Settings, *, rate: float, deadline: float) -> Settings:
    return replace(settings, ingress=replace(settings.ingress, rate=rate, deadline=deadline))


class _Writer:
    """Saves what a watch has seen so far."""

    def __init__(self, place: str, source: Live, begun: Path | None) -> None:
        self._location = SnapshotLocation(place)
        self._source = source
        self._begun = begun
        self._saved = False

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

    def update(self, seen: Watch) -> None:
        """Save it; once something is saved, a failure only delays the next time."""
        try:
            self.save(seen)
        except ReadError as error:
            if not self._saved:
                raise
            say(f"not saved yet: {error.why}")
        self._saved = True


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
