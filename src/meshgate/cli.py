"""`meshgate`: what a person does around the gates.  The verdict itself is always pytest's."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from meshgate.catalogue import check, checks
from meshgate.collect.capture import Access, connect
from meshgate.collect.errors import NoCluster, Unreadable
from meshgate.collect.places import Place
from meshgate.collect.rights import cluster_role, role
from meshgate.report.json import read
from meshgate.snapshot.model import Expectations
from meshgate.verdict import Gate

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
    try:
        source = connect(access, Expectations(istio_namespace=istio_namespace), progress=_say)
        snapshot = source.capture(items)
        Place(place).save(snapshot, source.cluster)
    except NoCluster as error:
        _say(f"no cluster to capture ({error}): name one with --kubeconfig and --context")
        raise typer.Exit(4) from error
    except Unreadable as error:
        _say(f"could not keep it in {place}: {error.why}. Do: {error.remedy}")
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY)) from error
    except (OSError, ValueError) as error:
        _say(f"could not keep it in {place}: {error}")
        raise typer.Exit(4) from error
    for gap in snapshot.gaps:
        _say(f"could not read {gap.item}: {gap.why}. Do: {gap.remedy}")
    _say(f"kept {len(snapshot.read)} items of {snapshot.source} in {place}")
    if snapshot.gaps:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


def _say(words: str) -> None:
    typer.echo(words, err=True)


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
        for claim in report.claims
        for offender in claim.findings
    }
    unknown = {
        claim.id: f"{claim.id} could not be verified: {claim.why}"
        for claim in report.claims
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


@app.command("list")
def list_checks(stage: Stage = None) -> None:
    """Every check: its id, its stage, and what it claims."""
    for row in checks().values():
        if stage in (None, row.stage):
            typer.echo(f"{row.id}  {row.stage:13} {row.claim}")


@app.command()
def explain(id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """One check: what it claims, what it reads, what to do."""
    try:
        row = check(id.upper())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(
        f"{row.id}: {row.claim}\n"
        f"stage:  {row.stage}\n"
        f"reads:  {', '.join(row.reads)}\n"
        f"do:     {row.hint}\n"
        f"page:   {row.page}\n"
    )
    _, _, page = row.text.partition("\n")
    typer.echo(page.strip())


@app.command()
def rbac(
    name: Annotated[str, typer.Option(help="the roles' name")] = "istio-verification",
    namespace: Annotated[str, typer.Option(help="where it may keep its own")] = "istio-system",
) -> None:
    """The rights that a verifier needs, for `kubectl apply -f -`: a ClusterRole that only reads,
    and a Role to keep baselines in ConfigMaps of one namespace."""
    roles = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [cluster_role(name), role(name, namespace)],
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(roles), indent=2).decode())
