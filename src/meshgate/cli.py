"""`meshgate`: what a person does around the gates.  The verdict itself is always pytest's."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from meshgate.catalogue import STAGES, check, checks
from meshgate.collect.capture import Access, connect
from meshgate.collect.kubernetes import NoCluster
from meshgate.collect.rights import cluster_role
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.store import save
from meshgate.verdict import Gate

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Stage = Annotated[str, typer.Option(help="only this stage", metavar="|".join(STAGES))]


@app.callback()
def main() -> None:
    """Gates for Istio upgrades: capture a mesh, replay a recording, look a check up."""


@app.command()
def capture(
    file: Path,
    kubeconfig: str | None = None,
    context: str | None = None,
    istio_namespace: str = "istio-system",
    istiod_access: Annotated[str, typer.Option(metavar="auto|direct|port-forward")] = "auto",
    istiod_token_file: str | None = None,
    istioctl: str = "istioctl",
    stage: Stage = "",
) -> None:
    """Looks at the mesh once and keeps all that the checks read in FILE: for a replay, a demo,
    a support case.  It says what it could not read, and then exits with 10."""
    access = Access(
        kubeconfig=kubeconfig,
        context=context,
        istiod_access=istiod_access,
        istiod_token_file=istiod_token_file,
        istioctl=istioctl,
    )
    items = {item for row in checks().values() if stage in ("", row.stage) for item in row.reads}
    try:
        source = connect(access, Expectations(istio_namespace=istio_namespace), progress=_say)
        snapshot = source.capture(items)
        save(snapshot, file)
    except NoCluster as error:
        _say(f"no cluster to capture ({error}): name one with --kubeconfig and --context")
        raise typer.Exit(4) from error
    for gap in snapshot.gaps:
        _say(f"could not read {gap.item}: {gap.why}. Do: {gap.remedy}")
    _say(f"kept {len(snapshot.read)} items of {snapshot.source} in {file}")
    if snapshot.gaps:
        raise typer.Exit(int(Gate.COULD_NOT_VERIFY))


def _say(words: str) -> None:
    typer.echo(words, err=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replay(context: typer.Context, file: Path) -> None:
    """Takes every claim on a recording: `pytest --snapshot=FILE`, from the project's folder."""
    arguments = [f"--snapshot={file.absolute()}", *context.args]
    raise typer.Exit(subprocess.call([sys.executable, "-m", "pytest", *arguments]))


@app.command("list")
def list_checks(stage: Stage = "") -> None:
    """Every check: its id, its stage, and what it claims."""
    for row in checks().values():
        if stage in ("", row.stage):
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
        f"page:   {row.page}"
    )


@app.command()
def rbac(
    name: Annotated[str, typer.Option(help="the ClusterRole's name")] = "istio-verification",
) -> None:
    """The read-only ClusterRole that a verifier needs, for `kubectl apply -f -`."""
    typer.echo(msgspec.json.format(msgspec.json.encode(cluster_role(name)), indent=2).decode())
