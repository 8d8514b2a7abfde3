"""What istiod says of itself and of the proxies that are connected to it."""

from datetime import datetime

import msgspec

from meshgate.snapshot.base import Base


class SyncState(Base, frozen=True):
    """What istiod last sent for one xDS type, and what the proxy said to it."""

    sent: str = ""
    acked: str = ""
    sent_time: datetime | None = None
    last_error: str = ""


class ProxySync(Base, frozen=True):
    """One proxy's line of `/debug/syncz` (pilot/pkg/xds/debug.go, SyncStatus).

    `proxy` is `pod.namespace`; keys of `resources` are xDS type URLs.
    """

    proxy: str
    proxy_type: str = msgspec.field(default="", name="proxy_type")
    istio_version: str = msgspec.field(default="", name="istio_version")
    cluster_id: str = msgspec.field(default="", name="cluster_id")
    resources: dict[str, SyncState] = {}


class IstiodReading(Base, frozen=True):
    """What one replica said of itself.

    `at` is the replica's own clock (its HTTP Date), so that ages need no agreement of clocks;
    `read` is what ours said then.
    `error` says that it did not answer, `denied` that it answered and refused us.
    """

    pod: str
    version: str = ""
    at: datetime | None = None
    read: datetime | None = None
    proxies: tuple[ProxySync, ...] = ()
    error: str = ""
    denied: str = ""


class Conflict(Base, frozen=True):
    """What istiod left out of its last push because something else was there first."""

    proxy: str = ""
    message: str = ""


class Conflicts(Base, frozen=True):
    """`/debug/push_status`, as far as it reports conflicts: by listener, domain, cluster or host.

    (pilot/pkg/model/push_context.go)
    """

    inbound: dict[str, Conflict] = msgspec.field(
        default_factory=dict, name="pilot_conflict_inbound_listener"
    )
    outbound: dict[str, Conflict] = msgspec.field(
        default_factory=dict, name="pilot_conflict_outbound_listener_tcp_over_current_tcp"
    )
    clusters: dict[str, Conflict] = msgspec.field(
        default_factory=dict, name="pilot_duplicate_envoy_clusters"
    )
    domains: dict[str, Conflict] = msgspec.field(
        default_factory=dict, name="pilot_vservice_dup_domain"
    )
    subsets: dict[str, Conflict] = msgspec.field(
        default_factory=dict, name="pilot_destrule_subsets"
    )


class IstiodMetrics(Base, frozen=True):
    """What one replica counted, at the two ends of a window of so many `seconds`.

    Keys are a metric's name, with `|` and its label `type` or `le` where it has one.  `conflicts`
    is None when it has not pushed yet.  `error` and `denied` are as in IstiodReading.
    """

    pod: str
    seconds: float = 0.0
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    conflicts: Conflicts | None = None
    error: str = ""
    denied: str = ""
