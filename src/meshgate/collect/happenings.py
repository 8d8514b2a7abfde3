"""What the API server reports while a watch runs: pods that come and go, and changed configuration.

Each kind is watched by one thread, which begins again where its stream ended.  A watch goes on if
the API server does not answer: what is then missing is only the cause of a loss.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from meshgate.semantics import pods, workloads
from meshgate.semantics.losses import CONFIG, GATEWAY, ISTIOD, OBSERVED, OBSERVER
from meshgate.semantics.selectors import fronts
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.kubernetes import Metadata, Pod, Service
from meshgate.snapshot.sources import NETWORKING, SECURITY, Kind
from meshgate.snapshot.watch import Happening

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

MOST = 5000  # happenings that are kept
PATIENCE = 240  # seconds after which the API server ends a watch
PAUSE = 2.0  # seconds until a watch that failed begins again
DEFAULT_DRAIN = "5s"  # Istio's terminationDrainDuration
_VERBS = {"ADDED": "was created", "MODIFIED": "was changed", "DELETED": "was deleted"}


class _Event(Base, frozen=True):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Version(Base, frozen=True):
    resource_version: str = ""


class _Grace(Base, frozen=True):
    deletion_grace_period_seconds: float = 0.0
    resource_version: str = ""


class _Variable(Base, frozen=True):
    name: str = ""
    value: str = ""


class _Container(Base, frozen=True):
    name: str = ""
    env: tuple[_Variable, ...] = ()


class _Spec(Base, frozen=True):
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] = ()


class _More(Base, frozen=True):
    """What only a watch needs of a pod; no snapshot contains its variables."""

    metadata: _Grace = _Grace()
    spec: _Spec = _Spec()


class _Object(Base, frozen=True):
    metadata: Metadata
    kind: str = ""


class _Head(Base, frozen=True):
    metadata: _Version = _Version()


class _List(Base, frozen=True):
    items: tuple[msgspec.Raw, ...] = ()


class _ProxyConfig(Base, frozen=True):
    termination_drain_duration: str = DEFAULT_DRAIN


# before there are threads, see snapshot/model.py
_EVENT, _LIST = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_List)
_POD, _MORE = msgspec.json.Decoder(Pod), msgspec.json.Decoder(_More)
_OBJECT, _HEAD = msgspec.json.Decoder(_Object), msgspec.json.Decoder(_Head)
_PROXY = msgspec.json.Decoder(_ProxyConfig)


class Happenings:
    """The happenings since the watch began.

    Args:
        cluster: the API server.
        services: the Services whose pods are named with them.
        existing: the pods before the watch.
    """

    def __init__(
        self,
        cluster: "Cluster",
        services: tuple[Service, ...] = (),
        existing: tuple[Pod, ...] = (),
    ) -> None:
        self._cluster, self._services = cluster, services
        self._lock = threading.Lock()
        self._began = datetime.now(UTC)
        self._kept: dict[tuple[str, str], Happening] = {}
        self._ready = {each.metadata.uid: pods.ready(each) for each in existing}
        self._generations: dict[str, int] = {}
        self._more = 0
        self.stop = threading.Event()

    @property
    def seen(self) -> tuple[Happening, ...]:
        """Return them in the order in which they began."""
        with self._lock:
            return tuple(sorted(self._kept.values(), key=lambda each: each.at))

    @property
    def more(self) -> int:
        """Return how many were not kept."""
        return self._more

    def start(self) -> None:
        """Start a thread for each kind."""
        kinds = [
            each
            for each in KINDS.values()
            if each.group in (NETWORKING, SECURITY) and each.item != "workload_entries"
        ]
        for each in [KINDS["pods"], *kinds]:
            note = self.pod if each.item == "pods" else self.config
            threading.Thread(target=self._follow, args=(each, note), daemon=True).start()

    def add(self, key: str, what: str, happening: Happening) -> None:
        """Add a happening, or replace the one of the same key and kind.

        Args:
            key: identifies the object.
            what: the kind of happening.
            happening: what happened.
        """
        with self._lock:
            if (key, what) in self._kept or len(self._kept) < MOST:
                self._kept[key, what] = happening
            else:
                self._more += 1

    # --- the stream -----------------------------------------------------------------------------

    def _follow(self, kind: Kind, note: Callable[[str, bytes], None]) -> None:
        version = ""
        while not self.stop.is_set():
            try:
                version = version or self._begin(kind, note)
                for event in self._events(kind, version):
                    if event.type not in _VERBS:
                        version = ""  # its history is gone
                        break
                    note(event.type, bytes(event.object))
                    version = _MORE.decode(event.object).metadata.resource_version or version
            except Exception:  # a connection can end in many ways: the next one may not
                version = ""
            self.stop.wait(PAUSE)

    def _begin(self, kind: Kind, note: Callable[[str, bytes], None]) -> str:
        """Return the version of the list to watch from; configuration is read once."""
        if kind.item == "pods":
            answer = self._cluster.get(kind.path, query=[("limit", "1")], right=kind.right)
            return _HEAD.decode(answer).metadata.resource_version
        answer = self._cluster.get(kind.path, right=kind.right)
        for each in _LIST.decode(answer).items:
            note("LISTED", bytes(each))
        return _HEAD.decode(answer).metadata.resource_version

    def _events(self, kind: Kind, version: str) -> Iterator[_Event]:
        query = [("watch", "1"), ("resourceVersion", version), ("timeoutSeconds", str(PATIENCE))]
        response = self._cluster.send("GET", kind.path, query=query)
        try:
            if response.status != 200:
                return
            waiting = b""
            while part := response.read1():
                *lines, waiting = (waiting + part).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _EVENT.decode(line)
        finally:
            response.close()

    # --- pods -----------------------------------------------------------------------------------

    def pod(self, type: str, data: bytes) -> None:
        """Note what an event says of a pod.

        Args:
            type: ADDED, MODIFIED or DELETED.
            data: the pod as JSON.
        """
        pod, more, now = _POD.decode(data), _MORE.decode(data), datetime.now(UTC)
        key, ready = pod.metadata.uid, pods.ready(pod)
        if pod.metadata.deletion_timestamp:
            grace = timedelta(seconds=more.metadata.deletion_grace_period_seconds)
            at = pod.metadata.deletion_timestamp - grace
            gone = now if type == "DELETED" else None
            self._pod(pod, "was terminating", at, gone, _drain(more))
            self._end(key, "was starting", now)
            self._end(key, "was not Ready", now)
        elif type == "DELETED":
            self._pod(pod, "was deleted", now, now, "")
        elif ready:
            self._end(key, "was starting", now)
            self._end(key, "was not Ready", now)
        elif self._ready.get(key):
            self._pod(pod, "was not Ready", now, None, pods.reason_not_ready(pod)[:80])
        elif type == "ADDED" and (pod.metadata.creation_timestamp or now) >= self._began:
            self._pod(pod, "was starting", pod.metadata.creation_timestamp or now, None, "")
        self._ready[key] = ready
        if type == "DELETED":
            self._ready.pop(key, None)

    def _pod(self, pod: Pod, what: str, at: datetime, until: datetime | None, detail: str) -> None:
        happening = Happening(
            at=at,
            until=until,
            subject=pods.name(pod),
            what=what,
            detail=detail,
            workload=workloads.owner(pod),
            services=tuple(
                f"{each.metadata.namespace}/{each.metadata.name}"
                for each in self._services
                if fronts(each, pod)
            ),
            role=_role(pod),
        )
        self.add(pod.metadata.uid, what, happening)

    def _end(self, key: str, what: str, now: datetime) -> None:
        with self._lock:
            known = self._kept.get((key, what))
            if known and known.until is None:
                self._kept[key, what] = msgspec.structs.replace(known, until=now)

    # --- configuration --------------------------------------------------------------------------

    def config(self, type: str, data: bytes) -> None:
        """Note that an object was created, changed or deleted; a changed status does not count.

        Args:
            type: ADDED, MODIFIED or DELETED; LISTED for what existed before.
            data: the object as JSON.
        """
        each, now = _OBJECT.decode(data), datetime.now(UTC)
        metadata = each.metadata
        before = self._generations.get(metadata.uid)
        self._generations[metadata.uid] = metadata.generation
        if type == "LISTED" or (type == "MODIFIED" and before == metadata.generation):
            return
        name = f"{each.kind} {metadata.namespace}/{metadata.name}"
        happening = Happening(at=now, subject=name, what=_VERBS[type], role=CONFIG)
        self.add(f"{metadata.uid} {metadata.generation}", type, happening)


def _role(pod: Pod) -> str:
    if pod.metadata.labels.get("app") == "istiod":
        return ISTIOD
    if OBSERVED in pod.metadata.labels:
        return OBSERVER
    return GATEWAY if workloads.is_gateway(pod) else ""


def _drain(more: _More) -> str:
    """Return how long the pod's sidecar drains; empty without a sidecar."""
    containers = (*more.spec.init_containers, *more.spec.containers)
    proxy = next((each for each in containers if each.name == workloads.PROXY), None)
    if proxy is None:
        return ""
    given = next((each.value for each in proxy.env if each.name == "PROXY_CONFIG"), "")
    try:
        config = _PROXY.decode(given or "{}")
    except (ValueError, msgspec.MsgspecError):
        return ""
    return f"terminationDrainDuration {config.termination_drain_duration}"
