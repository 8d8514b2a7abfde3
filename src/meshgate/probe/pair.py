"""The probe pair: two pods in a separate namespace that call each other and report the results.

They are injected like any other pod.  Each belongs to a Job with a deadline, which Kubernetes
deletes when it has ended: a run that is killed leaves nothing behind.  The run's own Job cannot own
them, since owner references do not cross namespaces.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec

from meshgate.deadline import Deadline
from meshgate.probe.pair_manifests import (
    CALLER,
    GRACE,
    LABEL,
    OURS,
    PEER,
    PEERS,
    RUN,
    manifest,
    names,
    planned,
    service,
)
from meshgate.probe.plan import Plan
from meshgate.semantics.pods import fails_permanently, reason_not_ready, statuses
from meshgate.semantics.workloads import proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata, Pod
from meshgate.snapshot.pair import Pair, Peer, PeerCall

INTERVAL = 0.5


class Api(Protocol):
    """The calls to the API server that a pair needs, all of them in one namespace."""

    def get(
        self, path: str, *, query: list[tuple[str, str]] | None = None, right: str = ""
    ) -> bytes: ...

    def create(self, path: str, value: object, *, right: str) -> bytes: ...

    def delete(
        self, path: str, *, right: str, query: list[tuple[str, str]] | None = None
    ) -> None: ...


def ask(api: Api, plan: Plan, deadline: Deadline | None = None) -> Pair:
    """Create the pair, wait for its report, and delete it in any case.

    Args:
        api: where it is created.
        plan: what it calls, and for how long.
        deadline: when the run ends; None for no end.

    Returns:
        What its pods reported.

    Raises:
        ReadError: a permission is missing, or the API server does not answer.
    """
    return _Asking(api, plan, deadline or Deadline()).ask()


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
    """The termination messages of a pod's containers, which no snapshot contains."""

    status: _Statuses = _Statuses()


class _Seen(Base, frozen=True):
    """One entry of a caller's report (peer.py)."""

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
    """A peer's pod, and its caller's termination message: None while it runs."""

    pod: Pod
    words: str | None


class _Asking:
    def __init__(self, api: Api, plan: Plan, deadline: Deadline) -> None:
        self._api = api
        self._plan = plan
        self._deadline = deadline
        self._run = secrets.token_hex(4)
        self._jobs = f"/apis/batch/v1/namespaces/{plan.namespace}/jobs"
        self._made: list[str] = []

    def ask(self) -> Pair:
        self._sweep()
        try:
            for name in names(self._plan):
                self._make(name)
            return self._seen(self._wait())
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        """Delete every Job of the pair, also after one of them cannot be deleted."""
        errors: list[Exception] = []
        for path in self._made:
            try:
                self._remove(path)
            except Exception as error:
                errors.append(error)
        self._until_gone()
        if errors:
            raise errors[0]

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
        """Delete what killed runs left, if Kubernetes has not done so."""
        query = [("labelSelector", f"{LABEL}={OURS}")]
        listed = self._api.get(self._jobs, query=query, right=self._right("list", "jobs.batch"))
        now = datetime.now(UTC)
        for each in _JOBS.decode(listed).items:
            born = each.metadata.creation_timestamp or now
            # another run may be in progress
            if now - born > timedelta(seconds=each.spec.active_deadline_seconds):
                self._remove(f"{self._jobs}/{each.metadata.name}")

    def _remove(self, path: str) -> None:
        # without this, the pods of a deleted Job remain
        query = [("propagationPolicy", "Background")]
        self._api.delete(path, query=query, right=self._right("delete", "jobs.batch"))

    def _pods(self) -> dict[str, _Found]:
        """Return the pods of this run, by peer."""
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
        """Return the pods when all have reported or never will, or when time is up."""
        end = self._deadline.within(self._plan.seconds)
        while True:
            found = self._pods()
            ended = [
                each.words is not None or fails_permanently(each.pod) for each in found.values()
            ]
            if (len(ended) == len(names(self._plan)) and all(ended)) or end.passed:
                return found
            time.sleep(INTERVAL)

    def _until_gone(self) -> None:
        """Wait until the pods are gone: later readers must not see them as workloads."""
        end = time.monotonic() + GRACE
        while self._made and not self._deadline.passed and time.monotonic() < end:
            if not self._pods():
                return
            time.sleep(INTERVAL)

    def _seen(self, found: Mapping[str, _Found]) -> Pair:
        peers, calls = [], []
        for name in names(self._plan):
            report = _report(found[name].words) if name in found else None
            peers.append(self._peer(name, found.get(name), reported=report is not None))
            expected = planned(self._plan, self._run, name)
            for call, seen in zip(expected, report or (), strict=False):
                calls.append(
                    PeerCall(
                        peer=name,
                        kind=call.kind,
                        target=call.target,
                        code=call.code,
                        asked=call.asked,
                        **msgspec.structs.asdict(seen),
                    )
                )
        return Pair(
            namespace=self._plan.namespace,
            peers=tuple(peers[: len(PEERS)]),
            tempted=tuple(peers[len(PEERS) :]),
            calls=tuple(calls),
        )

    def _peer(self, name: str, found: _Found | None, *, reported: bool) -> Peer:
        if found is None:
            return Peer(name=name, unmade="its Job has no pod")
        container = proxy(found.pod)
        seen = Peer(
            name=name,
            proxy_image=container.image if container else "",
            labels=found.pod.metadata.labels,
        )
        if reported:
            return seen
        if fails_permanently(found.pod) or not any(statuses(found.pod)):
            return msgspec.structs.replace(seen, unmade=reason_not_ready(found.pod))
        if found.words is not None:
            return msgspec.structs.replace(
                seen, unmade=f"it ended with the message {found.words[:200]!r}"
            )
        words = f"reported nothing within {self._plan.seconds:.0f} s: {reason_not_ready(found.pod)}"
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
