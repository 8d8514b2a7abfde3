"""Two pods in a namespace of their own, injected like any other, that call each other and report.

Each is a Job's, with a deadline, and Kubernetes removes what has ended: a run that is killed leaves
nothing after that.  A Job in our own namespace could not own them, for owners do not reach across
namespaces.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from meshgate.probe import peer
from meshgate.probe.plan import Plan
from meshgate.semantics.pods import hopeless, statuses, trouble
from meshgate.semantics.workloads import proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata, Pod
from meshgate.snapshot.pair import Pair, Peer, PeerCall

LABEL, OURS = "app.kubernetes.io/managed-by", "meshgate"
RUN, PEER = "meshgate.dev/run", "meshgate.dev/peer"
PEERS = ("a", "b")
SERVER, CALLER = "serve", "call"
LATER = ((503, 2), (429, 2))
GRACE = 15  # seconds more that Kubernetes gives than we do
INTERVAL = 0.5


class Api(Protocol):
    """What is needed of the API server; all of it in one namespace."""

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes: ...

    def create(self, path: str, value: object, *, right: str) -> bytes: ...

    def delete(
        self, path: str, *, right: str, query: list[tuple[str, str]] | None = None
    ) -> None: ...


def ask(api: Api, plan: Plan) -> Pair:
    """Makes the pair, waits for what it reports, and takes it away, whatever happens."""
    return _Asking(api, plan).ask()


class _Ended(Base, frozen=True):
    message: str = ""


class _State(Base, frozen=True):
    terminated: _Ended | None = None


class _Status(Base, frozen=True):
    name: str
    state: _State = _State()


class _Statuses(Base, frozen=True):
    container_statuses: tuple[_Status, ...] = ()


class _Words(Base, frozen=True):
    """What of a pod no snapshot keeps: the last words of its containers."""

    status: _Statuses = _Statuses()


class _Seen(Base, frozen=True):
    """One entry of a caller's report."""

    status: int = 0
    caller: str | None = None
    local: bool = False
    words: str = ""
    denied: bool = False
    gap: float | None = None
    sent: int = 0
    retry_after: tuple[str, ...] = ()
    error: str = ""


class _Job(Base, frozen=True):
    metadata: "_Identity"
    spec: "_Deadline"


class _Identity(Metadata, frozen=True):
    uid: str = ""


class _Deadline(Base, frozen=True):
    active_deadline_seconds: int = 0


class _Pods(Base, frozen=True):
    items: tuple[Pod, ...] = ()


class _AllWords(Base, frozen=True):
    items: tuple[_Words, ...] = ()


class _Jobs(Base, frozen=True):
    items: tuple[_Job, ...] = ()


# before there are threads, see snapshot/model.py
_PODS = msgspec.json.Decoder(_Pods)
_WORDS = msgspec.json.Decoder(_AllWords)
_JOB = msgspec.json.Decoder(_Job)
_JOBS = msgspec.json.Decoder(_Jobs)
_REPORT = msgspec.json.Decoder(tuple[_Seen, ...])


class _Found(NamedTuple):
    """A peer's pod, and its caller's last words: None while it has not ended."""

    pod: Pod
    words: str | None


class _Asking:
    def __init__(self, api: Api, plan: Plan) -> None:
        self._api = api
        self._plan = plan
        self._run = secrets.token_hex(4)
        self._jobs = f"/apis/batch/v1/namespaces/{plan.namespace}/jobs"
        self._made: list[str] = []

    def ask(self) -> Pair:
        self._sweep()
        try:
            for name in _names(self._plan):
                self._make(name)
            return self._seen(self._wait())
        finally:
            for path in self._made:
                self._remove(path)
            self._until_gone()

    def _right(self, verb: str, resource: str) -> str:
        return f"{verb} {resource} in {self._plan.namespace}"

    def _make(self, name: str) -> None:
        job = manifest(self._plan, self._run, name)
        created = self._api.create(self._jobs, job, right=self._right("create", "jobs.batch"))
        self._made.append(f"{self._jobs}/{job['metadata']['name']}")
        self._api.create(
            f"/api/v1/namespaces/{self._plan.namespace}/services",
            service(self._plan, self._run, name, _JOB.decode(created).metadata.uid),
            right=self._right("create", "services"),
        )

    def _sweep(self) -> None:
        """Removes what killed runs left, should Kubernetes not have done so."""
        query = [("labelSelector", f"{LABEL}={OURS}")]
        listed = self._api.get(self._jobs, query=query, right=self._right("list", "jobs.batch"))
        now = datetime.now(UTC)
        for each in _JOBS.decode(listed).items:
            born = each.metadata.creation_timestamp or now
            # a run beside ours may still need its own
            if now - born > timedelta(seconds=each.spec.active_deadline_seconds):
                self._remove(f"{self._jobs}/{each.metadata.name}")

    def _remove(self, path: str) -> None:
        # without this a Job that is deleted leaves its pods
        query = [("propagationPolicy", "Background")]
        self._api.delete(path, query=query, right=self._right("delete", "jobs.batch"))

    def _pods(self) -> dict[str, _Found]:
        """By peer."""
        listed = self._api.get(
            f"/api/v1/namespaces/{self._plan.namespace}/pods",
            query=[("labelSelector", f"{RUN}={self._run}")],
            right=self._right("list", "pods"),
        )
        both = zip(_PODS.decode(listed).items, _WORDS.decode(listed).items, strict=True)
        return {
            pod.metadata.labels.get(PEER, ""): _Found(pod, next(_last_words(words), None))
            for pod, words in both
        }

    def _wait(self) -> dict[str, _Found]:
        """The pods, once both have told all, or cannot, or the time is over."""
        end = time.monotonic() + self._plan.seconds
        while True:
            found = self._pods()
            told = [each.words is not None or hopeless(each.pod) for each in found.values()]
            if (len(told) == len(_names(self._plan)) and all(told)) or time.monotonic() >= end:
                return found
            time.sleep(INTERVAL)

    def _until_gone(self) -> None:
        """What comes after us must not take them for workloads."""
        end = time.monotonic() + GRACE
        while self._made and self._pods() and time.monotonic() < end:
            time.sleep(INTERVAL)

    def _seen(self, found: Mapping[str, _Found]) -> Pair:
        peers, calls = [], []
        for name in _names(self._plan):
            report = _report(found[name].words) if name in found else None
            peers.append(self._peer(name, found.get(name), told=report is not None))
            planned_calls = _planned(self._plan, self._run, name)
            for planned, seen in zip(planned_calls, report or (), strict=False):
                calls.append(
                    PeerCall(
                        peer=name,
                        kind=planned.kind,
                        target=planned.target,
                        code=planned.code,
                        asked=planned.asked,
                        **msgspec.structs.asdict(seen),
                    )
                )
        return Pair(
            namespace=self._plan.namespace,
            peers=tuple(peers[: len(PEERS)]),
            tempted=tuple(peers[len(PEERS) :]),
            calls=tuple(calls),
        )

    def _peer(self, name: str, found: _Found | None, *, told: bool) -> Peer:
        if found is None:
            return Peer(name=name, unmade="no pod was made for its Job")
        container = proxy(found.pod)
        seen = Peer(
            name=name,
            proxy_image=container.image if container else "",
            labels=found.pod.metadata.labels,
        )
        if told:
            return seen
        if hopeless(found.pod) or not any(statuses(found.pod)):
            return msgspec.structs.replace(seen, unmade=trouble(found.pod))
        if found.words is not None:
            return msgspec.structs.replace(seen, unmade=f"it ended with {found.words[:200]!r}")
        words = f"it told nothing within {self._plan.seconds:.0f} s: {trouble(found.pod)}"
        return msgspec.structs.replace(seen, stuck=words)


def _last_words(pod: _Words) -> Iterator[str]:
    for status in pod.status.container_statuses:
        if status.name == CALLER and status.state.terminated is not None:
            yield status.state.terminated.message


def _report(words: str | None) -> tuple[_Seen, ...] | None:
    try:
        return _REPORT.decode(words or "")
    except ValueError:
        return None


# --- what is made -------------------------------------------------------------------------------


class _Planned(NamedTuple):
    kind: str
    target: str
    method: str
    url: str
    code: int = 0
    asked: int = 0

    def told(self, most: int) -> dict[str, Any]:
        """What the peer is told of it."""
        return {"method": self.method, "url": self.url, "most": most}


def _tempted(plan: Plan) -> dict[str, dict[str, str]]:
    """The names of those beside the pair that are only called, and the labels that they carry."""
    return {chr(ord("c") + n): labels for n, labels in enumerate(plan.throttled)}


def _names(plan: Plan) -> tuple[str, ...]:
    return (*PEERS, *_tempted(plan))


def _planned(plan: Plan, run: str, name: str) -> Iterable[_Planned]:
    """The calls of one peer, in the order in which it reports them."""
    if name not in PEERS:
        return
    (other,) = (each for each in PEERS if each != name)
    there = f"http://{_name(run, other)}.{plan.namespace}"
    yield _Planned("peer", other, "GET", f"{there}/")
    for kind, urls in (("declared", plan.declared), ("sampled", plan.sampled)):
        for url in urls:
            # nothing is asked of an application but what it offers
            yield _Planned(kind, url, "OPTIONS", url)
    if name == PEERS[0]:
        for code, asked in LATER:
            yield _Planned("later", other, "LATER", f"{there}/later/{code}/{asked}", code, asked)
        for each in _tempted(plan):
            url = f"http://{_name(run, each)}.{plan.namespace}/"
            yield _Planned("burst", each, "BURST", url)


def _name(run: str, peer: str) -> str:
    return f"probe-{run}-{peer}"


def _labels(run: str, name: str) -> dict[str, str]:
    return {LABEL: OURS, RUN: run, PEER: name}


def manifest(plan: Plan, run: str, name: str) -> dict[str, Any]:
    """One peer's Job: it ends by itself, and is removed as soon as it has ended."""
    calls = [each.told(plan.most) for each in _planned(plan, run, name)]
    labels, patience = _labels(run, name), f"{plan.seconds / 2:.0f}"
    theirs = _tempted(plan).get(name, {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _name(run, name), "namespace": plan.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(plan.seconds) + GRACE,
            "ttlSecondsAfterFinished": 0,
            "template": {
                # nothing here asks for a sidecar: the namespace does, as for any other pod
                "metadata": {"labels": {**theirs, **labels}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containers": [
                        _container(plan, SERVER),
                        _container(plan, CALLER, msgspec.json.encode(calls).decode(), patience),
                    ],
                },
            },
        },
    }


def _container(plan: Plan, role: str, *words: str) -> dict[str, Any]:
    return {
        "name": role,
        "image": plan.image,
        "command": ["python3", "-c", Path(peer.__file__).read_text(), role, *words],
        **({"ports": [{"containerPort": peer.PORT, "name": "http"}]} if role == SERVER else {}),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def service(plan: Plan, run: str, name: str, owner: str) -> dict[str, Any]:
    """The name by which the other peer finds it; it goes with the Job."""
    job = {"apiVersion": "batch/v1", "kind": "Job", "name": _name(run, name), "uid": owner}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": _name(run, name),
            "namespace": plan.namespace,
            "labels": _labels(run, name),
            "ownerReferences": [job],
        },
        "spec": {
            "selector": _labels(run, name),
            # a pod is not ready any more when its caller has ended, and still serves
            "publishNotReadyAddresses": True,
            "ports": [{"name": "http", "port": 80, "targetPort": peer.PORT}],
        },
    }
