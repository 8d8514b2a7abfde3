"""A declared target of a burst; in a module without clients, since options import it."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Target(NamedTuple):
    """A URL, and the address (`HOST:PORT`) to connect to instead of the URL's own."""

    url: str
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return the target of `URL` or `URL via HOST:PORT`; raise ValueError for other text."""
        url, _, address = text.partition(" via ")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(f"{text!r} is not a target: write http(s)://HOST/PATH [via HOST:PORT]")
        if address and (where := urlsplit(f"//{address}")) and not where.port:
            raise ValueError(f"{text!r} is not a target: {address!r} is not HOST:PORT")
        return cls(url, address)
