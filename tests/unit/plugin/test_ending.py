"""Every way in which a run can end: exit code, last line and all reports agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.kubernetes import Metadata, Namespace
from meshgate.snapshot.model import Snapshot
from tests.conftest import Claims, Estate, Gate, Serve
from tests.support import fakes
from tests.support.builders import pushed, reading, snapshot, sync, without
from tests.support.fakes import answer

Recorded = Callable[[Snapshot], Path]

HEALTHY = snapshot()
REJECTING = snapshot(
    istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no such filter"))]),)
)
FOREIGN = """
@pytest.mark.check("CP001")
def test_passes(mesh): ...

def test_is_not_in_the_catalogue():
    assert False
"""
CRASHING = """
@pytest.mark.check("CP001")
def test_crashes(mesh):
    1 / 0
"""
INTERRUPTED = """
@pytest.mark.check("CP001")
def test_is_interrupted(mesh):
    raise KeyboardInterrupt
"""
TERMINATED = """
@pytest.mark.check("CP001")
def test_is_terminated(mesh):
    import os, signal
    os.kill(os.getpid(), signal.SIGINT)
"""
ENDED = """
@pytest.mark.check("CP001")
def test_is_terminated(mesh):
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)
"""
LEFT = """
@pytest.mark.check("CP001")
def test_ends_the_run(mesh):
    pytest.exit("enough", returncode=0)
"""
DEFECT = """
class Defect:
    def {hook}:
        raise RuntimeError("password=c4n4ry \\x1b[2K")

@pytest.mark.check("CP001")
def test_registers(mesh, pytestconfig):
    pytestconfig.pluginmanager.register(Defect())
"""
KILLED = """
@pytest.mark.check("CP001")
def test_kills_its_process(mesh):
    import os
    os._exit(7)
"""
ONE = ("-m", "controlplane", "-k", "rejects")

ENDINGS = {
    "open": (HEALTHY, "", ONE, 0),
    "a check fails": (REJECTING, "", ONE, 1),
    "could not verify": (without("istiod"), "", ONE, 10),
    "nothing selected": (HEALTHY, "", ("-k", "nothing_has_this_name"), 5),
    "damaged waivers": (HEALTHY, "", (*ONE, "--waivers=/does/not/exist"), 4),
    "a foreign failure": (HEALTHY, FOREIGN, (), 1),
    "a crash": (HEALTHY, CRASHING, (), 10),
    "a crash in a worker's process": (HEALTHY, KILLED, ("-n1",), 10),
    "the first failure ends it": (REJECTING, "", ("-m", "controlplane", "-x"), 1),
    "too many failures": (REJECTING, "", ("-m", "controlplane", "--maxfail=1"), 1),
    "an interrupt": (HEALTHY, INTERRUPTED, (), 2),
    "a signal": (HEALTHY, TERMINATED, (), 2),
    "SIGTERM": (HEALTHY, ENDED, (), 2),
    "an end that says that all is well": (HEALTHY, LEFT, (), 10),
    "a crash while collecting": (HEALTHY, "raise SystemExit(0)", (), 3),
    "an interrupt while collecting": (HEALTHY, "raise KeyboardInterrupt", (), 2),
    "an end while collecting": (HEALTHY, "pytest.exit('enough', returncode=0)", (), 4),
    "a defect of a plugin": (
        HEALTHY,
        DEFECT.format(hook="pytest_runtest_logreport(self, report)"),
        (),
        3,
    ),
    "a defect of a plugin at the end": (
        HEALTHY,
        DEFECT.format(hook="pytest_sessionfinish(self, session)"),
        (),
        3,
    ),
    "an unknown stage": (HEALTHY, "", ("-m", "no_such_stage"), 4),
    "an empty selection by --check": (HEALTHY, "", (*ONE, "--skip=CP*"), 4),
    "nothing to collect": (HEALTHY, "nothing = True", (), 5),
    "only collected": (HEALTHY, "", (*ONE, "--collect-only"), 4),
    "a file that does not exist": (HEALTHY, "", ("no/such/file.py",), 4),
    "an unknown option": (HEALTHY, "", ("--istiod-tokn=c4n4ry",), 4),
    "an option without its value": (HEALTHY, "", ("--waivers",), 4),
    "PYTEST_ADDOPTS": (HEALTHY, "", ("PYTEST_ADDOPTS=-k rolled_out",), 4),
    "a broken PYTEST_ADDOPTS": (HEALTHY, "", ("PYTEST_ADDOPTS=--no-such-option",), 4),
    "a directory that is a file": (HEALTHY, "", (*ONE, "--json=/dev/null/verdict.json"), 4),
    "an import error": (HEALTHY, "import no_such_module", (), 4),
}


JOB = "/apis/batch/v1/namespaces/gates/jobs/control-plane"
EVENTS = "/api/v1/namespaces/gates/events"


TARGET = "1.29.1"


def verdict_word(is_open: bool) -> str:
    return "open" if is_open else "closed"


@pytest.mark.parametrize(("seen", "source", "options", "code"), ENDINGS.values(), ids=ENDINGS)
def test_every_output_of_a_run_agrees(
    gate: Gate,
    recorded: Recorded,
    claims: Claims,
    serve: Serve,
    tmp_path: Path,
    seen: Snapshot,
    source: str,
    options: tuple[str, ...],
    code: int,
) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    for name in ("verdict.json", "index.html", "junit.xml"):
        (reports / name).write_text("GATE OPEN: of an earlier run")
    metrics = tmp_path / "gate.prom"
    where: dict[str, Any] = {"cwd": claims(source)} if source else {}
    where |= dict(each.split("=", 1) for each in options if each.startswith("PYTEST_ADDOPTS"))

    api = serve({JOB: answer({}), EVENTS: answer({}, 201)})
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)

    run = gate(
        *(f"--snapshot={recorded(seen)}", f"--metrics={metrics}"),
        *(f"--kubeconfig={config}", "--job=gates/control-plane@uid-1"),
        f"--target-version={TARGET}",
        *(each for each in options if not each.startswith("PYTEST_ADDOPTS")),
        **where,
    )

    is_open = code == 0
    assert run.code == code, run.out
    assert "c4n4ry" not in run.out
    assert "\x1b" not in run.out
    assert run.last.startswith("GATE OPEN" if is_open else "GATE CLOSED")
    assert f"(exit {code}" in run.last
    (patch,) = [json.loads(each.body) for each in api.requests if each.path == JOB]
    noted = patch["metadata"]["annotations"]
    assert noted["meshgate/target-version"] == TARGET
    assert (noted["meshgate/gate"], noted["meshgate/exit"]) == (verdict_word(is_open), str(code))
    # the last line also names the page
    sentence = run.last.removesuffix(str(reports / "index.html")).rstrip()
    assert noted["meshgate/verdict"].startswith(sentence)
    if "--json=/dev/null/verdict.json" in options:
        return
    verdict = json.loads((reports / "verdict.json").read_text())
    assert (verdict["gate"], verdict["exit"]) == ("open" if is_open else "closed", code)
    assert run.last.startswith(verdict["sentence"])
    for name in ("index.html", "junit.xml"):
        text = (reports / name).read_text() if (reports / name).exists() else ""
        assert "of an earlier run" not in text
        assert ("GATE OPEN" in text) is (is_open and name == "index.html")
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        if line.startswith("meshgate_gate_open{"):
            assert line.endswith(" 1.0") is is_open


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target-version=banana",), "not a version"),
        (("--context=prod",), "--context names a cluster, and --snapshot replays a file"),
        (("--dry-run",), "--dry-run plans requests"),
        (("--json=/dev/null/verdict.json",), "cannot write the report /dev/null/verdict.json"),
    ],
)
def test_a_usage_error_says_what_to_change(
    gate: Gate, recorded: Recorded, options: tuple[str, ...], words: str
) -> None:
    run = gate(f"--snapshot={recorded(HEALTHY)}", *options)

    assert run.code == 4, run.out
    assert words in run.out
    assert "GATE OPEN" not in run.out


def test_the_environment_deselects_nothing_in_a_job(gate: Gate, recorded: Recorded) -> None:
    run = gate(f"--snapshot={recorded(REJECTING)}", "--job=a/b", PYTEST_ADDOPTS="-k rolled_out")

    assert run.code == 4, run.out
    assert "PYTEST_ADDOPTS" in run.out


# the largest file of the process from the first check on, as a full disk would have it;
# without the measuring of coverage, whose own file would not fit either
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": None, "COVERAGE_PROCESS_START": None}
FULL = """
import resource

@pytest.mark.check("CP001")
def test_fills_the_disk(mesh):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
"""
REMOVED = """
import pathlib, shutil

@pytest.mark.check("CP001")
def test_removes_the_reports(mesh):
    shutil.rmtree(pathlib.Path({folder!r}))
"""


@pytest.mark.parametrize(
    ("size", "code", "missing"),
    [
        (0, 3, {"junit.xml", "verdict.json", "index.html"}),
        (300, 3, {"junit.xml", "verdict.json", "index.html"}),
        (5000, 0, {"index.html"}),
    ],
)
def test_a_full_disk_leaves_no_partial_report(
    gate: Gate,
    recorded: Recorded,
    claims: Claims,
    tmp_path: Path,
    size: int,
    code: int,
    missing: set[str],
) -> None:
    folder = claims(FULL.format(size=size))
    run = gate(f"--snapshot={recorded(HEALTHY)}", cwd=folder, **UNMEASURED)

    assert run.code == code, run.out
    assert run.last.startswith("GATE CLOSED" if code else "GATE OPEN")
    assert "index.html" not in run.last
    for name in ("junit.xml", "verdict.json", "index.html"):
        assert (tmp_path / "reports" / name).exists() is (name not in missing)
        if name in missing - {"junit.xml"}:
            assert f"note could not write {name}" in run.out


@pytest.mark.parametrize("is_live", [False, True], ids=["recorded", "live"])
def test_reports_that_are_removed_during_the_run_are_written_or_named(
    gate: Gate,
    recorded: Recorded,
    estate: Callable[[Snapshot], Estate],
    claims: Claims,
    tmp_path: Path,
    is_live: bool,
) -> None:
    reports = tmp_path / "reports"
    seen = estate(HEALTHY).options if is_live else (f"--snapshot={recorded(HEALTHY)}",)

    run = gate(*seen, cwd=claims(REMOVED.format(folder=str(reports))))

    assert run.code == 0, run.out
    assert {each.name for each in reports.iterdir()} == {"junit.xml", "verdict.json", "index.html"}
    assert ("note the evidence was removed during the run" in " ".join(run.out.split())) is is_live


@pytest.mark.parametrize("option", ["--fail-on-baseline-findings", "--old-findings-fail"])
def test_a_renamed_option_keeps_its_old_name(gate: Gate, recorded: Recorded, option: str) -> None:
    cluster = Namespace(metadata=Metadata(name="kube-system", uid="cluster"))
    file = recorded(msgspec.structs.replace(REJECTING, namespaces=(cluster,)))

    known = gate(f"--snapshot={file}", f"--baseline={file}", *ONE)
    failing = gate(f"--snapshot={file}", f"--baseline={file}", *ONE, option)

    assert (known.code, failing.code) == (0, 1), known.out + failing.out
    assert "pre-existing (in the baseline)" in known.out
