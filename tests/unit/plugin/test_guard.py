"""Whatever ends a run, its exit code, its last line and its reports agree."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meshgate.snapshot.model import Snapshot
from tests.conftest import Claims, Gate
from tests.support.builders import snapshot

Recorded = Callable[[Snapshot], Path]

ONE = """
@pytest.mark.check("CP001")
def test_passes(mesh): ...
"""
# a plugin that ends the run in a hook, first or last of all plugins
PLUGIN = """
import os, signal
import pytest

class Plugin:
    @pytest.hookimpl({order}=True)
    def {hook}:
        {body}

pytest_plugins = ["meshgate.plugin"]

@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    config.pluginmanager.register(Plugin())
"""
STOP = "os.kill(os.getpid(), signal.{0})"
CASES = {
    "a crash before the session": ("pytest_sessionstart(self)", "1 / 0", 3, "ZeroDivisionError"),
    "a crash in another plugin's set-up": ("pytest_configure(self)", "1 / 0", 3, "the run"),
    "a usage error in it": (
        "pytest_configure(self)",
        "raise pytest.UsageError('no such thing.')",
        4,
        "no such thing",
    ),
    "an end before the session": (
        "pytest_sessionstart(self)",
        "pytest.exit('enough', returncode=0)",
        10,
        "enough",
    ),
    "SIGTERM before the session": (
        "pytest_sessionstart(self)",
        STOP.format("SIGTERM"),
        2,
        "the run ended early",
    ),
    "a crash after the session": ("pytest_unconfigure(self)", "1 / 0", 3, "ZeroDivisionError"),
    "an exit after the session": (
        "pytest_unconfigure(self)",
        "raise SystemExit(0)",
        3,
        "SystemExit",
    ),
    "SIGTERM at the end": ("pytest_sessionfinish(self)", STOP.format("SIGTERM"), 0, ""),
    "SIGINT after the session": ("pytest_unconfigure(self)", STOP.format("SIGINT"), 0, ""),
    "SIGTERM after the session": ("pytest_unconfigure(self)", STOP.format("SIGTERM"), 0, ""),
    "SIGTERM when the process ends": (
        "pytest_unconfigure(self)",
        f"import atexit; atexit.register(lambda: {STOP.format('SIGTERM')})",
        0,
        "",
    ),
}


@pytest.mark.parametrize("order", ["tryfirst", "trylast"])
@pytest.mark.parametrize(("hook", "body", "code", "why"), CASES.values(), ids=CASES)
def test_a_plugin_that_ends_the_run(
    gate: Gate,
    recorded: Recorded,
    claims: Claims,
    tmp_path: Path,
    hook: str,
    body: str,
    code: int,
    why: str,
    order: str,
) -> None:
    project = claims(ONE)
    (project / "conftest.py").write_text(PLUGIN.format(hook=hook, body=body, order=order))
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/verdict.json").write_text("GATE OPEN: of an earlier run")

    run = gate(f"--snapshot={recorded(snapshot())}", cwd=project)

    assert run.code == code, run.out
    assert why in run.out
    assert run.last.startswith("GATE OPEN" if code == 0 else "GATE CLOSED"), run.out
    assert f"(exit {code}" in run.last
    verdict = json.loads((tmp_path / "reports/verdict.json").read_text())
    assert (verdict["gate"], verdict["exit"]) == ("open" if code == 0 else "closed", code)
    assert why in verdict["reason"]
    assert ("GATE OPEN" in (tmp_path / "reports/index.html").read_text()) is (code == 0)


def test_a_wrong_place_for_workers_ends_with_reports(
    gate: Gate, recorded: Recorded, tmp_path: Path
) -> None:
    run = gate(f"--snapshot={recorded(snapshot())}", "--tx=nonsense", "-d")

    assert run.code == 3, run.out
    assert "no gateway type found" in run.last
    assert "no gateway type found" in (tmp_path / "reports/verdict.json").read_text()
    assert "no gateway type found" in (tmp_path / "reports/index.html").read_text()


def test_a_plugin_that_replaces_the_run_opens_no_gate(
    gate: Gate, recorded: Recorded, claims: Claims, tmp_path: Path
) -> None:
    project = claims(ONE)
    (project / "conftest.py").write_text(
        """
import pytest
pytest_plugins = ["meshgate.plugin"]

@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    return 0
"""
    )

    run = gate(f"--snapshot={recorded(snapshot())}", cwd=project)

    assert run.code == 10, run.out
    assert run.last.startswith("GATE CLOSED: the run ended early")
    assert json.loads((tmp_path / "reports/verdict.json").read_text())["exit"] == 10


BROKEN = {
    "an import error": "import no_such_module",
    "an exit": "raise SystemExit(0)",
    "a plugin that cannot be imported": "pytest_plugins = ['no_such_plugin']",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("is_project", [True, False], ids=["pytest.ini", "an option"])
def test_a_broken_conftest_leaves_no_earlier_report(
    gate: Gate, claims: Claims, tmp_path: Path, source: str, is_project: bool
) -> None:
    project = claims(ONE)
    (project / "conftest.py").write_text(source)
    if not is_project:
        (project / "pytest.ini").write_text("[pytest]")
    reports = tmp_path / "reports"
    reports.mkdir()
    for name in ("verdict.json", "index.html", "junit.xml"):
        (reports / name).write_text("GATE OPEN: of an earlier run")

    run = gate("--snapshot=does-not-matter", cwd=project)

    assert run.code == 4, run.out
    assert "cannot load the conftest files" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"
    verdict = json.loads((reports / "verdict.json").read_text())
    assert (verdict["gate"], verdict["exit"]) == ("closed", 4)
    assert "cannot load the conftest files" in verdict["reason"]
    assert "GATE OPEN" not in (reports / "index.html").read_text()
    assert not (reports / "junit.xml").exists()


def test_help_is_shown_beside_a_broken_conftest(gate: Gate, claims: Claims, tmp_path: Path) -> None:
    project = claims(ONE)
    (project / "conftest.py").write_text("import no_such_module")

    run = gate("--help", cwd=project)

    assert run.code == 0, run.out
    assert "GATE" not in run.out
    assert not (tmp_path / "reports").exists()
