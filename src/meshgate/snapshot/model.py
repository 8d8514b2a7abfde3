"""The evidence of one capture: frozen structs that hold only the fields that facts use.

The types are the first line of redaction: a field that is not named in them (environment values,
arguments, foreign annotations, Secret data) is never decoded, so it cannot reach a file or a log.
Times are timezone-aware UTC.  What a snapshot is made of stands beside this file, by its origin.
"""

from datetime import date, datetime

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.gateway_api import ApiGateway, Route
from meshgate.snapshot.ingress import INSIDE, Answer, Ingress, Watch
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    DestinationRule,
    EnvoyFilter,
    Gateway,
    PeerAuthentication,
    ServiceEntry,
    VirtualService,
    WorkloadEntry,
)
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.istiod import IstiodMetrics, IstiodReading
from meshgate.snapshot.kubernetes import (
    Controller,
    Deployment,
    DisruptionBudget,
    EndpointSlice,
    Namespace,
    NetworkPolicy,
    Pod,
    RootCertificate,
    Service,
    WebhookConfiguration,
)
from meshgate.snapshot.mtls import Contacts
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.retry_after import Burst, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.upgrade import (
    Definition,
    Node,
    Settings,
    Support,
    Workload,
)
from meshgate.snapshot.wire import Admission, Signing

SCHEMA = 1


class Gap(Base, frozen=True):
    """Something that could not be read, and what would mend that; `heals` if time alone may."""

    item: str
    why: str
    remedy: str = ""
    transient: bool = False


class Waiver(Base, frozen=True):
    """Findings that somebody knows of and answers for, until a day; both patterns are globs."""

    check: str
    subject: str
    reason: str
    until: date
    seen: str = "*"


class Before(Base, frozen=True):
    """What the baseline saw, as far as claims compare with it; a stage adds what it compares."""

    taken: datetime
    api_gateways: tuple[ApiGateway, ...] = ()
    ingress: Ingress | None = None


class Expectations(Base, frozen=True):
    """What the person asked for, as far as a verdict depends on it; kept so that a replay agrees.

    `stale_after`: seconds for which a proxy may leave a push unanswered.
    `failure_threshold`: the level from which on a message of analyze fails.
    `require_mtls`: `strict` where every port must take mTLS alone.
    `excluded`: globs of `namespace/workload:port` that are not connected to; `sample`: how many
    ports of each workload are, 0 for all; `shard`: `I/N`, the share of them that is ours.
    `known`: the keys (verdict.py) of the findings of the baseline, None where there is none.
    `support`: another support matrix than the one that travels with meshgate.
    `require_shadow`: an upgrade that was not tried in the shadow could not be verified;
    `accepted_losses`: globs of `TYPE RESOURCE PATH` that a proxy may lose by it.
    `before`: what it saw.  `vantages`: where traffic must have been sent from.  `answers`: what
    declared requests must get.  `watch`: what was sent while the gateways were replaced.
    `accept_unverified`: parts of the mesh that may stay unverified (`ambient`, `external-ca`).
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
    known: tuple[str, ...] | None = None
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
    accept_unverified: tuple[str, ...] = ()


class Snapshot(Base, frozen=True):
    """Everything that one verdict rests on.

    `read` names the items that were read in full; an item is in `read`, or in a gap, or was not
    asked for.  `unanswered_since` maps `proxy|type URL` to when a push was first seen unanswered
    in this run, `started` is when the run first looked: together they age what is STALE.
    """

    meshgate_version: str
    taken: datetime
    started: datetime
    source: str
    expectations: Expectations = Expectations()
    kubernetes_version: str = ""
    read: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    pods: tuple[Pod, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    istiod: tuple[IstiodReading, ...] = ()
    istiod_numbers: tuple[IstiodMetrics, ...] = ()
    unanswered_since: dict[str, datetime] = {}
    analysis: Analysis | None = None
    mutating_webhooks: tuple[WebhookConfiguration, ...] = ()
    validating_webhooks: tuple[WebhookConfiguration, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    root_certificates: tuple[RootCertificate, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    api_gateways: tuple[ApiGateway, ...] = ()
    http_routes: tuple[Route, ...] = ()
    grpc_routes: tuple[Route, ...] = ()
    tls_routes: tuple[Route, ...] = ()
    admission: Admission | None = None
    signing: Signing | None = None
    retry_filters: RetryFilters | None = None
    bursts: tuple[Burst, ...] = ()
    stateful_sets: tuple[Controller, ...] = ()
    daemon_sets: tuple[Controller, ...] = ()
    disruption_budgets: tuple[DisruptionBudget, ...] = ()
    network_policies: tuple[NetworkPolicy, ...] = ()
    peer_authentications: tuple[PeerAuthentication, ...] = ()
    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    workload_entries: tuple[WorkloadEntry, ...] = ()
    contacts: Contacts | None = None
    pair: Pair | None = None
    istioctl: str = ""
    precheck: Analysis | None = None
    settings: tuple[Settings, ...] = ()
    workloads: tuple[Workload, ...] = ()
    nodes: tuple[Node, ...] = ()
    definitions: tuple[Definition, ...] = ()
    service_entries: tuple[ServiceEntry, ...] = ()
    ingress: Ingress | None = None
    shadow: Shadow | None = None
    offline_bundle: OfflineBundle | None = None
    watch: Watch | None = None

    def __repr__(self) -> str:
        # A failing test prints its fixtures: one line, never the mesh.
        return f"<Snapshot of {self.source} at {self.taken:%Y-%m-%dT%H:%M:%SZ}>"


# Made before there are threads: msgspec looks a struct's fields up when it first decodes one, and
# two threads that do so at once for the same struct end the process.
DECODER = msgspec.json.Decoder(Snapshot)


def before(baseline: Snapshot) -> Before:
    """What later captures are compared with."""
    return Before(
        taken=baseline.taken, api_gateways=baseline.api_gateways, ingress=baseline.ingress
    )
