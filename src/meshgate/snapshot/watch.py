"""What was sent during an upgrade, what was lost, and what happened in the cluster meanwhile."""

from datetime import datetime

from meshgate.snapshot.base import Base

# connections that are kept open; their interruptions are not failed requests
LONG_LIVED = ("idle", "stream", "websocket")


class Interval(Base, frozen=True):
    """Neighboring times at which the same thing went wrong."""

    first: datetime
    last: datetime
    count: int
    why: str


class Bucket(Base, frozen=True):
    """The answers of one stretch of time: how many took up to each bound (observer/evidence.py)."""

    at: datetime
    counts: tuple[int, ...] = ()


class Flow(Base, frozen=True):
    """One request that was sent again and again, or one connection that was kept open.

    Attributes:
        observer: the name of the observer pod that sent it; empty for one through a gateway that
            `meshgate watch` sent itself.
        subject: what it belongs to, `Service namespace/name` or `Gateway namespace/name`.
        target: what was sent, in words.
        kind: http1, http2, grpc, tcp, idle, stream, websocket, or gateway.
        service: the Service that received it, `namespace/name`.
        declared: whether it was named, and must be answered.
        peer: the observer that it was sent to.
        sent: requests since the first that was answered, or opened connections.
        lost: requests that failed, or interruptions; `more_lost` were not kept.
        slow: requests that were answered late.
        failing: why the last attempt failed; empty if it was answered.
        answered: when it was last answered; None if it never was.
        width: seconds of each bucket.
        caller: the identity that the peer saw: empty without mTLS, None where no peer answered.
    """

    target: str
    kind: str
    subject: str
    observer: str = ""
    service: str = ""
    declared: bool = False
    peer: str = ""
    sent: int = 0
    lost: tuple[Interval, ...] = ()
    more_lost: int = 0
    slow: tuple[Interval, ...] = ()
    more_slow: int = 0
    failing: str = ""
    answered: datetime | None = None
    width: int = 0
    buckets: tuple[Bucket, ...] = ()
    caller: str | None = None

    @property
    def long_lived(self) -> bool:
        """Return whether it is a connection that is kept open."""
        return self.kind in LONG_LIVED

    @property
    def losses(self) -> int:
        """Return how many requests were lost, or how often the connection was interrupted."""
        return sum(each.count for each in self.lost) + self.more_lost


class Observer(Base, frozen=True):
    """A pod that sent requests from inside the mesh.

    `proxy`: the version of its sidecar, or its image; `read`: when its evidence was last read;
    `ended`: why it ended before the watch.
    """

    name: str
    proxy: str = ""
    created: datetime | None = None
    read: datetime | None = None
    ended: str = ""


class Happening(Base, frozen=True):
    """Something that the API server reported during the watch.

    Attributes:
        at: when it began; `until`: when it ended, None if it did not or has no duration.
        subject: `Kind namespace/name`.
        what: what happened, as words that follow the subject: `was terminating`.
        detail: more about it, such as the drain duration.
        workload: `Kind namespace/name` of what owns a pod.
        services: the watched Services that a pod belongs to, `namespace/name`.
        role: istiod, gateway, observer or config; empty for the pod of a workload.
    """

    at: datetime
    subject: str
    what: str
    until: datetime | None = None
    detail: str = ""
    workload: str = ""
    services: tuple[str, ...] = ()
    role: str = ""


class Watch(Base, frozen=True):
    """The evidence of one watch.

    `last` is when it was last saved; `image`: whether pods in the mesh were requested;
    `more_happenings` were not kept; `unusable`: why there is no evidence although it was requested.
    """

    began: datetime
    last: datetime
    rate: float = 0.0
    slow_after: int = 0
    image: str = ""
    namespace: str = ""
    flows: tuple[Flow, ...] = ()
    observers: tuple[Observer, ...] = ()
    happenings: tuple[Happening, ...] = ()
    more_happenings: int = 0
    unusable: str = ""

    @property
    def sent(self) -> int:
        """Return how many requests were sent, without the connections that were kept open."""
        return sum(each.sent for each in self.flows if not each.long_lived)

    @property
    def lost(self) -> int:
        """Return how many of them were lost."""
        return sum(each.losses for each in self.flows if not each.long_lived)

    @property
    def words(self) -> str:
        """Return the result in one line: requests, losses, and the time between."""
        if self.unusable:
            return f"the watch left no evidence: {self.unusable}"
        day = "" if self.began.date() == self.last.date() else "%Y-%m-%d "
        return (
            f"{self.sent:,} requests, {self.lost:,} lost, from "
            f"{self.began:{day}%H:%M:%S} to {self.last:{day}%H:%M:%S} UTC"
        )
