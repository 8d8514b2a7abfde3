"""The demos, and the recordings of the first release (schema 1): their verdicts never change."""

import gzip
import json
from pathlib import Path

import pytest

from tests.conftest import Gate, Run

FAULTS = {"PC101", "CP001", "CP002", "CP004", "CP006", "IG001", "DP002"}

folders = pytest.mark.parametrize("folder", ["demo", "tests/fixtures/schema-1"])


@folders
def test_a_healthy_mesh_opens_the_gate(gate: Gate, root: Path, folder: str) -> None:
    run = gate(f"--snapshot={root}/{folder}/healthy.json.gz")

    assert run.code == 0, run.out
    assert checks(run, "could not verify") == set()


@folders
def test_an_upgrade_with_faults_closes_it(gate: Gate, root: Path, folder: str) -> None:
    run = gate(f"--snapshot={root}/{folder}/broken.json.gz")

    assert run.code == 1, run.out
    assert checks(run, "fail") == FAULTS
    assert checks(run, "could not verify") == set()


@pytest.mark.parametrize("name", ["healthy", "broken"])
def test_the_recordings_of_the_first_release_have_its_schema(root: Path, name: str) -> None:
    with gzip.open(root / f"tests/fixtures/schema-1/{name}.json.gz") as file:
        header = json.loads(file.readline())

    assert header["schema"] == 1


def checks(run: Run, verdict: str) -> set[str]:
    """Return the checks with this verdict."""
    return {each["check"] for each in run.junit.values() if each["verdict"] == verdict}
