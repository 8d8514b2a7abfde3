"""Options with which pytest shows something and verifies nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.snapshot.model import Snapshot
from tests.conftest import Claims, Gate
from tests.support.builders import snapshot

Recorded = Callable[[Snapshot], Path]

OLD = "GATE OPEN: of an earlier run"
SHOWING = (
    ("--help",),
    ("--markers",),
    ("--version", "--version"),
    ("--fixtures",),
    ("--fixtures-per-test",),
    ("--setup-plan",),
    ("--setup-only",),
    ("-p", "cacheprovider", "--cache-show"),
    ("--co",),
)
IDS = [each[-1] for each in SHOWING]
# of the project, without `-p no:cacheprovider`
CONFIGURATION = "[pytest]\nmeshgate = true\npython_files = verify_*.py\n"
ONE = """
@pytest.mark.check("CP001")
def test_passes(mesh): ...
"""


@pytest.fixture
def reports(tmp_path: Path) -> dict[str, Path]:
    """The reports of an earlier run."""
    folder = tmp_path / "reports"
    folder.mkdir()
    files = {name: folder / name for name in ("verdict.json", "index.html", "junit.xml")}
    for file in files.values():
        file.write_text(OLD)
    return files


@pytest.fixture
def project(claims: Claims) -> Path:
    """A project with one check, in which pytest has its cache."""
    folder = claims(ONE)
    (folder / "pytest.ini").write_text(CONFIGURATION)
    return folder


@pytest.mark.parametrize(
    ("options", "given"),
    [
        *((each, "last") for each in SHOWING),
        (("--help",), "first"),  # pytest parses no option after it
        (("--help",), "PYTEST_ADDOPTS"),
        (("--co",), "PYTEST_ADDOPTS"),
    ],
    ids=[*IDS, "--help first", "--help in the environment", "--co in the environment"],
)
def test_it_closes_the_gate_in_a_job(
    gate: Gate,
    recorded: Recorded,
    project: Path,
    reports: dict[str, Path],
    options: tuple[str, ...],
    given: str,
) -> None:
    where: dict[str, Any] = {"PYTEST_ADDOPTS": " ".join(options)} if "ADDOPTS" in given else {}
    first, last = options if given == "first" else (), options if given == "last" else ()
    gated = (f"--snapshot={recorded(snapshot())}", "--job=a/b")

    run = gate(*first, *gated, *last, cwd=project, **where)

    assert run.code == 4, run.out
    assert "verifies nothing, which a gate's Job does not allow" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"
    verdict = json.loads(reports["verdict.json"].read_text())
    assert (verdict["gate"], verdict["exit"], verdict["checks"]) == ("closed", 4, [])
    assert "verifies nothing" in verdict["reason"]
    assert "verifies nothing" in reports["index.html"].read_text()
    assert not reports["junit.xml"].exists()


def test_a_job_in_the_settings_file_is_one(
    gate: Gate, recorded: Recorded, project: Path, reports: dict[str, Path]
) -> None:
    (project / "meshgate.toml").write_text('[reports]\njob = "a/b"\n')

    run = gate(f"--snapshot={recorded(snapshot())}", "--help", cwd=project)

    assert run.code == 4, run.out
    assert json.loads(reports["verdict.json"].read_text())["gate"] == "closed"


@pytest.mark.parametrize("options", SHOWING, ids=IDS)
def test_it_is_pytests_own_elsewhere(
    gate: Gate,
    recorded: Recorded,
    project: Path,
    reports: dict[str, Path],
    options: tuple[str, ...],
) -> None:
    run = gate(f"--snapshot={recorded(snapshot())}", *options, cwd=project)

    assert run.code == 0, run.out
    assert "GATE" not in run.out
    assert {each.read_text() for each in reports.values()} == {OLD}


def test_an_error_of_it_touches_no_report_elsewhere(
    gate: Gate, project: Path, reports: dict[str, Path]
) -> None:
    run = gate("--collect-only", "--check=XX*", cwd=project)

    assert run.code == 4, run.out
    assert "no check has an id like 'XX*'" in run.out
    assert {each.read_text() for each in reports.values()} == {OLD}
