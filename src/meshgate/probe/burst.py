"""Requests to declared targets, one after the other, until one is answered 429 or 503."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from meshgate.deadline import bounded
from meshgate.settings.target import Target
from meshgate.snapshot.retry_after import Burst

TIMEOUT = 10.0  # seconds for one answer
LONGEST = 60.0  # seconds for all requests to one target
THROTTLED = (429, 503)


def ask(targets: Iterable[str], most: int) -> tuple[Burst, ...]:
    """Return the result of a burst of at most `most` requests to each target."""
    return tuple(_bounded(text, most) for text in targets)


def _bounded(text: str, most: int) -> Burst:
    try:
        return bounded(lambda: _burst(text, most), LONGEST, f"burst to {text}")
    except TimeoutError:
        words = f"its answers took longer than {LONGEST:.0f} s in total"
        return Burst(target=text, at=datetime.now(UTC), error=words)


def _burst(text: str, most: int) -> Burst:
    target = Target.parse(text)
    before: Counter[int] = Counter()
    # nothing secret is sent, and stage C verifies certificates
    with httpx.Client(timeout=TIMEOUT, trust_env=False, verify=False) as client:  # noqa: S501
        request = _request(client, target)
        while True:
            now = datetime.now(UTC)
            try:
                # the headers are enough: a body may never end
                response = client.send(request, stream=True)
                response.close()
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
