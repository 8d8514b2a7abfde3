"""Declared pairs: which ServiceAccount may send which request to which Service."""

from meshgate.snapshot.base import Base

DENIED, ALLOWED = "denied", "allowed"


class DeclaredPair(Base, frozen=True):
    """A request from a ServiceAccount to a Service, and its expected result.

    Attributes:
        caller: the ServiceAccount, `namespace/name`.
        service: `namespace/name`.
        port: the Service's port.
        method: of the HTTP request.
        path: of the HTTP request.
        expect: `denied` (by an AuthorizationPolicy), `allowed` (any answer of the application), or
            a status.
    """

    caller: str
    service: str
    port: int
    method: str
    path: str
    expect: str

    @property
    def target(self) -> str:
        """`namespace/name:port METHOD path`."""
        return f"{self.service}:{self.port} {self.method} {self.path}"

    @property
    def key(self) -> str:
        """The request without its expected result."""
        return f"{self.caller} {self.target}"


class PairAnswer(Base, frozen=True):
    """How one pod answered one declared request.

    Attributes:
        request: the `key` of the declared pair.
        pod: `namespace/name` of the pod that was connected to: one behind the Service, or one of
            its waypoint.
        end: `denied` (Envoy's RBAC filter answered 403, or ztunnel answered CONNECT with 401),
            `answered` (by the application, or by an upstream of it), `proxy` (the pod's sidecar or
            the waypoint answered for another reason), `declined` (CONNECT was answered otherwise),
            `reset` (the connection was closed without an answer), `refused` (the TLS handshake
            failed), `silent` (no complete answer in time) or `unreachable` (no connection).
        status: of the answer; 0 without one.
        error: why there is no answer.
        authority: what CONNECT named, `address:port`; empty for a sidecar, which needs none.
        connect: the status that answered CONNECT; 0 without one.
    """

    request: str
    pod: str
    end: str
    status: int = 0
    error: str = ""
    authority: str = ""
    connect: int = 0


class PairWaypoint(Base, frozen=True):
    """A waypoint as it was when the requests were sent.

    Attributes:
        name: of its Gateway, `namespace/name`.
        of_class: its GatewayClass.
        scope: what it is for: `service`, `workload`, `all` or `none`.
        admits: the namespaces whose Services and pods it serves; None for all.
    """

    name: str
    of_class: str = ""
    scope: str = "service"
    admits: tuple[str, ...] | None = None


class PairAnswers(Base, frozen=True):
    """The answers to all declared requests.

    Attributes:
        skipped_reason: why no request was sent.
        unsigned: caller to why there is no certificate for it.
        answers: one for each declared request and pod that it was sent to.
        waypoints: all waypoints of the cluster, which decide where requests are sent to.
    """

    skipped_reason: str = ""
    unsigned: dict[str, str] = {}
    answers: tuple[PairAnswer, ...] = ()
    waypoints: tuple[PairWaypoint, ...] = ()
