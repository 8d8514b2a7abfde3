"""The chart, rendered by the helm that the lab pins."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import schemas
from tests.conftest import ROOT
from tests.support.go_programs import built

CHART = ROOT / "hooks/meshgate"
KUBERNETES = "1.34.4"  # a helm that is built from source takes 1.20 for granted
Render = Callable[..., list[dict[str, Any]]]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Conform = Callable[[str], "subprocess.CompletedProcess[str]"]


def run_helm(*words: object, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run helm for the lab's Kubernetes, with this text as its input."""
    program = built("helm", "ci/lab/go/helm")
    return subprocess.run(
        [program, *map(str, words), f"--kube-version={KUBERNETES}"],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def rendered(*words: object) -> str:
    """What the chart makes of these words for helm."""
    done = run_helm("template", "meshgate", CHART, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def actionlint() -> Path:
    """The linter of workflows."""
    return built("actionlint", "ci/tools")


@pytest.fixture(scope="session")
def kustomize() -> Path:
    """What Argo CD builds a kustomization with."""
    return built("kustomize", "ci/tools")


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    """What holds objects against schemas."""
    return built("kubeconform", "ci/tools")


def conforming(kubeconform: Path, folder: Path) -> Conform:
    """Return what runs kubeconform on objects, strictly, with the schemas in a folder."""

    def run(objects: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [kubeconform, "-strict", f"-schema-location={folder}/{schemas.NAMES}", "-"],
            input=objects,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def helm() -> Helm:
    """Runs it, whether it succeeds or not."""
    return run_helm


@pytest.fixture
def render() -> Render:
    """The objects that the chart makes of one of its ci/ values, with more words for helm."""

    def run(situation: str, *words: str) -> list[dict[str, Any]]:
        values = CHART / f"ci/{situation}-values.yaml"
        return [each for each in yaml.safe_load_all(rendered("--values", values, *words)) if each]

    return run
