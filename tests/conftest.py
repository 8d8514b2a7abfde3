"""What several tests need: servers that end with their test, and the gate as a person runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import msgspec
import pytest

from meshgate.catalogue import STAGES
from meshgate.collect.istiod import MONITORING_PORT
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import save
from tests.support import fakes
from tests.support.fakes import Answers, Server
from tests.support.verdict_lines import unwrapped, verdict_lines

ROOT = Path(__file__).resolve().parents[1]


class Run(msgspec.Struct, frozen=True):
    """A run that has ended: what it exited with and what it printed."""

    code: int
    out: str
    folder: Path

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty, each with its fix and its continuations."""
        return unwrapped(self.out)

    @property
    def last(self) -> str:
        """The last of them."""
        return self.lines[-1]

    def of(self, check: str) -> list[str]:
        """The verdict's lines of one check."""
        return [line for line in self.verdict if line.split()[1:2] == [check]]

    @property
    def verdict(self) -> list[str]:
        """The lines of every check, from verdict.json."""
        return verdict_lines(self.folder / "reports/verdict.json")

    @property
    def junit(self) -> dict[str, dict[str, str]]:
        """The properties of every case of the JUnit report, by test name."""
        cases = ElementTree.parse(self.folder / "reports/junit.xml").iter("testcase")
        return {
            case.attrib["name"]: {
                each.attrib["name"]: each.attrib["value"] for each in case.iter("property")
            }
            for case in cases
        }


Gate = Callable[..., Run]
Claims = Callable[[str], Path]
Serve = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    """The claims' own markers, for tests that import claims."""
    # a shell ignores SIGINT for background jobs, and the processes of the tests would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stage in STAGES:
        config.addinivalue_line("markers", f"{stage}: a stage of the claims")
    config.addinivalue_line("markers", "check(id): the row of a claim")


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as servers:

        def started(answers: Answers, host: str = "127.0.0.1", port: int = 0) -> Server:
            return servers.enter_context(Server(answers, host, port).serving())

        yield started


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[Snapshot], Path]:
    """Writes a snapshot to a file."""

    def write(snapshot: Snapshot) -> Path:
        file = tmp_path / "recorded.json.gz"
        save(snapshot, file)
        return file

    return write


@pytest.fixture
def started(tmp_path: Path) -> Gate:
    """Runs this Python in a process of its own, as on a machine without any cluster.

    A variable that is None is not in its environment.
    """

    def run(*arguments: object, cwd: Path, **environment: str | None) -> Run:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        kept |= {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "no-kubeconfig")}
        # what only our own tests have is not loaded, as in the image
        kept |= {"PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:anyio"}
        env = {name: value for name, value in {**kept, **environment}.items() if value is not None}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return Run(done.returncode, done.stdout, tmp_path)

    return run


@pytest.fixture
def gate(started: Gate, tmp_path: Path) -> Gate:
    """Runs pytest as a person does, from the project's folder or from `cwd`; reports go aside."""

    def run(*arguments: object, cwd: Path = ROOT, **environment: str | None) -> Run:
        reports = tmp_path / "reports"
        return started(
            "-m",
            "pytest",
            f"--junitxml={reports / 'junit.xml'}",
            f"--html={reports / 'index.html'}",
            f"--save-snapshot={reports / 'snapshot.json.gz'}",
            f"--json={reports / 'verdict.json'}",
            *arguments,
            cwd=cwd,
            **environment,
        )

    return run


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    """A project folder with our configuration and these claims in place of the shipped ones."""

    def write(source: str) -> Path:
        folder = tmp_path / "project"
        (folder / "verification").mkdir(parents=True)
        for name in ("pytest.ini", "conftest.py"):
            (folder / name).write_bytes((ROOT / name).read_bytes())
        header = "import pytest\nfrom meshgate.verdict import *\n\n"
        (folder / "verification/verify_these.py").write_text(header + dedent(source))
        return folder

    return write


class Estate(msgspec.Struct, frozen=True):
    """A cluster of fakes: the options that lead to it, and its servers."""

    options: tuple[str, ...]
    api: Server
    istiod: Server
    istioctl: Path


@pytest.fixture
def estate(serve: Serve, tmp_path: Path) -> Callable[[Snapshot], Estate]:
    """A cluster that holds what a snapshot holds, with one istiod and an istioctl."""

    def started(held: Snapshot) -> Estate:
        api = serve(fakes.api_answers(held))
        proxies = [proxy for reading in held.istiod for proxy in reading.proxies]
        istiod = serve(fakes.istiod_answers(proxies), fakes.address(), MONITORING_PORT)
        istioctl = fakes.istioctl(tmp_path / "istioctl")
        (tmp_path / "token").write_text("a-token")
        options = (
            f"--kubeconfig={fakes.kubeconfig(tmp_path / 'kubeconfig', api.url)}",
            "--istiod-access=direct",
            f"--istiod-token-file={tmp_path / 'token'}",
            f"--istioctl={istioctl}",
            "--window=0",
        )
        return Estate(options, api, istiod, istioctl)

    return started
