"""From a cluster, or from a file, to a Snapshot: two sources behind one protocol."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from meshgate import __version__
from meshgate.collect import istioctl, istiod
from meshgate.collect.kubernetes import Cluster, Unreadable
from meshgate.collect.plan import (
    ADMISSION,
    ANALYSIS,
    ISTIOD,
    KINDS,
    REQUIRES,
    SIGNING,
    closure,
)
from meshgate.facts.webhooks import Backend, Webhooks, enrolled
from meshgate.probe import admission, signing
from meshgate.snapshot.model import Expectations, Gap, Pod, ProxySync, Signing, Snapshot
from meshgate.snapshot.redact import redacted

Progress = Callable[[str], None]

WHY_NOT_ASKED = (
    "no token of audience istio-ca: run inside the cluster, or name one with --istiod-token-file"
)


class Source(Protocol):
    """Where evidence comes from."""

    live: bool

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        """Evidence that holds at least `items`.

        With `previous` only the items of `refresh` are read again, the rest is carried over.
        """


class Replay:
    """A recording: the same evidence however often one looks.

    Args:
        snapshot: what was recorded.
        expectations: what it is held against now.
    """

    live = False

    def __init__(self, snapshot: Snapshot, expectations: Expectations) -> None:
        self.snapshot = msgspec.structs.replace(snapshot, expectations=expectations)

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        return self.snapshot


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a cluster and its istiods; times in seconds.

    `istiod_access` is `direct`, `port-forward`, or `auto`: direct from inside the cluster.
    """

    kubeconfig: str | None = None
    context: str | None = None
    request_timeout: float = 30.0
    istiod_access: str = "auto"
    istiod_token_file: str | None = None
    istioctl: str = "istioctl"
    analyze_timeout: float = 60.0


def connect(
    access: Access, expectations: Expectations, progress: Progress = lambda words: None
) -> "Live":
    """A source that reads a cluster; raises NoCluster when none is configured."""
    cluster = Cluster(
        config=access.kubeconfig, context=access.context, timeout=access.request_timeout
    )
    token = Path(access.istiod_token_file) if access.istiod_token_file else None
    transport: istiod.Transport = istiod.PortForward(cluster, token, access.request_timeout)
    if access.istiod_access == "direct" or (access.istiod_access == "auto" and cluster.in_cluster):
        transport = istiod.Direct(token, access.request_timeout)
    return Live(
        cluster,
        transport,
        expectations,
        istioctl=access.istioctl,
        analyze_timeout=access.analyze_timeout,
        progress=progress,
    )


class Live:
    """A cluster.

    Args:
        cluster: the connection to its API server.
        transport: the way to istiod's replicas.
        expectations: what the person asked for; stored with the evidence.
        istioctl: the program for analyze, and seconds that it may take.
        progress: told in words what is being read.
    """

    live = True

    def __init__(
        self,
        cluster: Cluster,
        transport: istiod.Transport,
        expectations: Expectations,
        *,
        istioctl: str,
        analyze_timeout: float,
        progress: Progress = lambda words: None,
    ) -> None:
        self.cluster = cluster
        self._transport = transport
        self._expectations = expectations
        self._istioctl = istioctl
        self._analyze_timeout = analyze_timeout
        self._progress = progress

    def capture(
        self, items: Iterable[str], previous: Snapshot | None = None, refresh: Iterable[str] = ()
    ) -> Snapshot:
        started = _now()
        wanted = closure(items)
        fresh = wanted if previous is None else closure(refresh) & wanted
        base = previous or Snapshot(
            meshgate_version=__version__,
            taken=started,
            started=started,
            source=self.cluster.source,
            expectations=self._expectations,
        )
        self._progress(f"reading {', '.join(sorted(fresh))} from {self.cluster.source}")
        found, gaps = self._read(fresh)
        kept = [gap for gap in base.gaps if gap.item not in fresh]
        snapshot = msgspec.structs.replace(
            base,
            taken=_now(),
            read=tuple(sorted({*base.read} - fresh | (fresh - {gap.item for gap in gaps}))),
            gaps=tuple(sorted([*kept, *gaps], key=lambda gap: gap.item)),
            **redacted(found),
        )
        if ISTIOD in found:
            since = _unanswered(snapshot, previous)
            snapshot = msgspec.structs.replace(snapshot, unanswered_since=since)
        return redacted_gaps(snapshot)

    def _read(self, items: frozenset[str]) -> tuple[dict[str, Any], list[Gap]]:
        found: dict[str, Any] = {}
        gaps: list[Gap] = []

        def attempt(item: str, read: Callable[[], Any], field: str) -> None:
            try:
                found[field] = read()
            except Unreadable as error:
                gaps.append(Gap(item=item, why=error.why, remedy=error.remedy, heals=error.heals))

        # One small request first: where there is no API server there is one gap, told once.
        attempt("kubernetes", self.cluster.version, "kubernetes_version")
        if gaps:
            reason = gaps.pop()
            return {}, [msgspec.structs.replace(reason, item=item) for item in sorted(items)]
        readers = {item: self._lister(item) for item in sorted(items & KINDS.keys())}
        if ANALYSIS in items:
            readers[ANALYSIS] = self._analyze
        with ThreadPoolExecutor(max_workers=6) as pool:
            reads = [pool.submit(attempt, item, read, item) for item, read in readers.items()]
        for read in reads:
            read.result()  # what is no Unreadable is a defect: it must not vanish in its thread
        dependents: dict[str, Callable[[dict[str, Any]], Any]] = {
            ISTIOD: self._istiod,
            ADMISSION: self._admission,
            SIGNING: self._signing,
        }
        for item in sorted(items & dependents.keys()):
            missing = [gap for gap in gaps if gap.item in REQUIRES[item]]
            if missing:
                gaps.append(msgspec.structs.replace(missing[0], item=item))
            else:
                attempt(item, partial(dependents[item], found), item)
        return found, gaps

    def _lister(self, item: str) -> Callable[[], tuple[Any, ...]]:
        kind = KINDS[item]
        only = kind.only.format(istio_namespace=self._expectations.istio_namespace)
        return lambda: self.cluster.objects(msgspec.structs.replace(kind, only=only))

    def _analyze(self) -> Any:
        return istioctl.analyze(
            self.cluster,
            istioctl=self._istioctl,
            istio_namespace=self._expectations.istio_namespace,
            timeout=self._analyze_timeout,
        )

    def _istiod(self, found: dict[str, Any]) -> Any:
        return istiod.read(self._replicas(found), self._transport)

    def _replicas(self, found: dict[str, Any]) -> list[Pod]:
        namespace = self._expectations.istio_namespace
        return [
            pod
            for pod in found["pods"]
            if pod.metadata.namespace == namespace
            and pod.metadata.labels.get("app") == "istiod"
            and pod.status.phase == "Running"
            and pod.metadata.deletion_timestamp is None
        ]

    def _admission(self, found: dict[str, Any]) -> Any:
        webhooks = Webhooks(*(found[item] for item in REQUIRES[ADMISSION] if item != "namespaces"))
        return admission.ask(webhooks, enrolled(found["namespaces"]), self._transport.dial)

    def _signing(self, found: dict[str, Any]) -> Any:
        token = self._transport.token()
        if token is None:
            return Signing(not_asked=WHY_NOT_ASKED)
        credential = signing.credential(token)
        namespace = self._expectations.istio_namespace
        roots = {each.metadata.namespace: each.data.pem for each in found["root_certificates"]}
        root = roots.get(credential.namespace) or roots.get(namespace) or ""
        return signing.ask(
            [self._replica(pod) for pod in self._replicas(found)], credential, root, _now()
        )

    def _replica(self, pod: Pod) -> signing.Replica:
        metadata = pod.metadata
        revision = metadata.labels.get("istio.io/rev", "default")
        service = "istiod" if revision == "default" else f"istiod-{revision}"
        backend = Backend(metadata.namespace, metadata.name, pod.status.pod_ip, signing.CA_PORT)
        return signing.Replica(
            metadata.name,
            f"{service}.{metadata.namespace}.svc",
            lambda: self._transport.dial(backend),
        )


def redacted_gaps(snapshot: Snapshot) -> Snapshot:
    """Error texts hold what others wrote: they pass the redactor like every other free text."""
    return msgspec.structs.replace(snapshot, gaps=redacted(snapshot.gaps))


def _unanswered(snapshot: Snapshot, previous: Snapshot | None) -> dict[str, datetime]:
    """When each push that is unanswered now was first seen so, in this run or by istiod's word."""
    before = previous.unanswered_since if previous else {}
    since: dict[str, datetime] = {}
    for reading in snapshot.istiod:
        for proxy in reading.proxies:
            for key, sent in _pending(proxy):
                at = reading.at or snapshot.taken
                # istiod's clock may run apart from ours: only the age is taken from it
                first = snapshot.taken - (at - sent if sent and at > sent else at - at)
                since[key] = min(before.get(key, first), first)
    return since


def _pending(proxy: ProxySync) -> Iterable[tuple[str, datetime | None]]:
    for type_url, state in proxy.resources.items():
        if state.sent and state.sent != state.acked and not state.last_error:
            yield f"{proxy.proxy}|{type_url}", state.sent_time


def _now() -> datetime:
    return datetime.now(UTC)
