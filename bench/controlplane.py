"""What stage B costs on a large mesh, beside what else can be run on it.

    .venv/bin/python bench/controlplane.py [PROXIES …]
    ISTIODS=8 ALONE=1 .venv/bin/python bench/controlplane.py 50000  # replicas, and only stage B

Whole processes, one after the other, on the same simulated cluster (simulated.py), which runs in a
process of its own: stage B; `istioctl analyze -A` and `istioctl proxy-status` (of the PATH, or
$ISTIOCTL; left out where there is none); and `list_pod_for_all_namespaces` of the Python client,
paged alike, and nothing more.  Stage B does not include analyze's own process (CP006), nor the CA
(CP010, CP011), which the simulated istiod has not, nor the rollback (CP029, CP030), which needs an
istioctl.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from simulated import PAGE, XDS_PORT, Cluster, serving

ADDRESSES = [f"127.0.0.{9 + number}" for number in range(int(os.environ.get("ISTIODS", "1")))]
ISTIOCTL = shutil.which(os.environ.get("ISTIOCTL", "istioctl"))
ALONE = bool(os.environ.get("ALONE"))

CLAIMS = "not analyze and not ca_signs and not lasting_roots and not rollback and not previous"
WINDOW = 1.0
# without a streamed list, which this server does not know
LISTING = {"KUBE_FEATURE_WatchListClient": "false"}
ROOT = Path(__file__).parents[1]

USUAL = f"""
from kubernetes import client, config
import sys
config.load_kube_config(sys.argv[1])
pods, position = [], None
while True:
    page = client.CoreV1Api().list_pod_for_all_namespaces(limit={PAGE}, _continue=position)
    pods += page.items
    position = page.metadata._continue
    if not position:
        break
"""


class Cost(NamedTuple):
    """Of one whole process; `processor` is what it used of the cores, however busy they were."""

    seconds: float
    processor: float
    mebibytes: float


class Measured(NamedTuple):
    """One size of mesh: its bytes, the API requests of stage B, and what each process cost."""

    size: int
    requests: int
    ours: Cost
    analyze: Cost | None
    status: Cost | None
    usual: Cost | None


def serve(proxies: int, ours: Connection) -> None:
    """Serves, and says how much was asked, whenever it is asked; until it hears nothing."""
    cluster = Cluster(proxies, ADDRESSES)
    with serving(cluster) as address:
        ours.send((address, cluster.bytes))
        while ours.recv():
            ours.send(cluster.requests.total())


def cost(command: list[str], **environment: str) -> Cost:
    """Runs it to its end, which must be a good one."""
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(output.read().decode())
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(proxies: int) -> Measured:
    """All of them on a mesh of that size."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(proxies, there))
    server.start()
    try:
        address, size = here.recv()
        with tempfile.TemporaryDirectory() as folder:
            config = kubeconfig(Path(folder, "kubeconfig"), address)
            ours = cost(stage(config, Path(folder)))
            here.send(True)
            requests = here.recv()
            analyze = status = usual = None
            if ISTIOCTL and not ALONE:
                asked = [f"--kubeconfig={config}", "-A", "--failure-threshold=Error"]
                analyze = cost([ISTIOCTL, "analyze", *asked], **LISTING)
                asked = [asked[0], f"--xds-address={ADDRESSES[0]}:{XDS_PORT}", "--plaintext"]
                status = cost([ISTIOCTL, "proxy-status", *asked], **LISTING)
            if not ALONE:
                usual = cost([sys.executable, "-c", USUAL, str(config)])
    finally:
        here.send(False)
        server.join()
    return Measured(size, requests, ours, analyze, status, usual)


def kubeconfig(file: Path, address: str) -> Path:
    """One that leads there."""
    file.write_text(
        json.dumps(
            {
                "clusters": [{"name": "x", "cluster": {"server": address}}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "users": [{"name": "x", "user": {}}],
                "current-context": "x",
            }
        )
    )
    return file


def stage(config: Path, folder: Path) -> list[str]:
    """Stage B, its reports kept aside."""
    token = folder / "token"
    token.write_text("simulated")
    return [
        *(sys.executable, "-m", "pytest", "-m", "controlplane", "-k", CLAIMS),
        f"--kubeconfig={config}",
        "--istiod-access=direct",
        f"--istiod-token-file={token}",
        f"--window={WINDOW:g}",
        *([f"--istioctl={ISTIOCTL}"] if ISTIOCTL else []),
        "--settle=0",
        f"--junitxml={folder}/junit.xml",
        f"--html={folder}/index.html",
        f"--json={folder}/verdict.json",
        f"--save-snapshot={folder}/snapshot.json.gz",
    ]


def main() -> None:
    """A row a size."""
    print(
        f"{'proxies':>8} {'mesh':>9} {'requests':>9} {'stage B':>24} {'istioctl analyze':>24}"
        f" {'proxy-status':>24} {'the usual list':>24}"
    )
    for proxies in map(int, sys.argv[1:] or ("100", "1000", "10000")):
        seen = compare(proxies)
        print(
            f"{proxies:>8} {seen.size / 1e6:>6.1f} MB {seen.requests:>9}"
            f" {_words(seen.ours):>24} {_words(seen.analyze):>24}"
            f" {_words(seen.status):>24} {_words(seen.usual):>24}"
        )


def _words(cost: Cost | None) -> str:
    if cost is None:
        return "-"
    return f"{cost.seconds:.1f} s ({cost.processor:.1f}) {cost.mebibytes:.0f} MiB"


if __name__ == "__main__":
    main()
