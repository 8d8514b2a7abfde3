"""The chart, rendered by the helm that the lab pins."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CHART = ROOT / "hooks/meshgate"
KUBERNETES = "1.34.4"  # a helm that is built from source takes 1.20 for granted
Render = Callable[..., list[dict[str, Any]]]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def program() -> Path:
    """helm, as go.sum vouches for it; built the first time (about a minute), then cached."""
    found = subprocess.run(
        ["go", "tool", "-n", "helm"],
        cwd=ROOT / "ci/lab/go/helm",
        env={**os.environ, "GOFLAGS": "-buildvcs=false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"the chart's tests need Go: {found.stderr}"
    return Path(found.stdout.strip())


@pytest.fixture
def helm(program: Path) -> Helm:
    """Runs it."""

    def run(*words: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program, *map(str, words), f"--kube-version={KUBERNETES}"],
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def render(helm: Helm) -> Render:
    """The objects that the chart makes of one of its ci/ values, with more words for helm."""

    def run(situation: str, *words: str) -> list[dict[str, Any]]:
        values = CHART / f"ci/{situation}-values.yaml"
        done = helm("template", "meshgate", CHART, "--values", values, *words)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return run
