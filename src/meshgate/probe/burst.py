"""A few requests to one declared target, one after the other, until it says "not now"."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from meshgate.probe.target import Target
from meshgate.snapshot.retry_after import Burst

TIMEOUT = 10.0
THROTTLED = (429, 503)


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
