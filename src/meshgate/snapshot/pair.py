"""What two pods that were made for it saw of the mesh, from inside."""

from meshgate.snapshot.base import Base


class PeerCall(Base, frozen=True):
    """One call of a peer, tried until it was answered or the time was over.

    `kind`: `peer` (the other one), `declared` or `sampled` (a Service), `later` (the other one,
    which at first says `code` and Retry-After: `asked`), `burst` (a peer with the labels of a
    workload, called until it, its sidecar or the call itself is answered 429 or 503).
    `caller`: the name that the receiver's sidecar read from our certificate, empty where there was
    none; None where it was not the other peer that answered.  `local`: our own sidecar answered,
    for it could not reach what was called; `words` are its own.  `denied`: an
    AuthorizationPolicy refused us.  `gap`: seconds from "not now" to the sidecar's second try.
    `retry_after`: every such header of the last answer to a burst of `sent` requests.
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
    error: str = ""


class Peer(Base, frozen=True):
    """One pod of the pair, `a` or `b`, or one beside it, with the image of its sidecar.

    `unmade`: why it could not be created, which is not evidence about the mesh; `stuck`: it ran
    without a result, or its sidecar never let it start.
    """

    name: str
    proxy_image: str = ""
    labels: dict[str, str] = {}
    unmade: str = ""
    stuck: str = ""


class Pair(Base, frozen=True):
    """The pair in its namespace, or why there was none (`skipped_reason`).

    `tempted`: the pods beside it, made with the labels that EnvoyFilters select by.
    """

    skipped_reason: str = ""
    namespace: str = ""
    account: str = "default"
    peers: tuple[Peer, ...] = ()
    tempted: tuple[Peer, ...] = ()
    calls: tuple[PeerCall, ...] = ()
