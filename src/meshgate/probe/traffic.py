"""What may be sent through the gateways, and from where: apart, since a replay loads no client."""

from pathlib import Path

import msgspec

from meshgate.snapshot.ingress import Answer


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What may be sent, and where to; times in seconds.

    `urls`: addresses from outside, `[NAMESPACE/SERVICE=]http[s]://host[:port]`.
    `answers`: what somebody declared.
    `ca`: roots that the gateways' certificates must lead to, beside the public ones.
    `identity`: a client's certificate, its chain and its key, for mutual TLS.
    `resolver`: `ADDRESS[:PORT]`, by which public names are resolved.  `prober`: the URL of one.
    """

    urls: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    ca: Path | None = None
    identity: Path | None = None
    resolver: str = ""
    prober: str = ""
    proxy_protocol: bool = False
    rate: float = 200.0
    limit: int = 5000
    deadline: float = 60.0
    timeout: float = 5.0
