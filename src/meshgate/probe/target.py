"""What a burst is aimed at, as it is declared; apart, so that reading an option loads no client."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Target(NamedTuple):
    """What is asked for, and where: `address` (HOST:PORT) instead of where the URL leads."""

    url: str
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`URL` or `URL via HOST:PORT`; raises ValueError for what is neither."""
        url, _, address = text.partition(" via ")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(f"{text!r} is no target: write http(s)://HOST/PATH [via HOST:PORT]")
        if address and (where := urlsplit(f"//{address}")) and not where.port:
            raise ValueError(f"{text!r} is no target: {address!r} is no HOST:PORT")
        return cls(url, address)
