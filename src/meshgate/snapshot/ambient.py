"""What istiod sends to ztunnels, and what ztunnels serve on their nodes."""

import msgspec

from meshgate.snapshot.base import Base


class Hostname(Base, frozen=True):
    """The Service of a waypoint: `waypoint.shop.svc.cluster.local`."""

    namespace: str = ""
    hostname: str = ""


class NetworkAddress(Base, frozen=True):
    """An IP address, as text."""

    network: str = ""
    address: bytes = b""


class WaypointAddress(Base, frozen=True):
    """Where clients reach a waypoint: by its hostname or by its address."""

    hostname: Hostname | None = None
    address: NetworkAddress | None = None


class WeightedWaypoint(Base, frozen=True):
    """A waypoint beside another one, and its share of the connections."""

    destination: WaypointAddress | None = None
    weight: int = 0


class AmbientWorkload(Base, frozen=True):
    """One workload of `/debug/ambientz` (pkg/workloadapi/workload.proto).

    `uid` is `cluster/group/kind/namespace/name`; `tunnel_protocol` is `HBONE` where clients use
    HBONE, and empty where they use plaintext.
    """

    uid: str = ""
    name: str = ""
    namespace: str = ""
    cluster_id: str = ""
    tunnel_protocol: str = ""
    waypoint: WaypointAddress | None = None


class AmbientService(Base, frozen=True):
    """One Service of `/debug/ambientz`, with the waypoint that its clients use.

    A ServiceEntry is one for each of its hosts; `hostname` distinguishes it from a Service.
    `weighted_waypoints` are that waypoint and its canary; empty without a canary.
    """

    name: str = ""
    namespace: str = ""
    hostname: str = ""
    waypoint: WaypointAddress | None = None
    weighted_waypoints: tuple[WeightedWaypoint, ...] | None = None


class AmbientReading(Base, frozen=True):
    """What one replica of istiod sends to ztunnels.

    Without ambient mode in istiod there are neither workloads nor services.  `error` and `denied`
    are as in IstiodReading.
    """

    pod: str
    workloads: tuple[AmbientWorkload, ...] = ()
    services: tuple[AmbientService, ...] = ()
    error: str = ""
    denied: str = ""


class ZtunnelReading(Base, frozen=True):
    """What one ztunnel counts: the pods of its node that it serves, and those that wait for it.

    `pod` is `namespace/name`; `version` is that of its build; `error` says why it did not answer.
    """

    pod: str
    version: str = ""
    active: int | None = None
    pending: int = 0
    error: str = ""


class AmbientIndex(Base, frozen=True):
    """The body of `/debug/ambientz`."""

    workloads: tuple[AmbientWorkload, ...] | None = None
    services: tuple[AmbientService, ...] | None = None


# made before there are threads, as the snapshot's own
INDEX = msgspec.json.Decoder(AmbientIndex)
