"""The command that changes workloads: restart."""

from typing import Annotated

import typer

from meshgate.cli.options import CLUSTER, app, errors, say, with_settings
from meshgate.collect.capture import cluster
from meshgate.pipeline.restart import Stopped
from meshgate.pipeline.restart import restart as restart_all
from meshgate.settings import Settings, flag


@app.command()
@with_settings(*CLUSTER, "criteria.target_version")
def restart(
    *,
    timeout: Annotated[float, typer.Option(help="seconds for each workload")] = 600.0,
    settings: Settings,
) -> None:
    """Restart every workload whose sidecar has another version, one at a time.

    Stops at the first workload that does not become ready.  A workload or namespace with the
    annotation `meshgate/restart: "false"` is skipped.  Nothing is deleted; it can be run again.
    """
    target = settings.criteria.target_version
    if not target:
        raise typer.BadParameter(f"{flag('criteria.target_version')} is required")
    with errors("restart"):
        try:
            count = restart_all(cluster(settings), target, timeout=timeout, say=say)
        except Stopped as error:
            say(f"STOPPED: {error}")
            raise typer.Exit(1) from error
    say(f"{count} workloads were restarted, all run {target}")
