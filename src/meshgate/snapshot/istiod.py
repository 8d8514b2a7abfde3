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
    """One proxy's line of `/debug/syncz`: `proxy` is `pod.namespace`; keys of `resources` are
    xDS type URLs.  (pilot/pkg/xds/debug.go, SyncStatus)"""

    proxy: str
    proxy_type: str = ""
    istio_version: str = msgspec.field(default="", name="istio_version")
    cluster_id: str = msgspec.field(default="", name="cluster_id")
    resources: dict[str, SyncState] = {}


class IstiodReading(Base, frozen=True):
    """What one replica said of itself.

    `at` is the replica's own clock (its HTTP Date), so that ages need no agreement of clocks.
    `error` says that it did not answer, `denied` that it answered and refused us.
    """

    pod: str
    version: str = ""
    at: datetime | None = None
    proxies: tuple[ProxySync, ...] = ()
    error: str = ""
    denied: str = ""
