"""A soak: the stages again and again on a lab whose mesh changes and whose network is bad.

    ci/lab/lab up --name soak
    PYTHONPATH=. .venv/bin/python bench/soak.py soak 30    # minutes

Pods are deleted, istiod and the API server are restarted, and packets are delayed and lost, each in
its turn; between two disturbances the mesh is healthy.  A run that ends while the mesh is healthy,
and began so, must be open; a run during a disturbance must not be open if the mesh was broken.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.lab.harness import Lab
from tests.lab.rights import VERIFIER, grant
from tests.support.verdict_lines import verdict_lines

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "ci/lab/lab"
STAGES = ("controlplane", "ingress", "dataplane")
# Requests to pods wait in a queue, and packets are lost there and on the way to the API server.
QUEUE = ("dev", "cni0", "root")
SLOW = ("tbf", "rate", "2mbit", "burst", "16kb", "latency", "400ms")
LOSS = ("-m", "statistic", "--mode", "random", "--probability", "0.01", "-j", "DROP")
LOSSY = ("cni0", "lo")
BEGUN = 2  # seconds after which a run is disturbed
QUIET = 60  # seconds that a mesh has to become healthy after a disturbance


class Soak:
    """The runs and what they showed."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._number = 0
        self.results: list[dict[str, object]] = []

    def lab(self, verb: str, *words: str, check: bool = True) -> str:
        """Run a verb of the lab, and return its output."""
        done = subprocess.run(
            [LAB, verb, "--name", self._name, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=300,
        )
        if check and done.returncode:
            raise RuntimeError(f"lab {verb} {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def run(self, stage: str, disturbance: str) -> None:
        """Run one stage, and keep its exit code, duration, memory and what it left."""
        self._number += 1
        reports = self._folder / str(self._number)
        temporary = self._folder / "tmp"
        temporary.mkdir(exist_ok=True)
        if not disturbance:
            grant(Lab(self._name, self._folder))  # a reset removes the account
        began = time.monotonic()
        done = subprocess.run(
            [
                *(LAB, "exec", "--name", self._name, "--as", VERIFIER, "env"),
                f"TMPDIR={temporary}",
                *(sys.executable, str(Path(__file__).resolve()), "--measure"),
                *(sys.executable, "-m", "pytest", "-m", stage, f"--reports={reports}"),
                *("--settle=60", "--deadline=240", "--window=2"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=600,
        )
        lines = done.stdout.splitlines()
        memory = next((int(each.split()[1]) for each in lines if each.startswith("MEMORY ")), 0)
        self.results.append(
            {
                "stage": stage,
                "disturbance": disturbance,
                "exit": done.returncode,
                "seconds": round(time.monotonic() - began, 1),
                "MiB": memory // 1024,
                "left": sorted(each.name for each in temporary.iterdir()),
                "processes": _left(str(temporary)),
                "wrong": [
                    each
                    for each in verdict_lines(reports / "verdict.json")
                    if each.startswith(("FAIL", "UNKNOWN"))
                ][:3],
            }
        )
        print(json.dumps(self.results[-1]), flush=True)

    def disturb(self, kind: str) -> None:
        """Start a disturbance."""
        match kind:
            case "pods":
                for namespace in ("shop", "payments"):
                    self.lab("exec", "kubectl", "-n", namespace, "delete", "pods", "--all",
                             "--wait=false")  # fmt: skip
            case "istiod":
                self.lab("exec", "kubectl", "-n", "istio-system", "rollout", "restart",
                         "deployment/istiod")  # fmt: skip
            case "API server":
                for process in self.lab("node", "ps", "-C", "kube-apiserver", "-o", "pid=").split():
                    self.lab("node", "kill", process, check=False)
            case "network":
                self.lab("node", "tc", "qdisc", "add", *QUEUE, *SLOW)
                for device in LOSSY:
                    self.lab(
                        "node", "iptables", "-t", "raw", "-A", "PREROUTING", "-i", device, *LOSS
                    )

    def calm(self, kind: str) -> None:
        """End a disturbance, and wait until the mesh is healthy."""
        if kind == "network":
            self.lab("node", "tc", "qdisc", "del", *QUEUE, check=False)
            for device in LOSSY:
                loss = ("-t", "raw", "-D", "PREROUTING", "-i", device, *LOSS)
                self.lab("node", "iptables", *loss, check=False)
        end = time.monotonic() + QUIET * 3
        while time.monotonic() < end:
            with suppress(RuntimeError, subprocess.TimeoutExpired):
                self.lab("reset")
                return
            time.sleep(3)
        raise RuntimeError(f"the lab is not healthy after the disturbance {kind!r}")


def _left(marker: str) -> int:
    """Return how many processes still have this TMPDIR."""
    count = 0
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with suppress(OSError):
                count += f"TMPDIR={marker}".encode() in (each / "environ").read_bytes()
    return count


def summary(results: list[dict[str, object]]) -> str:
    """Return the figures of a soak."""
    calm = [each for each in results if not each["disturbance"]]
    disturbed = [each for each in results if each["disturbance"]]
    false = [each for each in calm if each["exit"] != 0]
    lines = [
        f"{len(results)} runs: {len(calm)} on a healthy mesh, {len(disturbed)} while disturbed",
        f"false verdicts on a healthy mesh: {len(false)}",
        f"crashes (exit 3 or a signal): {sum(each['exit'] not in (0, 1, 10) for each in results)}",
        f"files left: {sum(bool(each['left']) for each in results)}",
        f"processes left: {sum(bool(each['processes']) for each in results)}",
    ]
    for stage in STAGES:
        of = [each for each in results if each["stage"] == stage]
        if of:
            memory, seconds = (
                [int(str(each["MiB"])) for each in of],
                [float(str(each["seconds"])) for each in of],
            )
            lines.append(
                f"{stage}: {len(of)} runs, {memory[0]} MiB at first, {memory[-1]} MiB at last, "
                f"{max(memory)} MiB at most; {min(seconds):.0f} to {max(seconds):.0f} s"
            )
    for kind in sorted({str(each["disturbance"]) for each in disturbed}):
        codes = Counter(each["exit"] for each in disturbed if each["disturbance"] == kind)
        lines.append(f"during {kind}: exit codes {dict(sorted(codes.items()))}")
    return "\n".join(lines)


def measure(command: list[str]) -> int:
    """Run a command, and print the peak of its memory in KiB."""
    code = subprocess.run(command, check=False).returncode
    print(f"MEMORY {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}", flush=True)
    return code


def main(name: str, minutes: float) -> None:
    """Run the soak, and print its figures."""
    choice = random.Random(name)  # noqa: S311
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(name, Path(folder))
        kinds = ["pods", "istiod", "API server", "network"]
        while time.monotonic() < end:
            kind = kinds[len(soak.results) // 2 % len(kinds)]
            stage = choice.choice(STAGES)
            soak.run(stage, "")
            # the run has begun before the disturbance
            disturbance = threading.Timer(BEGUN, soak.disturb, [kind])
            disturbance.start()
            try:
                soak.run(stage, kind)
            finally:
                disturbance.join()
                soak.calm(kind)
    print(summary(soak.results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.exit(measure(sys.argv[2:]))
    main(sys.argv[1], float(sys.argv[2]))
