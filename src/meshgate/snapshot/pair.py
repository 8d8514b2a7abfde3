"""What two pods that were made for it saw of the mesh, from inside."""

from meshgate.snapshot.base import Base


class PeerCall(Base, frozen=True):
    """One call of a peer, tried until it was answered or the time was over.

    `kind`: `peer` (the other one), `declared` or `sampled` (a Service), `later` (the other one,
    which at first says `code` and Retry-After: `asked`), `burst` (a peer with the labels of a
    workload, called until it, its sidecar or the call itself is answered 429 or 503), `plaintext`
    (a connection from outside the mesh to the port `namespace/pod:port` of a pod in ambient mode).
    `caller`: the name that the receiver's sidecar read from our certificate, empty where there was
    none; None where it was not the other peer that answered.  `local`: our own sidecar answered,
    for it could not reach what was called; `words` are its own.  `denied`: an
    AuthorizationPolicy refused us.  `gap`: seconds from "not now" to the sidecar's second try.
    `retry_after`: every such header of the last answer to a burst of `sent` requests.  `end`: how a
    connection in plaintext ended: `answered`, `held` (left open), `refused`, `silent` or
    `unreachable`.
    """

    peer: str
    kind: str
    target: str
    status: int = 0
    caller: str | None = None
    local: bool = False
    words: str = ""
    denied: bool = False
    code: int = 0
    asked: int = 0
    gap: float | None = None
    sent: int = 0
    retry_after: tuple[str, ...] = ()
    end: str = ""
    error: str = ""


class Peer(Base, frozen=True):
    """One pod of the pair, `a` or `b`, or one beside it, with the image of its sidecar.

    `captured`: whether the CNI agent redirected it to ztunnel; `unmade`: why it could not be
    created, which is not evidence about the mesh; `stuck`: it ran without a result, or its sidecar
    never let it start.
    """

    name: str
    proxy_image: str = ""
    captured: bool = False
    labels: dict[str, str] = {}
    unmade: str = ""
    stuck: str = ""


class Pair(Base, frozen=True):
    """The pair in its namespace, or why there was none (`skipped_reason`).

    `ambient`: whether that namespace is in ambient mode.
    `tempted`: the pods beside it, made with the labels that EnvoyFilters select by.
    `outside`: the pods beside it that are outside the mesh.
    """

    skipped_reason: str = ""
    namespace: str = ""
    ambient: bool = False
    account: str = "default"
    peers: tuple[Peer, ...] = ()
    tempted: tuple[Peer, ...] = ()
    outside: tuple[Peer, ...] = ()
    calls: tuple[PeerCall, ...] = ()
