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
        pod: `namespace/name`.
        end: `denied` (Envoy's RBAC filter answered 403), `answered` (by the application, or by an
            upstream of it), `proxy` (the pod's sidecar answered for another reason), `reset` (the
            connection was closed without an answer), `refused` (the TLS handshake failed),
            `silent` (no complete answer in time) or `unreachable` (no connection).
        status: of the answer; 0 without one.
        error: why there is no answer.
    """

    request: str
    pod: str
    end: str
    status: int = 0
    error: str = ""


class PairAnswers(Base, frozen=True):
    """The answers to all declared requests.

    Attributes:
        skipped_reason: why no request was sent.
        unsigned: caller to why there is no certificate for it.
        answers: one for each declared request and pod behind its Service.
    """

    skipped_reason: str = ""
    unsigned: dict[str, str] = {}
    answers: tuple[PairAnswer, ...] = ()
