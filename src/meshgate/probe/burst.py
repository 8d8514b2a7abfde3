"""A few requests to one declared target, one after the other, until it says "not now"."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from meshgate.snapshot.retry_after import Burst

TIMEOUT = 10.0
THROTTLED = (429, 503)


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


def ask(targets: Iterable[str], most: int) -> tuple[Burst, ...]:
    """Bursts at every target, one target after the other."""
    return tuple(_burst(text, most) for text in targets)


def _burst(text: str, most: int) -> Burst:
    target = Target.parse(text)
    before: Counter[int] = Counter()
    # nothing is sent that anybody may not see, and whose certificate it is is stage C's to say
    with httpx.Client(timeout=TIMEOUT, trust_env=False, verify=False) as client:  # noqa: S501
        request = _request(client, target)
        while True:
            now = datetime.now(UTC)
            try:
                response = client.send(request)
            except httpx.HTTPError as error:
                words = str(error) or type(error).__name__
                return Burst(target=text, at=now, statuses=dict(before), error=words)
            status = response.status_code
            if status in THROTTLED or sum(before.values()) + 1 >= most:
                return Burst(
                    target=text,
                    at=now,
                    status=status,
                    statuses=dict(before),
                    retry_after=tuple(response.headers.get_list("retry-after")),
                )
            before[status] += 1


def _request(client: httpx.Client, target: Target) -> httpx.Request:
    if not target.address:
        return client.build_request("GET", target.url)
    url = httpx.URL(target.url)
    where = urlsplit(f"//{target.address}")
    return client.build_request(
        "GET",
        url.copy_with(host=where.hostname, port=where.port),
        headers={"Host": url.netloc.decode()},
        extensions={"sni_hostname": url.host},
    )
