"""Commands about meshgate itself: list, explain, schema and rbac."""

from typing import Annotated

import msgspec
import typer

from meshgate.catalogue import check, checks
from meshgate.cli.options import Stage, app
from meshgate.collect.rights import (
    cluster_role,
    probes_namespace,
    probes_role,
    reports_namespace,
    reports_role,
    restart_role,
    role,
    token_role,
)
from meshgate.report import fleet
from meshgate.report.json import schema
from meshgate.settings import flag


@app.command("list")
def list_checks(stage: Stage = None) -> None:
    """List every check: its id, stage and title."""
    for row in checks().values():
        if stage in (None, row.stage):
            typer.echo(f"{row.id}  {row.stage:13} {row.title}")


def _ids(incomplete: str) -> list[tuple[str, str]]:
    """Return the checks whose id begins so, for completion."""
    known = checks().values()
    return [(row.id, row.title) for row in known if row.id.startswith(incomplete.upper())]


@app.command()
def explain(
    id: Annotated[str, typer.Argument(metavar="ID", autocompletion=_ids)],
) -> None:
    """Explain one check: what it proves, what it reads, and how to fix a failure."""
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
def print_schema(
    *,
    of_fleet: Annotated[bool, typer.Option("--fleet", help="that of `meshgate fleet`")] = False,
) -> None:
    """Print the JSON Schema of `reports/verdict.json`."""
    found = fleet.schema() if of_fleet else schema()
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


@app.command()
def rbac(
    name: Annotated[str, typer.Option(help="name of the roles")] = "istio-verification",
    namespace: Annotated[str, typer.Option(help="namespace of the gates")] = "istio-system",
    restart: Annotated[
        bool, typer.Option("--restart", help="permissions of `meshgate restart` instead")
    ] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="also for `meshgate shadow`")] = False,
    token_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE/ACCOUNT",
            help=f"also to call as this ServiceAccount, for {flag('probes.pairs')}",
        ),
    ] = None,
) -> None:
    """Print the permissions that the gates need, for `kubectl apply -f -`.

    They are a read-only ClusterRole, a Role to publish the verdict in the namespace of the gates,
    and two namespaces with a Role in each: for baselines and reports, and for the probe pair.
    """
    verifier = [
        cluster_role(name, shadow=shadow),
        role(name, namespace),
        reports_namespace(),
        reports_role(f"{name}-reports"),
        probes_namespace(),
        probes_role(f"{name}-probes"),
        *(token_role(name, each) for each in token_of or ()),
    ]
    roles = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [restart_role("istio-restart")] if restart else verifier,
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(roles), indent=2).decode())
