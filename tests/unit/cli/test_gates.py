"""verify, demo and replay: pytest with the project's checks, from any directory."""

import shutil
from pathlib import Path

import pytest

from meshgate import __version__
from meshgate.catalogue import checks
from meshgate.report.json import read
from tests.conftest import ROOT, Gate, Run

MESHGATE = ("-m", "meshgate")
HEALTHY = ROOT / "demo/healthy.json.gz"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory that has nothing to do with the project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def ran(folder: Path) -> list[str]:
    """Return the checks in the verdict.json of a run in this directory."""
    return [row.id for row in read(folder / "reports/verdict.json").checks]


@pytest.mark.parametrize(("words", "code", "gate"), [((), 0, "OPEN"), (("--broken",), 1, "CLOSED")])
def test_the_demo_needs_nothing(
    started: Gate, elsewhere: Path, words: tuple[str, ...], code: int, gate: str
) -> None:
    run = started(*MESHGATE, "demo", *words, cwd=elsewhere)

    assert run.code == code, run.out
    assert run.lines[0].startswith("a recording of a")
    assert run.last.startswith(f"GATE {gate}  ")
    assert {each.name for each in elsewhere.iterdir()} == {"reports"}


def test_verify_runs_the_stages_that_are_named(started: Gate, elsewhere: Path) -> None:
    stages = ("--stage=ingress", "--stage=controlplane")

    run = started(*MESHGATE, "verify", *stages, f"--snapshot={HEALTHY}", cwd=elsewhere)

    assert run.code == 0, run.out
    wanted = ("controlplane", "ingress")
    assert ran(elsewhere) == [row.id for row in checks().values() if row.stage in wanted]


def test_verify_passes_each_kind_of_option(started: Gate, elsewhere: Path) -> None:
    custom = (f"--checks={ROOT / 'examples/checks'}", "--check=ACME*,CP001", "--check=CP002")

    run = started(*MESHGATE, "verify", *custom, f"--snapshot={HEALTHY}", "--skip=CP002",
                  "--reports=aside", "--fail-on-baseline-findings", cwd=elsewhere)  # fmt: skip

    assert run.code == 0, run.out
    assert [row.id for row in read(elsewhere / "aside/verdict.json").checks] == [
        "ACME-001",
        "CP001",
        "ACME-002",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--stage=controlplan",), "--stage: 'controlplan' is not one of precheck"),
        (("--check=XX*",), "no check has an id like 'XX*'"),
        (("--target-version=banana",), "'banana' is not a version"),
        (("--no-such-option",), "No such option"),
        ((), "no cluster to look at"),
    ],
)
def test_wrong_usage_has_the_exit_code_of_pytest(
    started: Gate, elsewhere: Path, words: tuple[str, ...], message: str
) -> None:
    run = started(*MESHGATE, "verify", *words, cwd=elsewhere)

    assert run.code == 4, run.out
    assert message in run.out


def test_files_in_the_current_directory_change_nothing(started: Gate, elsewhere: Path) -> None:
    (elsewhere / "conftest.py").write_text("raise SystemExit('imported')")
    (elsewhere / "httpx.py").write_text("raise SystemExit('imported')")
    (elsewhere / "pytest.ini").write_text("[pytest]\naddopts = -k nothing")

    rules = shutil.copytree(ROOT / "examples/checks", elsewhere / "rules")

    run = started(*MESHGATE, "verify", f"--snapshot={HEALTHY}", f"--checks={rules}", cwd=elsewhere,
                  PYTEST_ADDOPTS="-k nothing")  # fmt: skip

    assert run.code == 0, run.out
    assert len(ran(elsewhere)) == len(checks()) + 2


def test_a_settings_file_is_read_from_the_current_directory(started: Gate, elsewhere: Path) -> None:
    (elsewhere / "meshgate.toml").write_text(
        f'[run]\nsnapshot = "{HEALTHY}"\ncheck = ["CP001"]\n[reports]\nreports = "aside"\n'
    )

    run = started(*MESHGATE, "verify", cwd=elsewhere)
    other = started(*MESHGATE, "verify", "--check=CP002", "--reports=reports", cwd=elsewhere)

    assert (run.code, other.code) == (0, 0), run.out + other.out
    assert ran(elsewhere) == ["CP002"]
    assert (elsewhere / "aside/verdict.json").exists()


@pytest.mark.parametrize("words", [(), ("--settings=mine.toml",)], ids=["beside", "named"])
def test_the_other_commands_read_it_too(
    started: Gate, elsewhere: Path, words: tuple[str, ...]
) -> None:
    name = "mine.toml" if words else "meshgate.toml"
    (elsewhere / name).write_text('[access]\ncontext = "from-the-file"\n')

    run = started(*MESHGATE, "capture", "x.json.gz", *words, cwd=elsewhere)

    assert run.code == 4, run.out
    (elsewhere / name).write_text("[access]\nno-such-setting = 1\n")
    wrong = started(*MESHGATE, "capture", "x.json.gz", *words, cwd=elsewhere)
    assert wrong.code == 4
    assert "no-such-setting" in wrong.out


def test_the_version_is_printed(started: Gate, elsewhere: Path) -> None:
    run = started(*MESHGATE, "--version", cwd=elsewhere)

    assert (run.code, run.lines) == (0, [f"meshgate {__version__}"])


def test_kubectl_runs_it_under_its_own_name(started: Gate, elsewhere: Path) -> None:
    run: Run = started("-c", "from meshgate.cli import kubectl; kubectl()", "--help", cwd=elsewhere)

    assert run.code == 0, run.out
    assert "Usage: kubectl meshgate" in run.out
