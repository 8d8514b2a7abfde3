"""The cluster fails, or the run is killed, at a random point of each stage: nothing is left.

A verdict may be OPEN only if its evidence was read before the fault.  The points are drawn from
seeds, within the time that the stage takes without a fault.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from meshgate.collect.rights import PROBES
from meshgate.snapshot.store import load
from tests.lab.harness import LAB, NEW, ROOT, UNRELEASED, Lab, lab_of, until
from tests.lab.rights import VERIFIER, grant

IMAGE = "docker.io/lab/python:1"
ISTIOD = ("deployment/istiod", "-n", "istio-system")
OPTIONS = {
    "precheck": (f"--target-version={UNRELEASED}",),
    "controlplane": (),
    "ingress": (),
    "dataplane": (f"--probe-pair={IMAGE}", "--probe-deadline=60"),
}
LONGEST = 240  # seconds until a run of which the cluster fails has to have ended


class Run:
    """One run of a stage as the verifier, and what it leaves."""

    def __init__(self, lab: Lab, stage: str, folder: Path) -> None:
        grant(lab)
        self.reports, self.temporary = folder / "reports", folder / "tmp"
        self.temporary.mkdir()
        self._pid = folder / "pid"
        self._process = subprocess.Popen(
            [
                *(LAB, "exec", "--name", lab.name, "--as", VERIFIER, "env"),
                *(f"TMPDIR={self.temporary}", "sh", "-c", 'echo $$ >"$0"; exec "$@"', self._pid),
                *(sys.executable, "-m", "pytest", "-m", stage, f"--reports={self.reports}"),
                *("--settle=20", "--window=2", "--deadline=150", *OPTIONS[stage]),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def send(self, sent: signal.Signals) -> None:
        """Send a signal to the run itself; one that has ended gets none."""
        with suppress(ProcessLookupError, FileNotFoundError, ValueError):
            pid = int(self._pid.read_text())
            if f"TMPDIR={self.temporary}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, sent)

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(timeout=LONGEST)

    @property
    def verdict(self) -> dict[str, Any]:
        """What verdict.json says; empty if there is none."""
        file = self.reports / "verdict.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    @property
    def read_istiod(self) -> datetime:
        """When istiod was last read for its verdict."""
        held = load(self.reports / "snapshot.json.gz")
        return max((each.read for each in held.istiod if each.read), default=held.started)

    @property
    def restarts(self) -> int:
        """How often istiod had restarted when its pods were listed."""
        held = load(self.reports / "snapshot.json.gz")
        return sum(
            status.restart_count
            for pod in held.pods
            if pod.metadata.labels.get("app") == "istiod"
            for status in pod.status.container_statuses
        )

    @property
    def read_until(self) -> datetime:
        """When the evidence of its verdict was complete."""
        return load(self.reports / "snapshot.json.gz").taken

    def processes(self) -> list[str]:
        """The processes that it started and that still run."""
        marker = f"TMPDIR={self.temporary}".encode()
        found = []
        for each in Path("/proc").iterdir():
            with suppress(OSError):
                if each.name.isdigit() and marker in (each / "environ").read_bytes().split(b"\0"):
                    found.append((each / "comm").read_text().strip())
        return found


@pytest.fixture(scope="module")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab for these tests only: checks would count the restarts of its proxies and istiod."""
    with lab_of(NEW, tmp_path_factory.mktemp("runs")) as lab:
        yield lab


@pytest.fixture(scope="module")
def seconds(running_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """How long each stage takes without a fault."""
    running_lab.verb("reset")
    found = {}
    for stage in OPTIONS:
        run = Run(running_lab, stage, tmp_path_factory.mktemp(stage))
        began = time.monotonic()
        code = run.ended()
        found[stage] = time.monotonic() - began
        assert code in (0, 1), stage  # the target of stage A is no release
        assert run.verdict, stage
    return found


@pytest.fixture
def healthy(lab: Lab) -> Iterator[Lab]:
    """The mesh; it is healthy again after the test."""
    yield lab
    until(lambda: _healthy(lab), timeout=300)


def _healthy(lab: Lab) -> bool:
    try:
        lab.verb("reset")
    except AssertionError:
        return False  # the node still starts
    return True


def _without_istiod(lab: Lab) -> None:
    lab.kubectl("scale", *ISTIOD, "--replicas=0")
    where = ("-n", "istio-system", "--for=delete", "--timeout=60s")
    lab.kubectl("wait", "pod", "-l", "app=istiod", *where)


def _without_api_server(lab: Lab) -> None:
    for process in lab.verb("node", "ps", "-C", "kube-apiserver", "-o", "pid=").split():
        lab.verb("node", "kill", "-KILL", process)


def _crashed(lab: Lab) -> None:
    lab.verb("crash")


FAULTS: dict[str, Callable[[Lab], None]] = {
    "istiod": _without_istiod,
    "API server": _without_api_server,
    "node": _crashed,
}


@pytest.mark.parametrize("stage", OPTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_cluster_that_fails_during_a_run(
    healthy: Lab, seconds: dict[str, float], tmp_path: Path, stage: str, fault: str
) -> None:
    before = restarts(healthy)
    run = Run(healthy, stage, tmp_path)
    # the moment of the fault, and not a wait for something
    time.sleep(seconds[stage] * Random(f"{stage} {fault}").uniform(0.1, 0.9))
    FAULTS[fault](healthy)
    effective = datetime.now(UTC)
    code = run.ended()

    assert code in (0, 1, 10), run.verdict
    assert run.verdict["exit"] == code
    assert run.processes() == []
    assert list(run.temporary.iterdir()) == []
    if code == 0:
        # the gate may open if the API server or the node starts again within the run's time, and
        # all was read after that
        if fault == "istiod":
            assert run.read_istiod < effective, run.verdict
        if fault == "node":
            assert run.read_until < effective or run.restarts > before, run.verdict
        replay = healthy.pytest("-m", stage, f"--snapshot={run.reports}/snapshot.json.gz")
        assert replay.exit == 0, replay.output
    until(lambda: _nothing_left(healthy), timeout=240)


def restarts(lab: Lab) -> int:
    """How often istiod has restarted."""
    listed = lab.kubectl("get", "pods", "-n", "istio-system", "-l", "app=istiod", "-o", "json")
    return sum(
        status["restartCount"]
        for pod in json.loads(listed)["items"]
        for status in pod["status"].get("containerStatuses", ())
    )


def _nothing_left(lab: Lab) -> bool:
    done = lab.run("kubectl", "get", "jobs,pods,services", "-n", PROBES, "-o", "name")
    return done.returncode == 0 and not done.stdout.strip()


@pytest.mark.parametrize("stage", OPTIONS)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_run_that_is_killed_at_a_random_point(
    lab: Lab, seconds: dict[str, float], tmp_path: Path, stage: str, sent: signal.Signals
) -> None:
    run = Run(lab, stage, tmp_path)
    time.sleep(seconds[stage] * Random(f"{stage} {sent.name}").uniform(0.1, 0.8))
    run.send(sent)
    code = run.ended()

    assert code != 0
    assert run.verdict.get("gate") != "open", run.verdict
    if sent is signal.SIGTERM:
        # there is no report if Python had not yet started pytest
        assert run.verdict.get("exit", code) == code
        assert list(run.temporary.iterdir()) == []
    until(lambda: run.processes() == [], timeout=30)
    # a killed run removes nothing: its Jobs have a deadline
    until(lambda: _nothing_left(lab), timeout=240)
