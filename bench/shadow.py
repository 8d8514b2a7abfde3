"""What it costs to try an upgrade in the shadow on a large mesh.

    .venv/bin/python bench/shadow.py TARGET [PROXIES …]

TARGET is a folder with the target's `pilot-discovery`, `envoy` and `istiod.yaml` (`lab target`).
The mesh is simulated (simulated.py) in a process of its own: as many proxies as are asked for in
200 classes of 200 services, each service with its endpoints.  All else is real.  The running istiod
is left out: what it would answer is taken to be what the target does, so nothing differs.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import simulated
from controlplane import kubeconfig

from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow import proxies, simulation, target
from meshgate.collect.shadow.envoy import Envoy
from meshgate.collect.shadow.manifests import rendered
from meshgate.collect.shadow.validation import SimulatedClass, Validator
from meshgate.deadline import Deadline
from meshgate.semantics.config_diff import changes, resources
from meshgate.snapshot.shadow import ProxyClass

ADDRESS = "127.0.0.10"
CLASSES = 200
STEPS = ("istiod ready", "pods read", "configuration", "its dump", "compared", "validated")


def slices(number_of_proxies: int) -> list[dict[str, Any]]:
    """Where each service leads to."""
    pods: list[list[dict[str, Any]]] = [[] for _ in range(CLASSES)]
    for number in range(number_of_proxies):
        pods[number % CLASSES].append(simulated.pod(number))
    return [
        {
            "metadata": {
                "name": f"app-{number:04}-1",
                "namespace": f"team-{number % simulated.NAMESPACES:03}",
                "labels": {"kubernetes.io/service-name": f"app-{number:04}"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {"ready": True},
                    "targetRef": {
                        "kind": "Pod",
                        "name": pod["metadata"]["name"],
                        "namespace": pod["metadata"]["namespace"],
                    },
                }
                for pod in members
            ],
        }
        for number, members in enumerate(pods)
        if members
    ]


def serve(number_of_proxies: int, ours: Connection) -> None:
    """Serves until it hears something."""
    simulated.NAMESPACES, simulated.SERVICES = CLASSES // 2, CLASSES
    cluster = simulated.Cluster(number_of_proxies, [ADDRESS], slices(number_of_proxies))
    with simulated.serving(cluster) as address:
        ours.send(address)
        ours.recv()


class Watch:
    """How long each step took, over all classes."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Counts what happens within for it."""
        begun = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begun  # type: ignore[assignment]


def simulate_live(config: Path, folder: Path) -> tuple[int, Watch]:
    """Every class once, two at a time, as `meshgate shadow` does; "validated" is no sum."""
    watch, cluster = Watch(), Cluster(config=str(config))
    wanted = rendered(folder / "istiod.yaml")
    launch = target.Launch(
        program=str(folder / "pilot-discovery"),
        rendered=wanted,
        istio_namespace=simulated.SYSTEM,
        timeout=120,
        memory=2048,
    )
    starting = launch.running(cluster)
    with tempfile.TemporaryDirectory() as place:
        envoy = Envoy(str(folder / "envoy"), Path(place), 60)
        with watch.step("istiod ready"):
            running = starting.__enter__()
        try:
            with watch.step("pods read"):
                found = proxies.read(cluster, wanted.mesh(), running.version)
                classes = proxies.alike(found)

            kept: dict[bytes, bytes] = {}

            def each(members: list[proxies.Proxy]) -> SimulatedClass:
                with watch.step("configuration"):
                    asking = simulation.connected(running, members[0], 60)
                    configuration = asking.__enter__()
                with watch.step("its dump"):
                    after = resources(running.config_dump(members[0].key))
                asking.__exit__(None, None, None)
                with watch.step("compared"):
                    different = changes(after, after, {})
                if different:
                    raise SystemExit(f"{members[0].key}: {different}")
                seen = ProxyClass(proxies=(members[0].key,), resources=len(after))
                return SimulatedClass(seen, simulation.deduplicated(configuration, kept))

            with ThreadPoolExecutor(2) as pool:
                looks = list(pool.map(each, classes))
        finally:
            starting.__exit__(None, None, None)
        with watch.step("validated"):
            judged = Validator(envoy, Deadline(600)).validated(looks)
        if bad := [each for each in judged if each.refusals or each.error]:
            raise SystemExit(f"{bad[0]}")
    return len(classes), watch


def main(folder: str, *sizes: str) -> None:
    """A row a size."""
    print(f"{'proxies':>8} {'classes':>8}", *(f"{step:>14}" for step in (*STEPS, "in all")))
    for size in map(int, sizes or ("100", "1000", "10000")):
        here, there = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(size, there))
        server.start()
        with tempfile.TemporaryDirectory() as place:
            before = resource.getrusage(resource.RUSAGE_SELF), _children()
            config = kubeconfig(Path(place, "config"), here.recv())
            begun = time.perf_counter()
            classes, watch = simulate_live(config, Path(folder))
            seconds = time.perf_counter() - begun
        here.send(True)
        server.join()
        rows = [f"{watch.seconds[step]:12.2f} s" for step in STEPS]
        print(f"{size:8} {classes:8}", *rows, f"{seconds:12.2f} s")
        ours = resource.getrusage(resource.RUSAGE_SELF)
        used = ours.ru_utime + ours.ru_stime - before[0].ru_utime - before[0].ru_stime
        print(
            f"{'':17} processor: ours {used:.1f} s, the programs {_children() - before[1]:.1f} s; "
            f"memory at the most: ours {ours.ru_maxrss / 1024:.0f} MiB, "
            f"a program's {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB"
        )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
