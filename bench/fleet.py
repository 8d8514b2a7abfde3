"""What it costs to evaluate an upgrade for many clusters.

    .venv/bin/python bench/fleet.py TARGET [CLUSTERS …]

TARGET is a folder with the target's `pilot-discovery`, `envoy` and `istiod.yaml` (`lab target`).
The clusters are simulated (simulated.py): each has 2,000 proxies in 200 classes ($PROXIES and
$CLASSES for others), of which half are equal in all clusters but for their addresses.  Their
recordings are made with the target itself, so nothing differs and nothing is rejected; making them
is not measured, and $RECORDINGS names a folder that keeps them for another run, with one number of
clusters.  All else is real: `meshgate fleet` in a process of its own, with its own cache.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import simulated
from shadow import slices

from meshgate.collect.shadow import proxies, simulation, target
from meshgate.collect.shadow.recorded import RecordedCluster
from meshgate.pipeline.recordings import keep, open_place
from meshgate.semantics.config_diff import resources
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.offline_bundle import Given, Listed, OfflineBundle
from meshgate.snapshot.store import load

PROXIES, CLASSES = (int(os.environ.get(name, "0")) for name in ("PROXIES", "CLASSES"))
PROXIES, CLASSES = PROXIES or 2000, CLASSES or 200
HEALTHY = Path(__file__).parents[1] / "demo/healthy.json.gz"

EMPTY = {
    "/configmaps": "ConfigMap",
    "/endpoints": "Endpoints",
    "/serviceaccounts": "ServiceAccount",
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/validatingwebhookconfigurations": (
        "ValidatingWebhookConfiguration"
    ),
    "apiextensions.k8s.io/customresourcedefinitions": "CustomResourceDefinition",
    "apps/deployments": "Deployment",
    "networking.k8s.io/ingressclasses": "IngressClass",
    "networking.k8s.io/ingresses": "Ingress",
}


def objects(cluster: int) -> dict[str, Listed]:
    """What the API server of a cluster lists.

    Every other Service is its own, which only its namespace sees: so half of the classes are equal.
    """

    def own(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: own(each) for key, each in value.items()}
        if isinstance(value, list):
            return [own(each) for each in value]
        if isinstance(value, str) and value.startswith("198.18."):
            return f"198.{18 + cluster % 2}.{value[7:]}"
        if isinstance(value, str) and value.startswith("app-") and value[4:8].isdigit():
            return value if int(value[4:8]) % 2 else f"c{cluster:02}-{value}"
        return value

    simulated.NAMESPACES, simulated.SERVICES = CLASSES // 2, CLASSES
    services = [own(simulated.service(number)) for number in range(CLASSES)]
    for number, each in enumerate(services):
        if each["metadata"]["name"].startswith("c"):  # only its own namespace sees it
            each["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
        each["spec"]["clusterIP"] = f"10.{96 + cluster % 8}.{number // 250}.{number % 250 + 1}"
    pods = [own(simulated.pod(number)) for number in range(PROXIES)]
    names = sorted({each["metadata"]["namespace"] for each in (*services, *pods)})
    nodes = {each["spec"].get("nodeName", "node") for each in pods}
    return {
        **{key: Listed(kind=kind) for key, kind in EMPTY.items()},
        "/namespaces": _listed("Namespace", [{"metadata": {"name": name}} for name in names]),
        "/nodes": _listed("Node", [{"metadata": {"name": name}} for name in sorted(nodes)]),
        "/pods": _listed("Pod", pods),
        "/services": _listed("Service", services),
        "discovery.k8s.io/endpointslices": _listed("EndpointSlice", own(slices(PROXIES))),
    }


def _listed(kind: str, found: list[Any]) -> Listed:
    return Listed(kind=kind, objects=tuple(found))


def recording(cluster: int, folder: Path, base: Snapshot) -> Snapshot:
    """The recording of a cluster, in which each proxy has today what the target would send."""
    import msgspec  # noqa: PLC0415

    listed = objects(cluster)
    api = RecordedCluster(listed, "v1.34.4")
    wanted = target.rendered(folder / "istiod.yaml")
    launch = target.Launch(
        program=str(folder / "pilot-discovery"),
        rendered=wanted,
        istio_namespace=simulated.SYSTEM,
        timeout=300,
    )
    bodies: dict[str, Any] = {}
    given: dict[str, tuple[Given, ...]] = {}
    with launch.running(api) as running:
        found = proxies.read(api, wanted.mesh(), running.version)
        for members in proxies.alike(found):
            with simulation.connected(running, members[0], 300):
                sent = resources(running.config_dump(members[0].key))
            given[members[0].key] = tuple(_kept(sent, bodies))
    return msgspec.structs.replace(
        base,
        source=f"context cluster-{cluster:02}",
        taken=datetime.now(UTC).replace(microsecond=0),
        read=tuple(sorted({*base.read, "offline_bundle"})),
        offline_bundle=OfflineBundle(
            listed=listed,
            connected=tuple(each.key for each in found),
            given=given,
            bodies=bodies,
        ),
    )


def _kept(sent: Any, bodies: dict[str, Any]) -> Iterator[Given]:
    import hashlib  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    for (type, name), body in sent.items():
        digest = hashlib.sha256(msgspec.json.encode(body)).hexdigest()[:32]
        bodies.setdefault(digest, body)
        yield Given(type=type, name=name, body=digest)


class Memory:
    """The most memory that a process and its children have together, in MiB (PSS)."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Stop watching, and return it."""
        self._over.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, sum(map(_proportional, self._tree())) // 1024)

    def _tree(self) -> set[int]:
        parents: dict[int, int] = {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError, ValueError):
                parents[int(place.name)] = int(
                    (place / "stat").read_text().rpartition(")")[2].split()[1]
                )
        found = {self._pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found


def _proportional(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def evaluate(place: Path, folder: Path, cache: Path) -> tuple[float, float, int, int]:
    """Return seconds, seconds of processor, memory and distinct configurations of one run."""
    before = os.times()
    begun = time.perf_counter()
    command = [
        *(sys.executable, "-m", "meshgate", "fleet", str(place), "--target-version=1.31.0"),
        *(f"--programs={folder}", f"--cache={cache}", "--parallel=2"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        memory = Memory(run.pid)
        output, _ = run.communicate()
    seconds = time.perf_counter() - begun
    after = os.times()
    if run.returncode != 0:
        raise SystemExit(f"not measured, exit {run.returncode}:\n{output}")
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    distinct = sum(1 for _ in (cache / "accepted").glob("*/*"))
    return seconds, used, memory.end(), distinct


def main(folder: str, *counts: str) -> None:
    """A row for each number of clusters."""
    base = load(HEALTHY)
    print(f"{'clusters':>8} {'validated':>10} {'in all':>10} {'processor':>11} {'memory':>10}")
    with tempfile.TemporaryDirectory(prefix="meshgate-") as home:
        kept = Path(os.environ.get("RECORDINGS") or f"{home}/all")
        place = open_place(str(kept), lambda context: None)  # type: ignore[arg-type, return-value]
        made = len(list(kept.iterdir())) if kept.exists() else 0
        for count in map(int, counts or ("5", "10", "20", "40")):
            for cluster in range(made, count):
                keep(place, recording(cluster, Path(folder), base), last=1)
            made = max(made, count)
            seconds, used, memory, distinct = evaluate(
                kept, Path(folder), Path(home, f"cache-{count}")
            )
            print(f"{count:8} {distinct:10} {seconds:8.0f} s {used:9.0f} s {memory:6} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
