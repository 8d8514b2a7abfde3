"""`meshgate init argocd`: files that need no other edit than the version."""

from collections.abc import Callable
from pathlib import Path

import yaml

from tests.conftest import Gate, Run

MESHGATE = ("-c", "from meshgate.cli import app; app()")
REPOSITORY = "https://git.example.org/team/mesh.git"

Meshgate = Callable[..., Run]


def run(started: Gate, folder: Path, *words: str) -> Run:
    """Run the command in an empty folder."""
    return started(*MESHGATE, "init", "argocd", "platform/istio", *words, cwd=folder)


def test_the_files_have_the_version_and_the_names(started: Gate, tmp_path: Path) -> None:
    options = ("--target-version=1.30.4", f"--repository={REPOSITORY}", "--cluster-name=prod-eu")
    done = run(started, tmp_path, *options)

    assert done.code == 0, done.out
    folder = tmp_path / "platform/istio"
    project, parent = yaml.safe_load_all((folder / "app-of-apps.yaml").read_text())
    assert project["kind"] == "AppProject"
    assert parent["spec"]["source"]["repoURL"] == REPOSITORY
    assert parent["spec"]["source"]["path"] == "platform/istio/upgrade"
    values = yaml.safe_load((folder / "upgrade/values.yaml").read_text())
    assert values["version"] == "1.30.4"
    assert values["gates"] == {"clusterName": "prod-eu"}
    assert yaml.safe_load((folder / "upgrade/Chart.yaml").read_text())["version"] == "0.1.0"
    assert (folder / "upgrade/templates/applications.yaml").exists()
    health = yaml.safe_load((folder / "argocd-cm.yaml").read_text())["data"]
    assert "resource.customizations.health.argoproj.io_Application" in health


def test_nothing_is_overwritten(started: Gate, tmp_path: Path) -> None:
    options = ("--target-version=1.31.0", f"--repository={REPOSITORY}")
    file = tmp_path / "platform/istio/argocd-cm.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("mine")

    done = run(started, tmp_path, *options)

    assert done.code == 4, done.out
    assert "argocd-cm.yaml exists" in done.out
    assert [file] == [each for each in tmp_path.rglob("*") if each.is_file()]
    assert file.read_text() == "mine"


def test_the_target_must_be_a_complete_version(started: Gate, tmp_path: Path) -> None:
    done = run(started, tmp_path, "--target-version=1.31", f"--repository={REPOSITORY}")

    assert done.code == 4, done.out
    assert "--target-version=X.Y.Z" in done.out
