"""The command that evaluates an upgrade for many clusters: fleet."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from meshgate import __version__
from meshgate.cli.fleet_evaluation import CRITERIA, Task, evaluate_all, file_digest
from meshgate.cli.options import CLUSTER, app, errors, say, show, with_settings
from meshgate.cli.recordings import connect
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow import images
from meshgate.collect.shadow.programs import Programs
from meshgate.pipeline.recordings import newest, open_place
from meshgate.report.fleet import Evaluation, fleet_lines, fleet_report
from meshgate.report.fleet_comment import comment
from meshgate.report.fleet_page import fleet_page
from meshgate.settings import Settings, flag
from meshgate.snapshot.recording import Recording

ISTIOD, ENVOY, MANIFESTS = "pilot-discovery", "envoy", "istiod.yaml"


class Placed(NamedTuple):
    """A recording, and the place that it is in."""

    place: str
    head: Recording


def _age(text: str) -> timedelta:
    units = {"h": 1, "d": 24}
    number, unit = text[:-1], units.get(text[-1:], 0)
    if not (unit and number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"{text!r} is not an age: use hours or days, 36h or 1d")
    return timedelta(hours=int(number) * unit)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshgate/fleet"


@app.command()
@with_settings(
    *CLUSTER,
    *CRITERIA,
    "simulation.manifests",
    "simulation.timeout",
    "simulation.deadline",
    "simulation.classes",
    "simulation.memory",
)
def fleet(
    places: Annotated[
        list[str], typer.Argument(metavar="FOLDER|URL|configmap://NAMESPACE/NAME[@CONTEXT]…")
    ],
    *,
    programs: Annotated[
        Path | None,
        typer.Option(
            help="folder with the target's pilot-discovery and envoy, and istiod.yaml if "
            f"{flag('simulation.manifests')} is not given; otherwise they are read from the images"
        ),
    ] = None,
    pilot_image: Annotated[
        str, typer.Option(help="image with the target's pilot-discovery")
    ] = images.PROGRAMS[ISTIOD],
    proxy_image: Annotated[
        str, typer.Option(help="image with the target's envoy")
    ] = images.PROGRAMS[ENVOY],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--cluster",
            help="only this cluster; it is unknown if it has no recording",
            metavar="NAME",
        ),
    ] = None,
    max_age: Annotated[
        timedelta, typer.Option(parser=_age, metavar="AGE", help="age of a recording: 36h or 1d")
    ] = "1d",  # type: ignore[assignment] # typer parses it
    parallel: Annotated[
        int, typer.Option(min=1, help="clusters that are evaluated at the same time (processors)")
    ] = os.cpu_count() or 1,
    cache: Annotated[
        Path | None, typer.Option(help="folder of results, from which a later run continues")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="file for the report as JSON")] = None,
    html: Annotated[Path | None, typer.Option(help="file for the report as a page")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="file for the report as a comment of a pull request")
    ] = None,
    settings: Settings,
) -> None:
    """Evaluate an upgrade for the newest recording of each cluster; nothing is applied.

    Runs the checks of stage A and the simulation of the upgrade on each recording.  Exits with 1
    if a cluster would break, and with 10 if one could not be verified or its recording is too old.
    """
    target = settings.criteria.target_version
    if not target:
        raise typer.BadParameter(
            f"{flag('criteria.target_version')} is required: the version that is upgraded to"
        )
    folder = cache or _cache()
    with errors("evaluate the fleet"):
        found = _newest(places, settings, only or [])
        named = {ISTIOD: f"{pilot_image}:{target}", ENVOY: f"{proxy_image}:{target}"}
        tasks = list(_tasks(found, _programs(programs, named, folder), settings, folder))
        evaluations = [
            *evaluate_all(tasks, parallel),
            *(
                Evaluation(cluster=name, why=f"it has no recording in {', '.join(places)}")
                for name in only or ()
                if name not in {each.head.cluster for each in found}
            ),
        ]
        report = fleet_report(
            evaluations,
            target=target,
            made=datetime.now(UTC),
            max_age=max_age,
            meshgate_version=__version__,
        )
        if json:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        if html:
            html.write_text(fleet_page(report), encoding="utf-8")
        if markdown:
            markdown.write_text(comment(report), encoding="utf-8")
    for line in fleet_lines(report):
        show(line)
    raise typer.Exit(report.exit)


def _newest(places: list[str], settings: Settings, only: list[str]) -> list[Placed]:
    """Return the newest recording of each cluster in all places.

    Args:
        places: where recordings are.
        settings: how to reach the clusters of ConfigMaps.
        only: the clusters; empty for all.

    Raises:
        ReadError: there is no recording.
    """
    where: dict[tuple[str, str], str] = {}
    heads: list[Recording] = []
    for place in places:
        for head in open_place(place, connect(settings)).heads():
            where[head.cluster, head.name] = place
            heads.append(head)
    found = [
        Placed(where[head.cluster, head.name], head)
        for head in newest(heads)
        if not only or head.cluster in only
    ]
    if not found and not only:
        raise ReadError(
            f"there is no recording in {', '.join(places)}",
            "record each cluster with `meshgate record`",
        )
    return found


def _programs(folder: Path | None, named: dict[str, str], cache: Path) -> Path:
    """Return the folder with the target's programs, which are read from images if need be.

    Args:
        folder: the folder with the programs; None to read them from images.
        named: the image of each program.
        cache: the folder for programs from images.

    Raises:
        ReadError: a program is missing, or an image cannot be read.
    """
    if folder is None:
        joined = hashlib.sha256("\0".join(named.values()).encode()).hexdigest()[:32]
        folder = cache / "programs" / joined
        for program, image in named.items():
            say(f"reading {program} from {image}")
            images.fetch(image, program, folder)
        return folder
    for program in named:
        if not (folder / program).is_file():
            raise ReadError(
                f"{folder} does not contain the target's {program}",
                "pass the folder with the target's programs as --programs",
            )
    return folder


def _tasks(found: list[Placed], folder: Path, settings: Settings, cache: Path) -> Iterator[Task]:
    """Yield the task of each cluster.

    Args:
        found: the recordings.
        folder: the target's programs.
        settings: the settings of the command.
        cache: the folder for results.

    Raises:
        ReadError: a cluster has no manifests.
        OSError: a file cannot be read.
    """
    istiod, envoy = folder / ISTIOD, folder / ENVOY
    digest = file_digest(str(istiod))[:32] + file_digest(str(envoy))[:32]
    given = Path(settings.simulation.manifests or folder / MANIFESTS)
    for place, head in found:
        own = given / f"{head.cluster}.yaml"
        manifests = (own if own.is_file() else given / MANIFESTS) if given.is_dir() else given
        if not manifests.is_file():
            raise ReadError(
                f"{manifests} does not exist: the target's istiod of {head.cluster}",
                "render the target's chart, and pass the file, or a folder with a file for each "
                f"cluster, as {flag('simulation.manifests')}",
            )
        simulation = {**vars(settings.simulation), "istiod": str(istiod), "envoy": str(envoy)}
        programs = Programs(
            **{**simulation, "manifests": str(manifests)},
            version=settings.criteria.target_version or "",
        )
        yield Task(
            place=place,
            head=head,
            programs=programs,
            settings=settings,
            cache=cache,
            digest=digest,
        )
