"""The evidence of one capture: frozen structs that hold only the fields that facts use.

The types are the first line of redaction: a field that is not named in them (environment values,
arguments, foreign annotations, Secret data) is never decoded, so it cannot reach a file or a log.
Times are timezone-aware UTC.  What a snapshot is made of stands beside this file, by its origin.
"""

from collections.abc import Collection
from datetime import date, datetime

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.declared_pairs import DeclaredPair
from meshgate.snapshot.gateway_api import ApiGateway
from meshgate.snapshot.ingress import INSIDE, Answer, Ingress
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.snapshot.items import ISTIO_KINDS, Items
from meshgate.snapshot.mtls import PortProbes
from meshgate.snapshot.new_pods import NewPods
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.traffic_metrics import TrafficLimits, Window
from meshgate.snapshot.upgrade import Support
from meshgate.snapshot.watch import Watch

SCHEMA = 3  # a change of it comes with a row in migrate.py


class Undecodable(Base, frozen=True):
    """One object of a list that could not be decoded: `name` is `namespace/name`."""

    kind: str
    name: str
    field: str
    why: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{self.kind} {self.name}: {where}{self.why}".strip()


class Gap(Base, frozen=True):
    """An item that could not be read, why, and what to do; `transient` if a retry may succeed.

    With `objects` the item was read, except for these.
    """

    item: str
    why: str
    remedy: str = ""
    transient: bool = False
    objects: tuple[Undecodable, ...] = ()


class Waiver(Base, frozen=True):
    """A known finding that is accepted with a reason until a date.

    `subject`, `problem`, `seen` and the values of `about` are globs (globs.py) over the finding's;
    `subject` is held against both the object and the workload that owns it.
    """

    check: str
    subject: str
    reason: str
    until: date
    problem: str = "*"
    about: dict[str, str] = {}
    seen: str = "*"


class KnownProblem(Base, frozen=True):
    """The identity of a finding (verdict.py), and how often it was found."""

    check: str
    subject: str
    problem: str
    about: tuple[tuple[str, str], ...] = ()
    count: int = 1


class Before(Base, frozen=True):
    """What the baseline saw, as far as checks compare with it; a stage adds what it compares.

    `target_version` is what the baseline was evaluated against when it was captured;
    `analyzed_by` is the version of the istioctl whose analysis it contains, `analyzed` are the
    Errors and Warnings of that, and `specs` the versions of the specs of Istio's objects, by
    `Kind namespace/name`; `istiod_versions` are those of its istiods, and `roots` the PEM bundle
    that the workloads of their namespace trusted; `traffic` is the window that ended with it.
    `namespaces` has the UIDs of those that distinguish one cluster from another, and `rollouts` is
    how often each Deployment of istiod (its UID) was rolled out; both are None if an older meshgate
    read the baseline.
    """

    taken: datetime
    target_version: str | None = None
    api_gateways: tuple[ApiGateway, ...] = ()
    ingress: Ingress | None = None
    pair: Pair | None = None
    new_pods: NewPods | None = None
    port_probes: PortProbes | None = None
    analyzed_by: str = ""
    analyzed: tuple[AnalysisMessage, ...] = ()
    specs: dict[str, str] = {}
    istiod_versions: tuple[str, ...] = ()
    roots: str = ""
    traffic: Window | None = None
    istio_namespace: str = ""
    namespaces: dict[str, str] | None = None
    rollouts: dict[str, str] | None = None


# The parts of a mesh that may be accepted as not verified (--accept-unverified).
EXTERNAL_CA, AMBIENT, ISTIOD, WEBHOOKS = "CA", "ambient", "istiod", "webhooks"


class Expectations(Base, frozen=True):
    """The settings that a verdict depends on, stored so that a replay agrees.

    `stale_after`: seconds for which a proxy may leave a push unanswered.
    `failure_threshold`: the level from which on a message of analyze fails.
    `require_mtls`: `strict` where every port must take mTLS alone.
    `excluded`: globs of `namespace/workload:port` that are not connected to; `sample`: how many
    ports of each workload are, 0 for all; `shard`: `I/N`, the share of them that is ours.
    `known_problems`: what was already wrong in the baseline; None where there is no baseline.
    `support`: another support matrix than the one that travels with meshgate.
    `require_shadow`: an upgrade that was not tried in the shadow could not be verified;
    `accepted_losses`: globs of `TYPE RESOURCE PATH` that a proxy may lose by it.
    `before`: what it saw.  `vantages`: where traffic must have been sent from.  `answers`: what
    declared requests must get.  `watch`: what was sent during the upgrade.
    `loss_budgets`: how many requests to a Service or through a Gateway may be lost,
    `NAMESPACE/NAME=N`; 0 without one.
    `accepted_unverified`: parts of the mesh that meshgate cannot verify and that were accepted:
    `CA` for an external certificate authority, `ambient` for pods in ambient mode, `istiod` for a
    control plane outside the cluster, `webhooks` for what other webhooks change in new pods.
    `pairs`: which ServiceAccounts must be allowed or denied to send which requests.
    `traffic`: what errors and durations are judged by.  `images`: what every node must pull.
    """

    istio_namespace: str = "istio-system"
    target_version: str | None = None
    stale_after: float = 30.0
    failure_threshold: str = "Error"
    require_mtls: str = ""
    excluded: tuple[str, ...] = ()
    sample: int = 0
    shard: str = ""
    waivers: tuple[Waiver, ...] = ()
    known_problems: tuple[KnownProblem, ...] | None = None
    require_retry_after: bool = False
    retry_after_targets: tuple[str, ...] = ()
    allow_rollback: bool = False
    support: Support | None = None
    before: Before | None = None
    vantages: tuple[str, ...] = (INSIDE,)
    require_shadow: bool = False
    accepted_losses: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    watch: Watch | None = None
    loss_budgets: tuple[str, ...] = ()
    accepted_unverified: tuple[str, ...] = ()
    pairs: tuple[DeclaredPair, ...] = ()
    traffic: TrafficLimits = TrafficLimits()
    images: tuple[str, ...] = ()


class Snapshot(Items, frozen=True, kw_only=True):
    """Everything that one verdict rests on: the items (items.py), and what is known of the capture.

    Attributes:
        read: the names of the items that were read in full; an item is in `read`, or in a gap, or
            was not requested.
        api_versions: item to the API version that it was read at, empty where the cluster does not
            serve the kind.
        unanswered_since: `proxy|type URL` to when a push was first seen unanswered in this run.
        started: when the run first looked; with `unanswered_since` it ages what is STALE.
        unconfirmed: transient findings that only the last of several captures has.
    """

    meshgate_version: str
    taken: datetime
    started: datetime
    source: str
    expectations: Expectations = Expectations()
    kubernetes_version: str = ""
    read: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    api_versions: dict[str, str] = {}
    unanswered_since: dict[str, datetime] = {}
    unconfirmed: tuple[KnownProblem, ...] = ()
    watch: Watch | None = None

    def __repr__(self) -> str:
        # A failing test prints its fixtures: one line, never the mesh.
        return f"<Snapshot of {self.source} at {self.taken:%Y-%m-%dT%H:%M:%SZ}>"


# Made before there are threads: msgspec looks a struct's fields up when it first decodes one, and
# two threads that do so at once for the same struct end the process.
DECODER = msgspec.json.Decoder(Snapshot)


def specs(items: Items, kinds: Collection[str] | None = None) -> dict[str, str]:
    """Return the versions of the specs of Istio's objects, by `Kind namespace/name`.

    The API server increases `generation` with every change of a spec.

    Args:
        items: a snapshot, or what gives its items.
        kinds: the kinds; None for all.
    """
    return {
        f"{kind.type.__name__} {each.metadata.namespace}/{each.metadata.name}": (
            f"{each.metadata.uid} {each.metadata.generation}"
        )
        for kind in ISTIO_KINDS
        if kinds is None or kind.type.__name__ in kinds
        for each in getattr(items, kind.item)
        if each.metadata.uid and each.metadata.generation
    }


def cluster_namespaces(snapshot: Snapshot) -> dict[str, str]:
    """Return the UIDs, by name, of the namespaces that exist as long as the cluster or the mesh."""
    names = ("kube-system", snapshot.expectations.istio_namespace)
    return {
        each.metadata.name: each.metadata.uid
        for each in snapshot.namespaces
        if each.metadata.name in names and each.metadata.uid
    }


def istiod_rollouts(snapshot: Snapshot) -> dict[str, str]:
    """Return how often each Deployment of istiod was rolled out, by its UID.

    A rollback counts too; a change of the number of replicas does not.
    """
    return {
        each.metadata.uid: each.metadata.annotations.rollouts or ""
        for each in snapshot.deployments
        if each.metadata.namespace == snapshot.expectations.istio_namespace
        and each.metadata.labels.get("app") == "istiod"
    }


def before(baseline: Snapshot) -> Before:
    """Return what later captures are compared with."""
    return Before(
        taken=baseline.taken,
        target_version=baseline.expectations.target_version,
        api_gateways=baseline.api_gateways,
        ingress=baseline.ingress,
        pair=baseline.pair,
        new_pods=baseline.new_pods,
        port_probes=baseline.port_probes,
        analyzed_by=baseline.analysis.istioctl_version if baseline.analysis else "",
        analyzed=tuple(
            each
            for each in (baseline.analysis.messages if baseline.analysis else ())
            if each.level != "Info"
        ),
        specs=specs(baseline),
        istiod_versions=tuple(sorted({each.version for each in baseline.istiod if each.version})),
        roots="".join(
            each.data.pem
            for each in baseline.root_certificates
            if each.metadata.namespace == baseline.expectations.istio_namespace
        ),
        traffic=baseline.traffic_metrics.now if baseline.traffic_metrics else None,
        istio_namespace=baseline.expectations.istio_namespace,
        namespaces=cluster_namespaces(baseline),
        rollouts=istiod_rollouts(baseline),
    )
