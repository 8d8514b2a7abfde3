"""A run that is killed at some point: nothing is left behind, and no report says OPEN."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from meshgate.catalogue import OPTIONAL, STAGES
from meshgate.snapshot.items import KINDS
from tests.conftest import ROOT, Estate
from tests.support import fakes
from tests.support.builders import deployment, istiod, sidecar, snapshot
from tests.support.fakes import Answer, Request, Server
from tests.support.verdict_lines import verdict_lines

Estates = Callable[..., Estate]

HELD = snapshot(pods=(istiod(ip=fakes.address()), sidecar()), deployments=(deployment(),))
# the points at which each stage is killed, and how: seeded, and the same in each run of the tests
POINTS = [
    (stage, number, each)
    for stage in STAGES
    if stage not in OPTIONAL  # they send too few requests to be killed at any of these points
    for number, each in zip(
        Random(stage).sample(range(1, 16), 3),
        (signal.SIGTERM, signal.SIGINT, signal.SIGKILL),
        strict=True,
    )
]


class Killed(msgspec.Struct, frozen=True):
    """A run that was killed: its exit code, its output, and what it left."""

    code: int
    out: str
    reports: Path
    temporary: Path
    marker: str

    @property
    def lines(self) -> list[str]:
        """Return the verdict's lines."""
        return verdict_lines(self.reports / "verdict.json")

    @property
    def processes(self) -> list[int]:
        """Return the processes that still have the run's marker in their environment."""
        return [
            int(each.name)
            for each in Path("/proc").iterdir()
            if each.name.isdigit() and self.marker.encode() in _environment(each)
        ]

    @property
    def opened(self) -> list[str]:
        """Return the reports that say that the gate is open."""
        return [
            file.name
            for file in self.reports.iterdir()
            if file.suffix in (".json", ".html", ".xml")
            and any(words in file.read_text() for words in ("GATE OPEN", '"gate": "open"'))
        ]


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _run(estate: Estate, folder: Path, stage: str, event: "Killing") -> Killed:
    reports, temporary = folder / "reports", folder / "tmp"
    reports.mkdir()
    temporary.mkdir()
    for name in ("verdict.json", "index.html", "junit.xml"):
        (reports / name).write_text("GATE OPEN: an earlier run")
    marker = f"meshgate-killed-{os.getpid()}-{time.monotonic_ns()}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "TMPDIR": str(temporary),
        "PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:anyio",
        "MARKER": marker,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-m", stage, f"--reports={reports}", *estate.options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    event.process = process
    out, _ = process.communicate(timeout=120)
    end = time.monotonic() + 20
    killed = Killed(process.returncode, out, reports, temporary, marker)
    while killed.processes and time.monotonic() < end:
        time.sleep(0.05)
    return killed


class Killing:
    """Sends a signal to a run when the API server has received a number of requests."""

    def __init__(self, api: Server, number: int, sent: signal.Signals) -> None:
        self.process: subprocess.Popen[str] | None = None
        self._left = number
        self._sent = sent
        api.answers = {path: self._counted(each) for path, each in api.answers.items()}

    def _counted(self, found: Answer | Callable[[Request], Answer]) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            self._left -= 1
            if self._left == 0 and self.process is not None:
                self.process.send_signal(self._sent)
            return found(request) if callable(found) else found

        return answer


@pytest.mark.parametrize(
    ("stage", "number", "sent"), POINTS, ids=[f"{a}-{b}-{c.name}" for a, b, c in POINTS]
)
def test_a_run_that_is_killed_leaves_nothing_and_opens_nothing(
    estate: Estates, tmp_path: Path, stage: str, number: int, sent: signal.Signals
) -> None:
    cluster = estate(HELD)
    # istioctl waits: a run that is killed must end it
    fakes.istioctl(cluster.istioctl, analyze="sleep 300", precheck="sleep 300")

    killed = _run(cluster, tmp_path, stage, Killing(cluster.api, number, sent))

    assert killed.code != 0, killed.out
    assert killed.processes == []
    assert killed.opened == []
    if sent is not signal.SIGKILL:
        assert killed.out.rstrip().splitlines()[-1].startswith("GATE CLOSED"), killed.out
        assert json.loads((killed.reports / "verdict.json").read_text())["gate"] == "closed"
        assert list(killed.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [1, 4, 9])
def test_an_api_server_that_dies_closes_the_gate(
    estate: Estates, tmp_path: Path, number: int
) -> None:
    cluster = estate(HELD)
    left = [number]

    def dying(found: Answer | Callable[[Request], Answer]) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            left[0] -= 1
            if left[0] < 0:
                raise ConnectionAbortedError  # the connection is closed without an answer
            return found(request) if callable(found) else found

        return answer

    cluster.api.answers = {path: dying(each) for path, each in cluster.api.answers.items()}
    ended = _run(cluster, tmp_path, "controlplane", Killing(cluster.api, -1, signal.SIGTERM))

    assert ended.code in (1, 10), ended.out
    assert ended.opened == []
    assert any(each.startswith("UNKNOWN") for each in ended.lines)
    assert ended.out.rstrip().splitlines()[-1].startswith("GATE CLOSED")


def _drip() -> Iterator[bytes]:
    while True:
        time.sleep(0.2)
        yield b" "


def test_the_deadline_cuts_off_what_hangs_and_keeps_the_rest(
    estate: Estates, tmp_path: Path
) -> None:
    cluster = estate(HELD)
    fakes.istioctl(cluster.istioctl, analyze="sleep 300", precheck="sleep 300")
    cluster.api.answers[KINDS["destination_rules"].path] = Answer(chunks=_drip())
    limits = ("--deadline=8", "--request-timeout=2")
    began = time.monotonic()

    ended = _run(
        msgspec.structs.replace(cluster, options=(*cluster.options, *limits)),
        tmp_path,
        "controlplane",
        Killing(cluster.api, -1, signal.SIGTERM),
    )

    assert time.monotonic() - began < 60
    assert ended.code in (1, 10), ended.out  # the fake istiod has no webhooks
    assert "the run's deadline passed before this was read" in " ".join(ended.out.split())
    assert any(each.startswith("pass CP001") for each in ended.lines)
    assert json.loads((ended.reports / "verdict.json").read_text())["gate"] == "closed"
    assert (ended.opened, ended.processes, list(ended.temporary.iterdir())) == ([], [], [])
