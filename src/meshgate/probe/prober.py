"""A prober elsewhere, that speaks as Prometheus' blackbox exporter: `/probe?target=URL`."""

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from meshgate.snapshot.ingress import Exchange, Request


class Silent(Exception):
    """The prober itself did not do as it was asked."""


def ask(prober: str, request: Request, timeout: float, agent: str) -> Exchange:
    """What the prober saw of one GET; raises Silent."""
    usual = 443 if request.tls else 80
    port = "" if request.port == usual else f":{request.port}"
    scheme = "https" if request.tls else "http"
    target = f"{scheme}://{request.host}{port}{request.path}"
    try:
        answer = httpx.get(
            httpx.URL(prober).copy_merge_params({"target": target}),
            headers={"User-Agent": agent},
            timeout=timeout,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise Silent(f"{prober} answered {answer.status_code}: {answer.text[:200].strip()}")
        samples = [
            sample
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        ]
    except (httpx.HTTPError, ValueError) as error:
        raise Silent(f"{prober} is not to be asked: {error or type(error).__name__}") from error
    values = {each.name: each.value for each in samples}
    if "probe_success" not in values:
        raise Silent(f"{prober} answered no probe_success: is it a prober?")
    labels = {each.name: each.labels for each in samples}
    status = int(values.get("probe_http_status_code", 0))
    version = labels.get("probe_tls_version_info", {}).get("version", "")
    seen = Exchange(
        request=request,
        status=status,
        milliseconds=round(values.get("probe_duration_seconds", 0.0) * 1000),
        tls_version=version.replace("TLS ", "TLSv"),
        alpn="h2" if values.get("probe_http_version") == 2.0 else "",
    )
    if status:
        return seen
    return msgspec.structs.replace(seen, stage="request", error="the prober got no answer")
