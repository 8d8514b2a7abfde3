"""What may be sent through the gateways, and from where; a replay loads no client with it."""

from pathlib import Path

import msgspec

from meshgate.snapshot.ingress import Answer


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What may be sent, and where to.

    Attributes:
        urls: addresses from outside, `[NAMESPACE/SERVICE=]http[s]://host[:port]`.
        answers: declared answers.
        ca: roots that the gateways' certificates may lead to, beside the public ones.
        identity: a client certificate, its chain and its key, for mutual TLS.
        resolver: `ADDRESS[:PORT]` that resolves public names.
        prober: the URL of a prober.
        proxy_protocol: whether connections from inside begin with a PROXY protocol header.
        rate: requests a second.
        limit: how many requests are sent at most.
        deadline: seconds after which no more requests are sent.
        timeout: seconds for one request, all of it.
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
