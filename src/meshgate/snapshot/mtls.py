"""What the ports of the workloads did when they were connected to."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.wire import Certificate


class Attempt(Base, frozen=True):
    """One connection, and how it ended.

    `end`: `answered` (an HTTP response came, `status`), `held` (it was left open: accepted),
    `refused` (an alert, a reset or an end, where we were the one to speak), `silent` (nothing came
    in time: neither yes nor no) or `unreachable` (it did not come about).
    `identity`: the SPIFFE name in the certificate that was shown, `tls`: whether one was.
    `denied`: the answer is that of an AuthorizationPolicy.
    """

    end: str
    status: int = 0
    tls: bool = False
    identity: str = ""
    denied: bool = False
    error: str = ""


class PortProbe(Base, frozen=True):
    """The four connections to one port of one pod (`namespace/name`).

    `plain`: an HTTP request without TLS, None where the port is not known to be HTTP.
    `anonymous`: TLS without a certificate and without Istio's ALPN, as an unknown client sends it.
    `foreign`: like a proxy's, with a certificate of an untrusted CA.
    `mesh`: as a proxy comes, with a certificate that istiod signed; None where it signed none.
    `chain` is what the sidecar served, leaf first, and `distrust` why that is not good.
    `workload`: `Kind namespace/name` of what creates the pod, the same before and after a restart.
    """

    pod: str
    port: int
    plain: Attempt | None = None
    anonymous: Attempt = Attempt(end="unreachable")
    foreign: Attempt = Attempt(end="unreachable")
    mesh: Attempt | None = None
    chain: tuple[Certificate, ...] = ()
    distrust: str = ""
    workload: str = ""


class PortProbes(Base, frozen=True):
    """All of them, and who we were: `identity` is the SPIFFE name that istiod gave us.

    `skipped_reason`: why no port was connected to; `unsigned`: why we had no mesh certificate.
    """

    identity: str = ""
    skipped_reason: str = ""
    unsigned: str = ""
    probes: tuple[PortProbe, ...] = ()
