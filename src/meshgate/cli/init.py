"""The command that writes what Argo CD needs: `meshgate init argocd`."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from meshgate.cli.options import app, say, show, with_settings
from meshgate.settings import Settings, flag

# What the examples show, and the options replace.
SHOWN_REPOSITORY = "https://git.example.com/meshgate.git"
SHOWN_PATH = "hooks/examples/upgrade"

init = typer.Typer(no_args_is_help=True, help="Write the files of a pipeline.")
app.add_typer(init, name="init")


@init.callback()
def main() -> None:
    """Write the files of a pipeline."""


@init.command()
@with_settings("criteria.target_version", "access.cluster_name")
def argocd(
    folder: Annotated[Path, typer.Argument(help="a folder of your git repository")],
    *,
    repository: Annotated[str, typer.Option(help="URL of the git repository", metavar="URL")],
    path: Annotated[
        str, typer.Option(help="path of the folder in the repository (default: FOLDER)")
    ] = "",
    settings: Settings,
) -> None:
    """Write the project, the Applications with their gates, and the health checks for Argo CD.

    The version is in one place, `upgrade/values.yaml`.  Existing files are not overwritten.
    """
    target = settings.criteria.target_version
    if not target or target.count(".") != 2:  # X.Y.Z: a chart's version
        raise typer.BadParameter(f"{flag('criteria.target_version', 'X.Y.Z')} is required")
    place = (path or folder.as_posix()).strip("/")
    written = {
        folder / name: _adapted(text, target, repository, place, settings.access.cluster_name)
        for name, text in templates().items()
    }
    if existing := [file for file in written if file.exists()]:
        say(f"{existing[0]} exists: remove it, or choose another folder")
        raise typer.Exit(4)
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        show(str(file))
    say(f"commit {folder}, then run:")
    say(f"kubectl patch configmap argocd-cm -n argocd --patch-file {folder / 'argocd-cm.yaml'}")
    say(f"kubectl apply -f {folder / 'app-of-apps.yaml'}")


def templates() -> dict[str, str]:
    """Return the files by name: those of hooks/argocd and hooks/examples."""
    bundle = files("meshgate").joinpath("cli", "argocd.json").read_bytes()
    return msgspec.json.decode(bundle, type=dict[str, str])


def _adapted(text: str, target: str, repository: str, path: str, cluster: str) -> str:
    """Return a template with the user's values.

    Args:
        text: the template.
        target: the version of Istio.
        repository: the URL of the git repository.
        path: the folder in the repository.
        cluster: the cluster's name, or empty.
    """
    text = re.sub(r"^version: 1\.\d+\.\d+$", f"version: {target}", text, flags=re.MULTILINE)
    if cluster:
        gates = f"gates: {{ clusterName: {cluster} }}"
        text = re.sub(r"^gates: \{\}$", gates, text, flags=re.MULTILINE)
    return text.replace(SHOWN_REPOSITORY, repository).replace(SHOWN_PATH, f"{path}/upgrade")
