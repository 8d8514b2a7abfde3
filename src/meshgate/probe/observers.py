"""The observers: pods of the probe namespace that send requests from inside the mesh for hours.

One pod for each version of the proxy that the injector adds: a dry run shows which one that is now,
so that the first pod has the old proxy and the next one, after istiod's upgrade, the new one.
"""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

import msgspec

from meshgate.probe.jobs import JOB, PODS, Api, Jobs
from meshgate.probe.observer import program, source
from meshgate.probe.observer.calls import Target
from meshgate.probe.pair_manifests import CONFINED, LABEL, OURS
from meshgate.probe.watch import flow
from meshgate.semantics.losses import OBSERVED
from meshgate.semantics.pods import fails_permanently, reason_not_ready
from meshgate.semantics.versions import Version
from meshgate.semantics.workloads import proxy
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.redact import text
from meshgate.snapshot.watch import Flow, Observer

SLOTS = ("a", "b", "c")  # the old proxy, the new one, and one more after a rollback
RUN, SLOT = "meshgate.dev/watch", OBSERVED
EXCLUDED = "traffic.sidecar.istio.io/excludeInboundPorts"
TIMEOUT = 5.0
LARGEST = 32 << 20  # octets of one observer's evidence
_JSON = msgspec.json.Decoder(dict[str, dict[str, Any]])


class Called(NamedTuple):
    """A request, the Service that receives it, whether it was declared, and the observer behind."""

    target: Target
    service: str
    declared: bool = False
    peer: str = ""

    def __str__(self) -> str:
        each = self.target
        if self.peer:
            return f"{each.kind} to observer {self.peer}"
        path = each.path if each.kind in ("http1", "http2", "stream", "websocket") else ""
        return text(f"{each.kind}://{each.host}:{each.port}{path}")


class Plan(NamedTuple):
    """The pods, what they call, and for how long."""

    image: str
    namespace: str
    called: tuple[Called, ...]
    rate: float
    slow_after: int
    seconds: float


_POD = msgspec.json.Decoder(Pod)


class Observers:
    """The observers of one watch.

    Args:
        api: where they are created.
        plan: what they do.
    """

    def __init__(self, api: Api, plan: Plan) -> None:
        self._jobs, self._plan = Jobs(api, plan.namespace), plan
        self._run = secrets.token_hex(4)
        self._made: dict[str, Observer] = {}
        self._flows: dict[str, tuple[Flow, ...]] = {}

    @property
    def seen(self) -> tuple[Observer, ...]:
        """Return the observers so far."""
        return tuple(self._made.values())

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Return what was last read from each of them."""
        return tuple(each for flows in self._flows.values() for each in flows)

    def begin(self) -> None:
        """Delete what killed watches left; raise ReadError."""
        for each in self._jobs.listed(f"{LABEL}={OURS},{SLOT}"):
            self._jobs.delete(each.metadata.name)

    def step(self) -> None:
        """Create an observer if new pods get another proxy, and read the evidence of all.

        Raises ReadError.
        """
        if len(self._made) < len(SLOTS):
            current = self._injected()
            if current and current not in {each.proxy for each in self._made.values()}:
                self._make(SLOTS[len(self._made)], current)
        pods = self._pods()
        for slot, known in self._made.items():
            if not known.ended:
                self._made[slot] = self._read(slot, known, pods.get(slot))

    def end(self) -> None:
        """Delete the observers; raise ReadError."""
        for slot in self._made:
            self._jobs.delete(self._name(slot))

    def _injected(self) -> str:
        """Return the version of the proxy that a new pod would get; empty without a sidecar."""
        job = self._manifest(SLOTS[0])
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"observer-{self._run}",
                **job["spec"]["template"]["metadata"],
            },
            "spec": job["spec"]["template"]["spec"],
        }
        container = proxy(_POD.decode(self._jobs.admitted(body)))
        return _version(container.image) if container else ""

    def _make(self, slot: str, current: str) -> None:
        job = self._jobs.create(self._manifest(slot))
        self._made[slot] = Observer(name=slot, proxy=current, created=datetime.now(UTC))
        self._jobs.expose(self._service(slot, JOB.decode(job).metadata.uid))

    def _pods(self) -> dict[str, Pod]:
        listed = PODS.decode(self._jobs.pods(f"{RUN}={self._run}"))
        return {each.metadata.labels.get(SLOT, ""): each for each in listed.items}

    def _read(self, slot: str, known: Observer, pod: Pod | None) -> Observer:
        """Return the observer after its evidence was read, or why it ended."""
        now = datetime.now(UTC)
        young = known.created is not None and now - known.created < timedelta(seconds=60)
        if pod is None or pod.metadata.deletion_timestamp or pod.status.phase == "Failed":
            why = "its pod was deleted" if pod is None else "its pod ended"
            return known if pod is None and young else msgspec.structs.replace(known, ended=why)
        if fails_permanently(pod):
            return msgspec.structs.replace(known, ended=reason_not_ready(pod))
        container = proxy(pod)
        if container:
            known = msgspec.structs.replace(known, proxy=_version(container.image))
        if not pod.status.pod_ip:
            return known
        try:
            data = _evidence(pod.status.pod_ip)
        except (OSError, HTTPException, ValueError):
            return known
        self._flows[slot] = tuple(
            flow(
                data[called.target.key],
                subject=f"Service {called.service}",
                target=str(called),
                kind=called.target.kind,
                observer=slot,
                service=called.service,
                declared=called.declared,
                peer=called.peer,
            )
            for called in self._called(slot)
            if called.target.key in data
        )
        return msgspec.structs.replace(known, read=now)

    def _called(self, slot: str) -> Iterable[Called]:
        """Yield what an observer calls: the other observers, and Services."""
        for other in SLOTS:
            if other == slot:
                continue
            host, service = self._host(other), f"{self._plan.namespace}/{self._name(other)}"
            for kind, port, path in (
                ("http1", 80, "/"),
                ("http2", 80, "/"),
                ("tcp", program.ECHO, "/"),
                ("idle", program.ECHO, "/"),
                ("stream", 80, "/stream"),
                ("websocket", 80, "/ws"),
            ):
                key = f"peer/{other}:{kind}"
                target = Target(key, kind, host, port, path, "GET", port == program.ECHO)
                yield Called(target, service, peer=other)
        yield from self._plan.called

    def _name(self, slot: str) -> str:
        return f"observer-{self._run}-{slot}"

    def _host(self, slot: str) -> str:
        return f"{self._name(slot)}.{self._plan.namespace}"

    def _labels(self, slot: str) -> dict[str, str]:
        return {LABEL: OURS, RUN: self._run, SLOT: slot}

    def _manifest(self, slot: str) -> dict[str, Any]:
        plan = self._plan
        given = {
            "targets": [each.target._asdict() for each in self._called(slot)],
            "rate": plan.rate,
            "slowAfter": plan.slow_after,
        }
        container = {
            "name": "observe",
            "image": plan.image,
            "command": source.command(given),
            "resources": {
                "requests": {"cpu": "10m", "memory": "64Mi"},
                "limits": {"memory": "200Mi"},
            },
            "securityContext": CONFINED,
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self._name(slot),
                "namespace": plan.namespace,
                "labels": self._labels(slot),
            },
            "spec": {
                # another pod would get another proxy
                "backoffLimit": 0,
                "activeDeadlineSeconds": int(plan.seconds),
                "ttlSecondsAfterFinished": 0,
                "template": {
                    "metadata": {
                        "labels": self._labels(slot),
                        # the evidence is read from outside the mesh
                        "annotations": {EXCLUDED: str(program.EVIDENCE)},
                    },
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": 1,
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "containers": [container],
                    },
                },
            },
        }

    def _service(self, slot: str, owner: str) -> dict[str, Any]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "name": self._name(slot), "uid": owner}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self._name(slot),
                "namespace": self._plan.namespace,
                "labels": self._labels(slot),
                "ownerReferences": [job],
            },
            "spec": {
                "selector": self._labels(slot),
                "ports": [
                    {"name": "http", "port": 80, "targetPort": program.HTTP},
                    {"name": "tcp", "port": program.ECHO, "targetPort": program.ECHO},
                ],
            },
        }


def _evidence(address: str) -> dict[str, dict[str, Any]]:
    """Return what an observer has seen; raise OSError, HTTPException or ValueError."""
    connection = HTTPConnection(address, program.EVIDENCE, timeout=TIMEOUT)
    try:
        connection.request("GET", "/")
        return _JSON.decode(connection.getresponse().read(LARGEST))
    finally:
        connection.close()


def _version(image: str) -> str:
    found = Version.of_image(image)
    return str(found) if found else image
