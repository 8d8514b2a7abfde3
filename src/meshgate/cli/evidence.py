"""Commands that need a mesh: capture, watch and shadow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from meshgate.catalogue import checks
from meshgate.cli.options import ISTIOD, Stage, app, errors, say, show, with_settings
from meshgate.collect.capture import Live, connect
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.report.shadow import ShadowReport, shadow_lines, shadow_page
from meshgate.settings import SHADOW_OPTIONS, Settings, flag
from meshgate.snapshot.items import OFFLINE_BUNDLE, SHADOW
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.shadow import Shadow
from meshgate.verdict import Gate

if TYPE_CHECKING:
    pass

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
        bool,
        typer.Option(
            "--for-shadow", help=f"also what `meshgate shadow {flag('run.snapshot')}` needs"
        ),
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
    "simulation.rollback",
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
        raise typer.BadParameter(f"{SHADOW_OPTIONS} are required")
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
