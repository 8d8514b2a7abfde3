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
        # the messages do not repeat the text: it may contain a password
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            usable = usable and parts.port != 0
        except ValueError:
            usable = False
        if not usable or "@" in parts.netloc:
            raise ValueError(
                "the value is not a target: write http(s)://HOST/PATH [via HOST:PORT], no user"
            )
        try:
            port = urlsplit(f"//{address}").port
        except ValueError:
            port = None
        if address and not port:
            raise ValueError("the value is not a target: the address after `via` is not HOST:PORT")
        return cls(url, address)
