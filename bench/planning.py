"""What it costs to choose the ports that stage D connects to.

    .venv/bin/python bench/planning.py [PORTS …]

Each pod has four ports, of which a Service leads to two; each workload has 25 pods and a Service.
The workloads are in 100 namespaces, and then all in one.  No connection is made.
"""

import json
import os
import resource
import sys
import time
from typing import Any

import msgspec
import simulated

from meshgate.semantics.workloads import chosen
from meshgate.snapshot.kubernetes import Pod, Service
from meshgate.snapshot.model import Expectations

OF_A_POD, OF_A_WORKLOAD = 4, 25


def pods(count: int, namespaces: int) -> list[Pod]:
    """Meshed pods, real but for their names and ports."""
    ports = [{"name": f"http-{n}", "containerPort": 8080 + n} for n in range(OF_A_POD)]

    def made(number: int) -> Any:
        workload = number // OF_A_WORKLOAD
        found = simulated.pod(number)
        found["metadata"] |= {"namespace": f"team-{workload % namespaces:03}"}
        found["metadata"]["labels"] |= {"app": f"app-{workload:05}"}
        found["spec"]["containers"][0]["ports"] = ports
        return found

    return [
        msgspec.json.decode(json.dumps(made(number)).encode(), type=Pod) for number in range(count)
    ]


def services(count: int, namespaces: int) -> list[Service]:
    """The Service of each workload."""
    ports = [{"name": f"http-{n}", "port": 80 + n, "targetPort": f"http-{n}"} for n in (0, 1)]
    return [
        msgspec.convert(
            {
                "metadata": {"name": f"app-{number:05}", "namespace": f"team-{place:03}"},
                "spec": {"selector": {"app": f"app-{number:05}"}, "ports": ports},
            },
            Service,
        )
        for number, place in ((number, number % namespaces) for number in range(count))
    ]


def main() -> None:
    """A row for each number of ports, and fails where not all were chosen."""
    for count in map(int, sys.argv[1:] or ("20000", "200000")):
        for namespaces in (100, 1):
            number = count // OF_A_POD
            there = pods(number, namespaces), services(number // OF_A_WORKLOAD, namespaces)
            begun, before = time.perf_counter(), time.process_time()
            found = chosen(*there, Expectations())
            seconds, used = time.perf_counter() - begun, time.process_time() - before
            mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"{count:8} ports {namespaces:4} namespaces {seconds:6.1f} s, {used:5.1f} s of "
                f"processor, {mebibytes} MiB, load {os.getloadavg()[0]:.0f}"
            )
            if len(found) != count:
                raise SystemExit(f"{len(found)} of {count} ports were chosen")


if __name__ == "__main__":
    main()
