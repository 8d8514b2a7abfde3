"""`meshgate`: what a person does around the gates.  The verdict itself is always pytest's."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from meshgate import __version__
from meshgate.catalogue import check, checks
from meshgate.collect.capture import Access, connect
from meshgate.collect.config_map_store import Damaged, Missing
from meshgate.collect.errors import NoCluster, ReadError
from meshgate.collect.rights import (
    cluster_role,
    probes_namespace,
    probes_role,
    reports_namespace,
    reports_role,
    restart_role,
    role,
)
from meshgate.collect.shadow.programs import Programs
from meshgate.collect.snapshot_location import SnapshotLocation
from meshgate.facts.mesh import Mesh
from meshgate.pipeline import reports
from meshgate.pipeline.events import Named, publish_event
from meshgate.pipeline.index import index as index_all
from meshgate.pipeline.restart import Stopped
from meshgate.pipeline.restart import restart as restart_all
from meshgate.probe.traffic import Traffic
from meshgate.report.index import histories
from meshgate.report.json import read, schema
from meshgate.report.shadow import ShadowReport, shadow_lines, shadow_page
from meshgate.snapshot.ingress import Watch
from meshgate.snapshot.items import OFFLINE_BUNDLE, SHADOW
from meshgate.snapshot.model import Expectations, Snapshot
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.store import UnusableSnapshot
from meshgate.verdict import CouldNotVerify, Gate

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Stage = Annotated[
    Literal["precheck", "controlplane", "ingress", "dataplane"] | None,
    typer.Option(help="only this stage"),
]


@app.callback()
def main() -> None:
    """Gates for Istio upgrades: capture a mesh, replay a recording, look a check up."""


@app.command()
def capture(
    place: Annotated[str, typer.Argument(metavar="FILE|configmap://NAMESPACE/NAME")],
    kubeconfig: str | None = None,
    context: str | None = None,
    istio_namespace: str = "istio-system",
    istiod_access: Literal["auto", "direct", "port-forward"] = "auto",
    istiod_token_file: str | None = None,
    istioctl: str = "istioctl",
    window: Annotated[float, typer.Option(help="seconds to watch istiod's numbers")] = 5.0,
    stage: Stage = None,
    for_shadow: Annotated[
        bool, typer.Option("--for-shadow", help="also what `meshgate shadow --snapshot` needs")
    ] = False,
) -> None:
    """Looks at the mesh once and keeps all that the checks read: for a baseline, a replay, a
    support case.  It says what it could not read, and then exits with 10."""
    access = Access(
        kubeconfig=kubeconfig,
        context=context,
        istiod_access=istiod_access,
        istiod_token_file=istiod_token_file,
        istioctl=istioctl,
        window=window,
    )
    items = {item for row in checks().values() if stage in (None, row.stage) for item in row.reads}
    items |= {OFFLINE_BUNDLE} if for_shadow else set()
    try:
        source = connect(access, Expectations(istio_namespace=istio_namespace), progress=_say)
        snapshot = source.capture(items)
        SnapshotLocation(place).save(snapshot, source.cluster)
    except NoCluster as error:
        _say(f"no cluster to capture ({error}): name one with --kubeconfig and --context")
        raise typer.Exit(4) from error
    except ReadError as error:
        _say(f"could not keep it in {place}: {error.why} (fix: {error.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except (OSError, ValueError) as error:
        _say(f"could not keep it in {place}: {error}")
        raise typer.Exit(4) from error
    for gap in snapshot.gaps:
        _say(f"could not read {gap.item}: {gap.why} (fix: {gap.remedy})")
    _say(f"kept {len(snapshot.read)} items of {snapshot.source} in {place}")
    if snapshot.gaps:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


def _say(words: str) -> None:
    typer.echo(words, err=True)


@app.command("shadow")
def shadow_upgrade(
    istiod: Annotated[str, typer.Option(help="the target's pilot-discovery")],
    envoy: Annotated[str, typer.Option(help="the target's envoy")],
    manifests: Annotated[
        Path, typer.Option(help="the target's istiod as `helm template` renders it")
    ],
    target: Annotated[str, typer.Option(help="the version that they must be of")] = "",
    snapshot: Annotated[
        str | None, typer.Option(help="a mesh that `capture --for-shadow` kept, and no cluster")
    ] = None,
    kubeconfig: str | None = None,
    context: str | None = None,
    istio_namespace: str = "istio-system",
    istiod_access: Literal["auto", "direct", "port-forward"] = "auto",
    istiod_token_file: str | None = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="a glob over `TYPE RESOURCE PATH` that may be gone")
    ] = None,
    classes: Annotated[int, typer.Option(help="as many classes of proxies, no more")] = 500,
    ready_timeout: Annotated[float, typer.Option(help="seconds for one step")] = 60.0,
    deadline: Annotated[float, typer.Option(help="seconds for all of it")] = 900.0,
    memory: Annotated[int, typer.Option(help="MiB that a program may use, 0 for all")] = 2048,
    save: Annotated[Path | None, typer.Option(help="where the outcome is kept, as JSON")] = None,
    html: Annotated[Path | None, typer.Option(help="where it is told as a page")] = None,
) -> None:
    """Tries an upgrade with nothing applied: what the target's istiod would send to every proxy,
    whether the target's Envoy would take it, and what changes.  Exits with 1 if something would
    break, with 10 if that could not be seen."""
    programs = Programs(
        istiod=istiod,
        envoy=envoy,
        manifests=manifests,
        version=target,
        timeout=ready_timeout,
        deadline=deadline,
        classes=classes,
        memory=memory,
    )
    access = Access(
        kubeconfig=kubeconfig,
        context=context,
        istiod_access=istiod_access,
        istiod_token_file=istiod_token_file,
        programs=programs,
    )
    try:
        if snapshot:
            from meshgate.collect.shadow import simulation  # protobuf's messages: only where needed

            seen = simulation.simulate_recorded(
                SnapshotLocation(snapshot).load(None), programs, _say
            )
        else:
            seen = _shadow_now(access, istio_namespace)
    except UnusableSnapshot as error:
        _say(f"could not verify: {error}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except NoCluster as error:
        _say(f"no cluster to look at ({error}): name one with --kubeconfig and --context")
        raise typer.Exit(4) from error
    except ReadError as error:
        _say(f"could not verify: {error.why} (fix: {error.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    told = ShadowReport.of(seen, accept or ())
    if save:
        save.write_bytes(msgspec.json.encode(seen))
    if html:
        html.write_text(shadow_page(told))
    for line in shadow_lines(told):
        typer.echo(line)
    if told.findings:
        raise typer.Exit(1)
    if told.unseen:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


def _shadow_now(access: Access, istio_namespace: str) -> Shadow:
    source = connect(access, Expectations(istio_namespace=istio_namespace), progress=_say)
    snapshot = source.capture({SHADOW})
    if snapshot.shadow is None:
        (gap,) = (gap for gap in snapshot.gaps if gap.item == SHADOW)
        raise ReadError(gap.why, gap.remedy)
    return snapshot.shadow


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(context: typer.Context, file: Path) -> None:
    """Takes every claim on a recording: `pytest --snapshot=FILE`, from the project's folder."""
    raise typer.Exit(_pytest(f"--snapshot={file.absolute()}", *context.args).returncode)


@app.command()
def diff(before: Path, after: Path) -> None:
    """What became wrong, what was mended, and what is as wrong as before, between two snapshots."""
    then, now = _offenders(before), _offenders(after)
    for title, keys, words in (
        ("new", now.keys() - then.keys(), now),
        ("still", now.keys() & then.keys(), now),
        ("gone", then.keys() - now.keys(), then),
    ):
        for each in sorted(keys):
            typer.echo(f"{title:5} {words[each]}")
    if then.keys() == now.keys():
        typer.echo("nothing became wrong, nothing was mended")


def _offenders(snapshot: Path) -> dict[str, str]:
    """Every finding of a snapshot by its key; what could not be verified stands under its claim."""
    with tempfile.TemporaryDirectory(prefix="meshgate-") as folder:
        file = Path(folder, "verdict.json")
        done = _pytest(
            f"--snapshot={snapshot.absolute()}",
            f"--json={file}",
            f"--junitxml={folder}/junit.xml",
            f"--html={folder}/index.html",
            capture_output=True,
        )
        if not file.exists():
            typer.echo(done.stdout + done.stderr, err=True)
            raise typer.Exit(done.returncode)
        report = read(file)
    found = {
        offender.key: f"{claim.id} {offender.subject}: {offender.seen}"
        for claim in report.checks
        for offender in claim.findings
    }
    unknown = {
        claim.id: f"{claim.id} could not be verified: {claim.why}"
        for claim in report.checks
        if claim.verdict == "could not verify"
    }
    return found | unknown


def _pytest(*arguments: str, capture_output: bool = False) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        check=False,
        capture_output=capture_output,
        text=True,
    )


@app.command()
def watch(
    place: Annotated[str, typer.Argument(metavar="FILE|configmap://NAMESPACE/NAME")],
    kubeconfig: str | None = None,
    context: str | None = None,
    istiod_access: Literal["auto", "direct", "port-forward"] = "auto",
    rate: Annotated[float, typer.Option(help="requests a second, over all routes")] = 5.0,
    lasting: Annotated[float, typer.Option(help="seconds after which it ends")] = 7200.0,
    slow_after: Annotated[
        int, typer.Option(help="milliseconds after which an answer is slow")
    ] = 1000,
    ingress_url: Annotated[list[str] | None, typer.Option(help="as pytest's option")] = None,
    begun: Annotated[
        Path | None,
        typer.Option(
            help="a file that is made when what was sent is kept for the first time; where it is "
            "there before, an earlier watch has ended, and none is begun over it"
        ),
    ] = None,
    pod: Annotated[
        str, typer.Option(help="NAMESPACE/NAME[@UID]: told of by an Event where it cannot go on")
    ] = "",
) -> None:
    """Sends safe requests through the gateways, few and steadily, until it is ended; keeps every
    failed or slow one in PLACE, where stage C finds them (`pytest -m ingress --watch=PLACE`).
    Begin it before the gateways are replaced."""
    traffic = Traffic(urls=tuple(ingress_url or ()), rate=rate, deadline=lasting)
    access = Access(
        kubeconfig=kubeconfig, context=context, istiod_access=istiod_access, traffic=traffic
    )
    with _telling("watch"):
        about = Named.parse(pod) if pod else None
        source = connect(access, Expectations(), progress=_say)

        def keep(seen: Watch) -> None:
            snapshot = Snapshot(
                meshgate_version=__version__,
                taken=seen.last,
                started=seen.began,
                source=source.cluster.source,
                watch=seen,
            )
            SnapshotLocation(place).save(snapshot, source.cluster)
            if begun and seen.sent:
                begun.touch()

        kept = False

        def beat(seen: Watch) -> None:
            nonlocal kept
            try:
                keep(seen)
            except ReadError as error:
                if not kept:
                    raise
                # the requests go on, and so does what is seen of them: the next time may do
                _say(f"not kept yet: {error.why}")
            kept = True

        with _by_event(source.cluster, about):
            if begun and begun.exists():
                raise ReadError(
                    "a watch that began here has ended, and another would hide what it missed",
                    "begin anew, before the gateways are replaced",
                )
            stream = source.stream(slow_after)
            signal.signal(signal.SIGTERM, lambda number, frame: stream.stop.set())
            signal.signal(signal.SIGINT, lambda number, frame: stream.stop.set())
            stream.run(beat, every=5.0)
            keep(stream.seen)
    seen = stream.seen
    _say(f"{seen.sent} requests were sent, {len(seen.troubles) + seen.more} failed or were slow")


@contextmanager
def _by_event(cluster: "Cluster", pod: Named | None) -> Iterator[None]:
    """Tells a failure beside the pod, whose log may be gone with it before anybody reads it."""
    try:
        yield
    except ReadError as error:
        if pod:
            words = f"{error.why} (fix: {error.remedy})"
            with suppress(ReadError):  # the log has it all the same
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


@app.command()
def restart(
    target_version: Annotated[str, typer.Option(help="the proxy that all shall run")],
    kubeconfig: str | None = None,
    context: str | None = None,
    timeout: Annotated[float, typer.Option(help="seconds for each workload")] = 600.0,
) -> None:
    """Restarts every workload that has a sidecar of another version, one at a time; stops at the
    first that does not come back.  A workload or namespace with the annotation
    `meshgate/restart: "false"` is left alone.  It deletes nothing, and can be run again."""
    with _telling("restart"):
        cluster = _cluster(kubeconfig, context)
        try:
            count = restart_all(cluster, target_version, timeout=timeout, say=_say)
        except Stopped as error:
            _say(f"STOPPED: {error}")
            raise typer.Exit(1) from error
    _say(f"done: {count} workloads were restarted, all run {target_version}")


@app.command()
def last(
    places: Annotated[list[str], typer.Argument(metavar="configmap://NAMESPACE/NAME…")],
    target_version: Annotated[str, typer.Option(help="the version that must be judged")] = "",
    kubeconfig: str | None = None,
    context: str | None = None,
) -> None:
    """The last verdict in each place that `--report-to` named.  1 where a gate is closed, 10 where
    there is no verdict at all, or none of that version: silence is no good news."""
    codes = []
    with _telling("look"):
        cluster = _cluster(kubeconfig, context)
        for place in places:
            found = [
                run for run in reports.runs(place, cluster) if target_version in ("", run.version)
            ]
            if not found:
                of = f" of {target_version}" if target_version else ""
                typer.echo(f"{place}: NO VERDICT{of}: the gate never ran, or could not tell")
                codes.append(int(Gate.COULD_NOT_VERIFY))
                continue
            run = found[0]
            version = f" of {run.version}" if run.version else ""
            typer.echo(f"{place}: {run.at:%Y-%m-%d %H:%M} UTC{version}, run {run.name}: {run.line}")
            codes.append(min(run.exit, 1))
    raise typer.Exit(max(codes))


@app.command()
def fetch(
    place: Annotated[str, typer.Argument(metavar="configmap://NAMESPACE/NAME")],
    run: Annotated[str, typer.Argument(metavar="RUN")],
    folder: Path,
    kubeconfig: str | None = None,
    context: str | None = None,
) -> None:
    """Writes the JUnit, HTML, verdict and snapshot of a run that `last` names into a folder."""
    with _telling("fetch"):
        reports.fetch(place, run, folder, _cluster(kubeconfig, context))


@app.command()
def index(
    place: Annotated[str, typer.Argument(metavar="FOLDER|URL")],
    last: Annotated[int, typer.Option(help="runs of each gate that the page links to")] = 10,
) -> None:
    """One page over all reports below a folder, or a URL that fsspec knows: `index.html`, beside
    them.  1 where the latest verdict of a gate is closed, 10 where one has no verdict."""
    with _telling("index"):
        found, page = index_all(place, last)
    latest = [each.latest for each in histories(found)]
    for entry in latest:
        words = entry.report.sentence if entry.report else entry.why
        typer.echo(f"{entry.state:6} {entry.place}: {words}")
    _say(f"{len(found)} runs of {len(latest)} gates are in {page}")
    states = {each.state for each in latest}
    if "silent" in states:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))
    raise typer.Exit(int(Gate.CLOSED if "closed" in states else Gate.OPEN))


@app.command()
def revisions(
    place: Annotated[str, typer.Argument(metavar="SNAPSHOT")],
    unused: Annotated[str, typer.Option(help="the revision that nothing should use")] = "",
) -> None:
    """Who uses which revision, in a snapshot that `capture` took.  With --unused, 1 where something
    still uses that one: then it must not be removed.  Removing it is a person's work."""
    try:
        users = Mesh(SnapshotLocation(place).load(None)).revisions.users
    except (UnusableSnapshot, ReadError, CouldNotVerify) as error:
        _say(f"could not tell: {error}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    for revision, names in sorted(users.items()):
        for name in names:
            typer.echo(f"{revision:12} {name}")
    if unused and users.get(unused):
        _say(f"{len(users[unused])} still use the revision {unused}: do not remove it")
        raise typer.Exit(1)
    if unused:
        _say(f"nothing uses the revision {unused}")


def _cluster(kubeconfig: str | None, context: str | None) -> "Cluster":
    from meshgate.collect.kubernetes import Cluster  # a second to load: only where it is needed

    return Cluster(config=kubeconfig, context=context)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Failures that a person can mend, in their words."""
    try:
        yield
    except NoCluster as error:
        _say(f"no cluster to {what} ({error}): name one with --kubeconfig and --context")
        raise typer.Exit(4) from error
    except ReadError as error:
        _say(f"could not {what}: {error.why} (fix: {error.remedy})")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except (Missing, Damaged, OSError, ValueError) as error:
        _say(f"could not {what}: {error}")
        raise typer.Exit(4) from error


@app.command("list")
def list_checks(stage: Stage = None) -> None:
    """Every check: its id, its stage, and what it claims."""
    for row in checks().values():
        if stage in (None, row.stage):
            typer.echo(f"{row.id}  {row.stage:13} {row.title}")


def _ids(incomplete: str) -> list[tuple[str, str]]:
    """For the shell: the checks that a word may become."""
    known = checks().values()
    return [(row.id, row.title) for row in known if row.id.startswith(incomplete.upper())]


@app.command()
def explain(
    id: Annotated[str, typer.Argument(metavar="ID", autocompletion=_ids)],
) -> None:
    """One check: what it claims, what it reads, what to do."""
    try:
        row = check(id.upper())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(
        f"{row.id}: {row.title}\n"
        f"stage:  {row.stage}\n"
        f"reads:  {', '.join(row.reads)}\n"
        f"do:     {row.hint}\n"
        f"page:   {row.page}\n"
    )
    _, _, page = row.text.partition("\n")
    typer.echo(page.strip())


@app.command("schema")
def print_schema() -> None:
    """The JSON Schema of `reports/verdict.json`."""
    typer.echo(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode())


@app.command()
def rbac(
    name: Annotated[str, typer.Option(help="the roles' name")] = "istio-verification",
    namespace: Annotated[str, typer.Option(help="where the gates run")] = "istio-system",
    restart: Annotated[bool, typer.Option("--restart", help="of `meshgate restart`")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="also for `meshgate shadow`")] = False,
) -> None:
    """The rights that a verifier needs, for `kubectl apply -f -`: a ClusterRole that only reads,
    a Role to tell its verdict where it runs, and two namespaces with a Role in each: for baselines
    and reports, and for the probe pair."""
    verifier = [
        cluster_role(name, shadow=shadow),
        role(name, namespace),
        reports_namespace(),
        reports_role(f"{name}-reports"),
        probes_namespace(),
        probes_role(f"{name}-probes"),
    ]
    roles = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [restart_role("istio-restart")] if restart else verifier,
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(roles), indent=2).decode())
