"""What the claims on istiod and its proxies cost on a large mesh, beside the usual way to read one.

    .venv/bin/python bench/controlplane.py [PROXIES …]

The usual way is `list_pod_for_all_namespaces` of the Python client, paged alike, and nothing more:
no istiod, no verdict.  Both are whole processes against the same simulated cluster, which runs in a
process of its own.  Look at the ratios.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from simulated import PAGE, Cluster, serving

ADDRESS = "127.0.0.9"

# CP001 to CP005: what the simulated cluster has no part of (webhooks, the CA, analyze) is left out
CLAIMS = "rolled_out or replica or connected or rejects or stale"
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
    """Of one whole process."""

    seconds: float
    mebibytes: float


def serve(proxies: int, url: "multiprocessing.Queue[tuple[str, int]]", done: Event) -> None:
    """Serves until it is told that the measurement is done."""
    cluster = Cluster(proxies, ADDRESS)
    with serving(cluster, ADDRESS) as address:
        url.put((address, cluster.bytes))
        done.wait(600)


def cost(command: list[str]) -> Cost:
    """Runs it to its end, which must be a good one."""
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(output.read().decode())
    return Cost(seconds, usage.ru_maxrss / 1024)


def compare(proxies: int) -> tuple[Cost, Cost, int]:
    """Stage B, the usual way, and the bytes of the mesh."""
    url: multiprocessing.Queue[tuple[str, int]] = multiprocessing.Queue()
    done = multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(proxies, url, done))
    server.start()
    try:
        address, size = url.get(timeout=300)
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder, "kubeconfig")
            kubeconfig.write_text(
                json.dumps(
                    {
                        "clusters": [{"name": "x", "cluster": {"server": address}}],
                        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                        "users": [{"name": "x", "user": {}}],
                        "current-context": "x",
                    }
                )
            )
            token = Path(folder, "token")
            token.write_text("simulated")
            ours = cost(
                [
                    *(sys.executable, "-m", "pytest", "-m", "controlplane", "-k", CLAIMS),
                    f"--kubeconfig={kubeconfig}",
                    "--istiod-access=direct",
                    f"--istiod-token-file={token}",
                    f"--junitxml={folder}/junit.xml",
                    f"--html={folder}/index.html",
                    f"--json={folder}/verdict.json",
                    f"--save-snapshot={folder}/snapshot.json.gz",
                ]
            )
            usual = cost([sys.executable, "-c", USUAL, str(kubeconfig)])
    finally:
        done.set()
        server.join()
    return ours, usual, size


def main() -> None:
    """A row a size."""
    print(f"{'proxies':>8} {'mesh':>9} {'CP001-CP005':>18} {'the usual list':>20} {'ratio':>14}")
    for proxies in map(int, sys.argv[1:] or ("100", "1000", "10000")):
        ours, usual, size = compare(proxies)
        print(
            f"{proxies:>8} {size / 1e6:>6.1f} MB"
            f" {ours.seconds:>7.2f} s {ours.mebibytes:>4.0f} MiB"
            f" {usual.seconds:>9.2f} s {usual.mebibytes:>4.0f} MiB"
            f" {ours.seconds / usual.seconds:>6.2f} {ours.mebibytes / usual.mebibytes:>7.2f}"
        )


if __name__ == "__main__":
    main()
