"""What pods in ambient mode and waypoints did when they were connected to through HBONE."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.wire import Certificate

NO_ANSWER = "no complete answer in time"


class Tunnel(Base, frozen=True):
    """One connection to port 15008: TLS, an HTTP/2 CONNECT, and an HTTP request inside.

    Attributes:
        end: `open` (CONNECT was answered 200), `declined` (it was answered otherwise), `refused`
            (an alert, a reset or an end before that), `silent` or `unreachable`.
        connect: the status of the CONNECT.
        identity: the SPIFFE ID in the certificate that was served.
        status: of the answer to the request inside; 0 without one.
        denied: whether that answer is an AuthorizationPolicy's.
        reason: Envoy's response flag, if a waypoint answered by itself.
        error: why a connection or the request failed; NO_ANSWER if that is not known.
    """

    end: str
    connect: int = 0
    identity: str = ""
    status: int = 0
    denied: bool = False
    reason: str = ""
    error: str = ""


class TunnelProbe(Base, frozen=True):
    """The connections to one pod (`namespace/name`) for one address behind it.

    Attributes:
        pod: whose port 15008 was connected to.
        authority: what CONNECT named: a port of the pod, or of a Service behind a waypoint.
        service: that Service, `namespace/name`; empty for a port of a pod.
        port: the pod's or the Service's.
        anonymous: without a client certificate.
        foreign: with a certificate of an untrusted CA.
        mesh: with a certificate that istiod signed; None where it signed none.
        chain: what was served, leaf first; `distrust` says why it is not trusted.
    """

    pod: str
    authority: str
    port: int
    service: str = ""
    anonymous: Tunnel = Tunnel(end="unreachable")
    foreign: Tunnel = Tunnel(end="unreachable")
    mesh: Tunnel | None = None
    chain: tuple[Certificate, ...] = ()
    distrust: str = ""


class TunnelProbes(Base, frozen=True):
    """All of them; `identity` is the SPIFFE ID that istiod gave the verifier.

    `skipped_reason`: why nothing was connected to; `unsigned`: why it had no mesh certificate.
    """

    identity: str = ""
    skipped_reason: str = ""
    unsigned: str = ""
    probes: tuple[TunnelProbe, ...] = ()
