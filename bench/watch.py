"""What a watch costs: a simulated six-hour upgrade, and the rate that a pod of it reaches.

    .venv/bin/python bench/watch.py [HOURS [FLOWS]]

Three observers with FLOWS (100) flows each, twenty requests a second each, of which one in a
thousand is lost with one of many reasons, and 2,000 happenings.  The time is simulated; all else
is the watch's own code: the evidence, its snapshot, and the judgment of it.  Then a real observer
calls a server on loopback for ten seconds, without a limit that it could reach.
"""

import random
import resource
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import msgspec

from meshgate.facts.mesh import Mesh
from meshgate.facts.watch.timeline import timeline
from meshgate.probe.observer import evidence, program
from meshgate.probe.observer.calls import Target
from meshgate.probe.watch import flow
from meshgate.snapshot.kubernetes import Container, Metadata, Pod, PodSpec
from meshgate.snapshot.model import Expectations, Snapshot
from meshgate.snapshot.store import pack
from meshgate.snapshot.watch import Happening, Observer, Watch

HOURS, FLOWS = (int(each) for each in (*sys.argv[1:3], *("6", "100")[len(sys.argv) - 1 :]))
RATE = 20  # requests a second of each observer
BEGIN = datetime(2026, 1, 2, tzinfo=UTC)
PROXIES = ("1.30.4", "1.31.0", "1.30.5")


def memory() -> float:
    """The most memory that this process has used, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def simulated() -> tuple[Watch, float]:
    """The watch, and the memory that the evidence took."""
    chance = random.Random(1)  # noqa: S311  # no secret
    before = memory()
    kept = {(slot, n): evidence.Flow(1000) for slot in "abc" for n in range(FLOWS)}
    for slot in "abc":
        for number in range(HOURS * 3600 * RATE):
            ill = chance.random() < 0.001
            why = f"503 reason {chance.randrange(50)}" if ill else ""
            at = BEGIN.timestamp() + number / RATE
            kept[slot, number % FLOWS].note(at, chance.lognormvariate(2, 1), why)
    flows = tuple(
        flow(
            each.as_data(),
            target=f"http1://service-{n}.namespace-{n % 20}:80/healthz",
            kind="http1",
            subject=f"Service namespace-{n % 20}/service-{n}",
            service=f"namespace-{n % 20}/service-{n}",
            observer=slot,
        )
        for (slot, n), each in kept.items()
    )
    took = memory() - before
    end = BEGIN + timedelta(hours=HOURS)
    happenings = tuple(
        Happening(
            at=BEGIN + timedelta(seconds=n * HOURS * 3600 / 2000),
            until=BEGIN + timedelta(seconds=n * HOURS * 3600 / 2000 + 8),
            subject=f"Pod namespace-{n % 20}/service-{n % FLOWS}-6c9d7f-{n:05}",
            what="was terminating",
            detail="terminationDrainDuration 5s",
            workload=f"Deployment namespace-{n % 20}/service-{n % FLOWS}",
            services=(f"namespace-{n % 20}/service-{n % FLOWS}",),
        )
        for n in range(2000)
    )
    observers = tuple(
        Observer(name=slot, proxy=proxy, created=BEGIN, read=end)
        for slot, proxy in zip("abc", PROXIES, strict=True)
    )
    watch = Watch(
        began=BEGIN,
        last=end,
        flows=flows,
        happenings=happenings,
        observers=observers,
        image="meshgate",
        namespace="probes",
        slow_after=1000,
    )
    return watch, took


def judged(watch: Watch) -> int:
    """How many findings the checks have."""
    pod = Pod(
        metadata=Metadata(name="web"), spec=PodSpec(containers=(Container(name="istio-proxy"),))
    )
    snapshot = Snapshot(
        meshgate_version="",
        taken=watch.last,
        started=watch.last,
        source="",
        read=("pods",),
        pods=(pod,),
        expectations=Expectations(watch=watch),
    )
    return len(Mesh(snapshot).watched.lost)


def reached() -> float:
    """Requests a second of one observer that is not limited."""
    http, echo = program.servers("127.0.0.1", 0, 0)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    target = Target("one", "http1", "127.0.0.1", int(http.server_address[1]), "/", "GET")
    observer = program.Observer([target], 0, 1000)
    observer.start()
    time.sleep(10)
    observer.stop.set()
    sent: int = observer.evidence()["one"]["sent"]
    http.server_close()
    echo.server_close()
    return sent / 10


def main() -> None:
    watch, took = simulated()
    data = msgspec.json.encode(watch)
    packed = pack(
        Snapshot(meshgate_version="", taken=watch.last, started=BEGIN, source="", watch=watch)
    )
    begun = time.process_time()
    findings = judged(watch)
    steps = len(timeline(watch))
    spent = time.process_time() - begun
    print(f"{HOURS} h, {watch.sent:,} requests, {watch.lost:,} lost, {len(watch.flows)} flows")
    print(f"evidence {len(data) / 2**20:.2f} MiB, packed {len(packed) / 1024:.0f} KiB")
    print(f"memory of the evidence {took:.0f} MiB, of this process {memory():.0f} MiB")
    print(f"judged in {spent:.1f} s of processor: {findings} findings, {steps} steps")
    print(f"one observer without a limit: {reached():.0f} requests/s")


if __name__ == "__main__":
    main()
