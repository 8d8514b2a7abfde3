"""What was sent through the gateways, and what came back."""

from typing import Literal

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.wire import Certificate

# the points that a request can be sent from
INSIDE, OUTSIDE, PROBER = "inside", "outside", "prober"
VANTAGES = (INSIDE, OUTSIDE, PROBER)


class Expected(Base, frozen=True, forbid_unknown_fields=True):
    """What a declared request must get: a status, headers word for word, a text in the body."""

    status: int = 200
    headers: dict[str, str] = {}
    body: str = ""


class Answer(Base, frozen=True, forbid_unknown_fields=True):
    """A declared request: where it is sent from, and the expected answer.

    A `${NAME}` in a header or in `send` stands for what the environment holds; what it is replaced
    by is sent and kept nowhere.  `grpc`: the method that is the path is called, as gRPC calls one,
    with an empty message.
    """

    host: str
    path: str = "/"
    scheme: Literal["http", "https"] = "https"
    port: int = 0
    method: str = "GET"
    headers: dict[str, str] = {}
    send: str = ""
    grpc: bool = False
    vantages: tuple[str, ...] = msgspec.field(default=(INSIDE,), name="from")
    expect: Expected = Expected()

    @property
    def number(self) -> int:
        """The listener's port."""
        return self.port or (443 if self.scheme == "https" else 80)

    @property
    def words(self) -> str:
        """What a person would say."""
        return f"{self.method} {self.scheme}://{self.host}:{self.number}{self.path}"


class Request(Base, frozen=True):
    """One request that was planned, and why.

    `kind`: `connect` opens a connection (over TLS: shakes hands), `request` sends an HTTP request
    too.  `tls` is the listener's mode, empty for plain HTTP.  `route` names what leads the request
    to `backends`; it is empty where only the listener is meant.  `expected` is the status that the
    gateway gives by itself (a redirect, a fixed answer), 0 where a backend answers.  `declared`:
    it is a person's own, with the body `send`.  `tls_version`: the only one that is offered.
    `certificate`: a client's certificate is shown.  `grpc`: what answers is a gRPC server; where it
    is declared too, it is called as one, else asked by a GET, which it may break off.
    """

    vantage: str
    service: str
    gateway: str
    port: int
    host: str
    tls: str = ""
    kind: str = "request"
    method: str = "GET"
    path: str = "/"
    headers: dict[str, str] = {}
    route: str = ""
    backends: tuple[str, ...] = ()
    expected: int = 0
    declared: bool = False
    send: str = ""
    tls_version: str = ""
    http2: bool = False
    certificate: bool = False
    grpc: bool = False

    @property
    def url(self) -> str:
        """What a person would type."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.host}:{self.port}{self.path if self.kind == 'request' else ''}"

    @property
    def words(self) -> str:
        """What was asked, how, and from where."""
        return f"{self.method} {self.url}{self.way} from {self.vantage}"

    @property
    def subject(self) -> str:
        """The route that leads it, or where it has none nothing."""
        return self.route.partition(" route ")[0].partition(" rule ")[0]

    @property
    def key(self) -> str:
        """What the same request has in another capture: the words that it is compared by."""
        headers = ",".join(
            f"{name.lower()}={value}" for name, value in sorted(self.headers.items())
        )
        more = f" declared {self.send}" if self.declared else ""
        return (
            f"{self.vantage} {self.service} {self.method} {self.kind} {self.url} {headers}"
            f"{more}{self.way}"
        )

    @property
    def way(self) -> str:
        """How it is sent, in words, where that is not as usual."""
        words = [
            self.tls_version,
            "over HTTP/2" * self.http2,
            "with a certificate" * self.certificate,
        ]
        return "".join(f" {each}" for each in words if each)


class Exchange(Base, frozen=True):
    """A request, and what came back.

    Attributes:
        stage: where it failed (connect, handshake, request, stream); `error` says why.
        alert: the TLS alert of a refusal.
        reason: Envoy's response flag, if the gateway answered by itself; `upstream`: a backend did.
        fingerprint: of the served certificate; `unreadable` says why it cannot be decoded.
        distrust: why the certificate leads to no known root.
        headers: those that were declared; `body_holds`: whether the declared text was in the body.
    """

    request: Request
    stage: str = ""
    error: str = ""
    alert: str = ""
    status: int = 0
    server: str = ""
    location: str = ""
    reason: str = ""
    upstream: bool = False
    milliseconds: int = 0
    tls_version: str = ""
    alpn: str = ""
    certificate: Certificate | None = None
    fingerprint: str = ""
    unreadable: str = ""
    distrust: str = ""
    headers: dict[str, str] = {}
    body_holds: bool = True

    @property
    def refused(self) -> bool:
        """Whether a gRPC server broke off a GET: it takes POST alone, and has been reached."""
        asked = self.request
        return asked.grpc and not asked.declared and "remote reset" in self.reason


class Skipped(Base, frozen=True):
    """Something that was not requested: `kind` is route or listener, `why` the reason."""

    subject: str
    why: str
    kind: str = "route"


class Vantage(Base, frozen=True):
    """A point that requests were to be sent from; `unused` says why none were."""

    name: str
    unused: str = ""


class Ingress(Base, frozen=True):
    """All traffic of one capture.

    `unsent` were planned and not sent within the limits; `skipped` could not be planned.
    `trusted`: the person named the roots that clients trust.
    """

    vantages: tuple[Vantage, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    unsent: tuple[Request, ...] = ()
    trusted: bool = False
    skipped: tuple[Skipped, ...] = ()
