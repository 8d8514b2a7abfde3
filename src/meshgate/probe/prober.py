"""A prober elsewhere with the API of Prometheus' blackbox exporter: `/probe?target=URL`."""

import math
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from meshgate.deadline import bounded
from meshgate.snapshot.ingress import Exchange, Request

MOST = 1 << 20  # octets of an answer


class Silent(Exception):
    """The prober itself did not answer as a prober does."""


def shown(url: str) -> str:
    """Return a URL without user, password and query, for messages."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def ask(prober: str, request: Request, timeout: float, agent: str) -> Exchange:
    """Return what the prober saw of one GET; raise Silent if it did not report it.

    Args:
        prober: its URL, with the module's name if it needs one.
        request: what it is asked to send.
        timeout: seconds for all of it.
        agent: the User-Agent.

    Returns:
        Its status and duration; without a status it got no answer.
    """
    usual = 443 if request.tls else 80
    port = "" if request.port == usual else f":{request.port}"
    scheme = "https" if request.tls else "http"
    target = f"{scheme}://{request.host}{port}{request.path}"
    name = shown(prober)
    try:
        url = httpx.URL(prober).copy_merge_params({"target": target})
        # the time-out of httpx is for each read
        status, text = bounded(lambda: _get(url, timeout, agent), timeout, "prober")
        if status != 200:
            raise Silent(f"{name} answered {status}: {text[:200].strip()}")
        samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]
    except (httpx.HTTPError, ValueError, TimeoutError) as error:
        raise Silent(f"cannot use {name}: {error or type(error).__name__}") from error
    values = {each.name: each.value for each in samples}
    if "probe_success" not in values:
        raise Silent(f"{name} did not report probe_success: is it a prober?")
    labels = {each.name: each.labels for each in samples}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    status = int(finite.get("probe_http_status_code", 0))
    version = labels.get("probe_tls_version_info", {}).get("version", "")
    seen = Exchange(
        request=request,
        status=status,
        milliseconds=round(finite.get("probe_duration_seconds", 0.0) * 1000),
        tls_version=version.replace("TLS ", "TLSv"),
        alpn="h2" if values.get("probe_http_version") == 2.0 else "",
    )
    if status:
        return seen
    return msgspec.structs.replace(seen, stage="request", error="the prober got no answer")


def _get(url: httpx.URL, timeout: float, agent: str) -> tuple[int, str]:
    with (
        httpx.Client(timeout=timeout, trust_env=False) as client,
        client.stream("GET", url, headers={"User-Agent": agent}) as answer,
    ):
        body = b""
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > MOST:
                raise ValueError(f"its answer is longer than {MOST} octets")
        return answer.status_code, body.decode(errors="replace")
