"""The probe pair: two pods in a separate namespace that call each other and report the results.

They are injected like any other pod.  Each belongs to a Job with a deadline, which Kubernetes
deletes when it has ended: a run that is killed leaves nothing behind.  The run's own Job cannot own
them, since owner references do not cross namespaces.
"""

import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from meshgate.deadline import Deadline
from meshgate.probe.jobs import JOB, PODS, Api, Jobs
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
    outside_pods,
    planned,
    service,
    throttled_pods,
)
from meshgate.probe.plan import Plan
from meshgate.semantics.pods import fails_permanently, reason_not_ready, statuses
from meshgate.semantics.workloads import is_captured, proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.pair import Pair, Peer, PeerCall

INTERVAL = 0.5


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
    end: str = ""
    error: str = ""


class _AllWords(Base, frozen=True):
    items: tuple[_Words, ...] = ()


# before there are threads, see snapshot/model.py
_WORDS = msgspec.json.Decoder(_AllWords)
_REPORT = msgspec.json.Decoder(tuple[_Seen, ...])


class _Found(NamedTuple):
    """A peer's pod, and its caller's termination message: None while it runs."""

    pod: Pod
    words: str | None


class _Asking:
    def __init__(self, api: Api, plan: Plan, deadline: Deadline) -> None:
        self._jobs = Jobs(api, plan.namespace)
        self._plan = plan
        self._deadline = deadline
        self._run = secrets.token_hex(4)
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
        for name in self._made:
            try:
                self._jobs.delete(name)
            except Exception as error:
                errors.append(error)
        self._until_gone()
        if errors:
            raise errors[0]

    def _make(self, name: str) -> None:
        job = manifest(self._plan, self._run, name)
        created = self._jobs.create(job)
        self._made.append(job["metadata"]["name"])
        self._jobs.expose(service(self._plan, self._run, name, JOB.decode(created).metadata.uid))

    def _sweep(self) -> None:
        """Delete what killed runs left, if Kubernetes has not done so."""
        now = datetime.now(UTC)
        for each in self._jobs.listed(f"{LABEL}={OURS}"):
            born = each.metadata.creation_timestamp or now
            # another run may be in progress
            if now - born > timedelta(seconds=each.spec.active_deadline_seconds):
                self._jobs.delete(each.metadata.name)

    def _pods(self) -> dict[str, _Found]:
        """Return the pods of this run, by peer."""
        listed = self._jobs.pods(f"{RUN}={self._run}")
        both = zip(PODS.decode(listed).items, _WORDS.decode(listed).items, strict=True)
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

        def those(wanted: Collection[str]) -> tuple[Peer, ...]:
            return tuple(each for each in peers if each.name in wanted)

        return Pair(
            namespace=self._plan.namespace,
            ambient=self._plan.ambient,
            peers=those(PEERS),
            tempted=those(throttled_pods(self._plan)),
            outside=those(outside_pods(self._plan)),
            calls=tuple(calls),
        )

    def _peer(self, name: str, found: _Found | None, *, reported: bool) -> Peer:
        if found is None:
            return Peer(name=name, unmade="its Job has no pod")
        container = proxy(found.pod)
        seen = Peer(
            name=name,
            proxy_image=container.image if container else "",
            captured=is_captured(found.pod),
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
