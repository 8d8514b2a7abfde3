"""The lab's verbs and one run of a stage, as the tests use them."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.verdict_lines import unwrapped, verdict_lines

ROOT = Path(__file__).parents[2]
LAB = ROOT / "ci" / "lab" / "lab"
NODE = "172.30.0.2"
CLASSIC = {"http": f"{NODE}:30080", "https": f"{NODE}:30443"}  # the gateway of istio-ingress
VERSIONS = tuple(sorted(tomllib.loads((LAB.parent / "versions.toml").read_text())["istio"]))
UPGRADES = tuple(itertools.pairwise(VERSIONS))  # one minor version each
OLD, NEW = UPGRADES[-1]  # the newest release, and the one before it
_numbers = itertools.count(1)  # of the labs that this process starts
UNRELEASED = "1.99.0"  # a target that nothing runs yet


class Stage:
    """One run of a stage, as a user would see it."""

    def __init__(self, done: subprocess.CompletedProcess[str], reports: Path) -> None:
        self.exit = done.returncode
        self.verdict = verdict_lines(reports / "verdict.json")
        # what was printed follows what the report says: one line for each finding, with its fix
        printed = unwrapped(done.stdout + done.stderr)
        self.output = "\n".join((*self.verdict, *printed))
        self.reports = reports

    @property
    def failures(self) -> list[str]:
        """The lines that say what is wrong, in the order in which they are printed."""
        return [line for line in self.verdict if line.startswith(("FAIL ", "UNKNOWN "))]

    @property
    def first(self) -> str:
        """The first of them; the whole output where there is none, so that a test shows it."""
        return self.failures[0] if self.failures else self.output


class Lab:
    """The lab's verbs, as the tests use them."""

    def __init__(self, name: str, workspace: Path) -> None:
        self.name = name
        self._workspace = workspace
        self._runs = 0

    def verb(self, verb: str, *words: str, input: str | None = None) -> str:
        """One verb of the lab's own program: what it printed; a failure is the test's."""
        done = subprocess.run(
            [LAB, verb, "--name", self.name, *words],
            capture_output=True,
            text=True,
            check=False,
            input=input,
        )
        assert done.returncode == 0, f"lab {verb} {' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def printed(self, name: str, verb: str, *words: str) -> str:
        """What that verb prints in its line `name: …`."""
        lines = self.verb(verb, *words).splitlines()
        (found,) = [
            line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")
        ]
        return found

    def run(
        self, *command: str, identity: str | None = None, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command in the lab's network; `identity` (namespace/name) is a ServiceAccount."""
        actor = ["--as", identity] if identity else []
        return subprocess.run(
            [LAB, "exec", "--name", self.name, *actor, *command],
            capture_output=True,
            text=True,
            check=False,
            input=input,
            cwd=ROOT,
        )

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A command in the lab's network, while it runs: its process, not the lab's."""
        words = [str(LAB), "exec", "--name", self.name, *command]
        return subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """kubectl as the cluster's administrator; a failure is the test's."""
        done = self.run("kubectl", *words, input=input)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Creates or changes objects."""
        self.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, objects)))

    def get(self, *words: str) -> Any:
        """One object or list, decoded."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def pod(self, namespace: str, app: str) -> str:
        """The name of the one pod with the label app=`app`."""
        (pod,) = self.get("pods", "-n", namespace, "-l", f"app={app}")["items"]
        return str(pod["metadata"]["name"])

    def pytest(self, *words: str, identity: str | None = None) -> Stage:
        """pytest as a user starts it in the project's folder, its reports kept apart."""
        self._runs += 1
        reports = self._workspace / f"run-{self._runs}"
        done = self.run(
            sys.executable,
            "-m",
            "pytest",
            f"--junitxml={reports}/junit.xml",
            f"--html={reports}/index.html",
            f"--save-snapshot={reports}/snapshot.json.gz",
            f"--json={reports}/verdict.json",
            "--window=2",
            *words,
            identity=identity,
        )
        return Stage(done, reports)


def until(holds: Callable[[], bool], timeout: float = 60) -> None:
    """Wait until it holds, for `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"it was not so within {timeout:.0f} s"
        time.sleep(0.1)


@contextmanager
def lab_of(version: str, workspace: Path, *words: str, named: str = "") -> Iterator[Lab]:
    """A lab of this Istio version for the length of the block.

    Args:
        version: the release that the lab starts with.
        workspace: where reports of its runs go.
        words: more options of `lab up`.
        named: an environment variable; if it is set, the running lab that it names is used as it is
            and stays up.
    """
    if given := os.environ.get(named):
        alone = "PYTEST_XDIST_WORKER" not in os.environ
        assert alone, f"workers cannot share one lab: make test-lab LABS=0, or unset {named}"
        yield Lab(given, workspace)
        return
    lab = Lab(f"test-{os.getpid()}-{next(_numbers)}", workspace)
    try:
        lab.verb("up", "--istio", version, *words)
        yield lab
    finally:
        lab.verb("down")


def until_answered(lab: Lab, words: str, url: str, at: str = "") -> None:
    """Wait until a GET gets these words, in its answer or in the error that prevented one.

    `at`: the address that it is sent to, unless that is the classic gateway's.
    """
    to = at or CLASSIC[url.partition(":")[0]]

    def answered() -> bool:
        got = lab.run("labapp", "get", "-k", "-s", to, url)
        return words in got.stdout + got.stderr

    until(answered)


@contextmanager
def watching(lab: Lab, identity: str, place: str, begun: Path, *words: str) -> Iterator[None]:
    """`meshgate watch` from when it has begun, and made the file that says so, to the block's end;
    it has to end well."""
    command = (str(ROOT / ".venv/bin/meshgate"), "watch", place, f"--begun={begun}")
    watch = lab.start("--as", identity, *command, "--lasting=300", *words)
    try:
        until(lambda: begun.exists() or watch.poll() is not None)
        yield
    finally:
        watch.terminate()
        ended = watch.wait()
    assert ended == 0


def envoy(lab: Lab, namespace: str, app: str, path: str) -> str:
    """What the Envoy of the one pod with the label app=`app` answers at its admin interface."""
    where = ("-n", namespace, lab.pod(namespace, app), "-c", "istio-proxy")
    return lab.kubectl("exec", *where, "--", "pilot-agent", "request", "GET", path)


def pushes(lab: Lab, namespace: str, app: str) -> list[dict[str, Any]]:
    """What istiod last sent to that Envoy, and what that said to it, for each type of xDS."""
    asked = ("pilot-discovery", "request", "GET", "/debug/syncz")
    answer = lab.kubectl("exec", "-n", "istio-system", "deployment/istiod", "--", *asked)
    name = f"{lab.pod(namespace, app)}.{namespace}"
    return [
        push
        for each in json.loads(answer)
        if each["proxy"] == name
        for push in each["resources"].values()
    ]


def gateway_outage(lab: Lab) -> None:
    """Leave the classic gateway without a pod for a moment; it serves again when this returns."""
    where = ("-n", "istio-ingress")
    lab.kubectl("scale", "deployment/istio-ingressgateway", *where, "--replicas=0")
    lab.kubectl(
        *("wait", "pod", "-l", "app=istio-ingressgateway", *where),
        *("--for=delete", "--timeout=120s"),
    )
    lab.kubectl("scale", "deployment/istio-ingressgateway", *where, "--replicas=1")
    lab.kubectl(*("rollout", "status", "deployment/istio-ingressgateway", *where, "--timeout=120s"))
    # a pod is Ready before its address is everywhere, and before its listeners have certificates
    for scheme in CLASSIC:
        until_answered(lab, "HTTP/1.1 200", f"{scheme}://shop.example.com/")


@contextmanager
def repeatedly(act: Callable[[int], object]) -> Iterator[None]:
    """Call `act` repeatedly while the block runs, with a number that counts up."""
    enough = threading.Event()

    def act_until_enough() -> None:
        for number in itertools.count():
            if enough.is_set() or number == 500:
                return
            act(number)

    actor = threading.Thread(target=act_until_enough)
    actor.start()
    try:
        yield
    finally:
        enough.set()
        actor.join()
