"""The queries, answered by a real Prometheus from series that were written for it."""

import json
import math
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest

from meshgate.collect.prometheus import Prometheus
from meshgate.deadline import Deadline
from meshgate.facts.dataplane.traffic_metrics import Traffic
from meshgate.semantics.traffic_counters import quantile
from meshgate.snapshot.kubernetes import Owner
from meshgate.snapshot.traffic_metrics import TrafficLimits, TrafficMetrics, WorkloadTraffic
from meshgate.verdict import CouldNotVerify
from tests.support.builders import expecting, mesh, pod
from tests.support.go_programs import built

MODULE, TAGS = "ci/lab/go/prometheus", "remove_all_sd,enable_kubernetes_sd"
EVERY, WINDOW = 15, 900  # seconds
AGO = timedelta(hours=3)  # the baseline
GATEWAYS = frozenset({"istio-ingress/gateway"})
RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - {alert: Known, expr: vector(1), labels: {namespace: shop, pod: web-6d8f9c5b4-x2v5k}}
      - {alert: New, expr: vector(1), labels: {namespace: shop, pod: api-2}}
      - {alert: Pending, expr: vector(1), for: 1h}
      - {alert: Watchdog, expr: vector(1)}
"""


OLD_POD = "web-5c4d9b7f8-z9m4l"
POD = pod(
    "web-6d8f9c5b4-x2v5k",
    labels={"pod-template-hash": "6d8f9c5b4"},
    owner=Owner(kind="ReplicaSet", name="web-6d8f9c5b4", controller=True),
)
Histogram = Mapping[float, float]  # milliseconds to requests per second that were not slower


class Series(NamedTuple):
    """A counter that increases by so much per second before the upgrade, and after it."""

    name: str
    labels: Mapping[str, str]
    before: float
    now: float


def requests(workload: str, before: float, now: float, **labels: str) -> Series:
    side = labels.setdefault("reporter", "destination")
    labels.setdefault("response_code", "200")
    labels.setdefault(f"{side}_cluster", "east")
    namespace, _, name = workload.partition("/")
    of = {f"{side}_workload_namespace": namespace, f"{side}_workload": name}
    return Series("istio_requests_total", {**of, **labels}, before, now)


def durations(workload: str, before: Histogram, now: Histogram) -> Iterator[Series]:
    for limit, rate in before.items():
        le = "+Inf" if limit == math.inf else f"{limit:g}"
        found = requests(workload, rate, now[limit], le=le)
        yield found._replace(name="istio_request_duration_milliseconds_bucket")


FAST = {50.0: 5.0, 100.0: 9.0, 250.0: 9.9, 1000.0: 10.0, math.inf: 10.0}
SLOW = {50.0: 1.0, 100.0: 2.0, 250.0: 5.0, 1000.0: 9.95, math.inf: 10.0}
SERIES = (
    requests("shop/same", 10, 10),
    requests("shop/same", 0.01, 0.01, response_code="503"),
    *durations("shop/same", FAST, FAST),
    requests("shop/failing", 10, 8),
    # two series, of which one has both labels of an error
    requests("shop/failing", 0, 1, response_code="503", grpc_response_status="14"),
    requests("shop/failing", 0, 1, response_code="200", grpc_response_status="13"),
    requests("shop/failing", 0, 1, response_code="200", grpc_response_status="5"),
    requests("shop/slower", 10, 10),
    *durations("shop/slower", FAST, SLOW),
    requests("shop/quiet", 0.1, 0.1),
    # a gateway forwards; others count their calls too
    requests("istio-ingress/gateway", 10, 10, reporter="source"),
    requests("shop/same", 50, 50, reporter="source", response_code="500"),
    requests("unknown/unknown", 10, 10),
    # another cluster, whose workload fails
    requests("shop/same", 0, 50, response_code="503", destination_cluster="west"),
    requests("shop/without-codes", 10, 10, response_code=""),
)


def openmetrics(end: float) -> Iterable[str]:
    """Every series around the two windows, as promtool reads them."""
    baseline = end - AGO.total_seconds()
    middle = baseline + AGO.total_seconds() / 2
    for name in sorted({each.name for each in SERIES}):
        kind = "counter" if name.endswith("_total") else "unknown"
        yield f"# TYPE {name.removesuffix('_total')} {kind}"
        for each in SERIES:
            if each.name != name:
                continue
            labels = ",".join(f'{key}="{value}"' for key, value in each.labels.items())
            value, at = 0.0, baseline - 2 * WINDOW
            while at <= end:
                yield f"{name}{{{labels}}} {value:.3f} {at:.3f}"
                value += EVERY * (each.before if at < middle else each.now)
                at += EVERY
    yield "# TYPE ALERTS unknown"
    for at in range(int(baseline) - 60, int(baseline) + 60, EVERY):
        labels = f'alertname="Known",alertstate="firing",namespace="shop",pod="{OLD_POD}"'
        yield f"ALERTS{{{labels}}} 1 {at}"
    yield "# EOF"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrafficMetrics]:
    """What is read of both windows."""
    prometheus, promtool = (built(name, MODULE, TAGS) for name in ("prometheus", "promtool"))
    place = tmp_path_factory.mktemp("prometheus")
    now = datetime.now(UTC)
    (place / "series.txt").write_text("\n".join(openmetrics(now.timestamp())) + "\n")
    backfill = ["tsdb", "create-blocks-from", "openmetrics", "series.txt", "data"]
    subprocess.run([promtool, *backfill], cwd=place, check=True, capture_output=True)
    (place / "rules.yaml").write_text(RULES)
    (place / "prometheus.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = [
        "--config.file=prometheus.yaml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([prometheus, *words], cwd=place, stdout=log, stderr=log)
    try:
        wait(f"{url}/api/v1/query?query=ALERTS", "firing", place / "log")
        server = Prometheus(url, 30, Deadline(), cluster_id="east")
        yield server.read(WINDOW, now - AGO, GATEWAYS, [POD])
    finally:
        process.terminate()
        process.wait()


def wait(url: str, words: str, log: Path) -> None:
    """Wait until a GET gets these words."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if words in httpx.get(url, trust_env=False).text:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def workload(metrics: TrafficMetrics, name: str) -> tuple[WorkloadTraffic, WorkloadTraffic]:
    """One workload in both windows."""
    assert metrics.before is not None
    assert metrics.now is not None
    before, now = (
        next(each for each in window.workloads if each.workload == name)
        for window in (metrics.before, metrics.now)
    )
    return before, now


def judged(metrics: TrafficMetrics, *names: str) -> Traffic:
    """The check on these workloads alone."""
    windows = [
        msgspec.structs.replace(
            each,
            workloads=tuple(one for one in each.workloads if one.workload in names),
            unread=(),
        )
        for each in (metrics.before, metrics.now)
        if each
    ]
    only = TrafficMetrics(before=windows[0], now=windows[1])
    asked = TrafficLimits(requested=True)
    return mesh(traffic_metrics=only, **expecting(traffic=asked)).traffic


def test_every_workload_is_read_once_and_a_gateway_by_what_it_forwards(
    metrics: TrafficMetrics,
) -> None:
    names = ["istio-ingress/gateway", "shop/failing", "shop/quiet", "shop/same", "shop/slower"]

    assert metrics.before is not None
    assert metrics.now is not None
    for window in (metrics.before, metrics.now):
        assert [each.workload for each in window.workloads] == names
    for each in workload(metrics, "istio-ingress/gateway"):
        assert each.requests == pytest.approx(10 * WINDOW, rel=0.05)
        assert each.errors == 0


def test_another_cluster_is_not_counted(metrics: TrafficMetrics) -> None:
    for each in workload(metrics, "shop/same"):
        assert each.requests == pytest.approx(10 * WINDOW, rel=0.05)
        assert each.errors < WINDOW


def test_requests_without_a_response_code_are_unread(metrics: TrafficMetrics) -> None:
    for window in (metrics.before, metrics.now):
        assert window is not None
        assert [each.workload for each in window.unread] == ["shop/without-codes"]


def test_requests_and_errors_of_http_and_grpc_are_counted_once(metrics: TrafficMetrics) -> None:
    before, now = workload(metrics, "shop/failing")

    assert before.requests == pytest.approx(10 * WINDOW, rel=0.05)
    assert before.errors == 0
    assert now.requests == pytest.approx(11 * WINDOW, rel=0.05)
    assert now.errors == pytest.approx(2 * WINDOW, rel=0.05)


def test_our_quantiles_are_those_of_prometheus(metrics: TrafficMetrics) -> None:
    before, now = workload(metrics, "shop/slower")

    for seen, histogram in ((before, FAST), (now, SLOW)):
        assert seen.p95 == pytest.approx(quantile(0.95, histogram), rel=0.001)
        assert seen.p99 == pytest.approx(quantile(0.99, histogram), rel=0.001)


def test_only_what_became_worse_is_found(metrics: TrafficMetrics) -> None:
    assert judged(metrics, "shop/same", "shop/quiet", "istio-ingress/gateway").worse == []
    (failing,) = judged(metrics, "shop/failing").worse
    assert failing.problem == "more-errors"
    slower = judged(metrics, "shop/slower").worse
    assert {each.problem for each in slower} == {"slower"}


def test_a_workload_with_too_few_requests_is_unknown(metrics: TrafficMetrics) -> None:
    with pytest.raises(CouldNotVerify, match="no workload received 1000 requests"):
        _ = judged(metrics, "shop/quiet").worse


def test_alerts_are_new_or_fired_before(metrics: TrafficMetrics) -> None:
    found = judged(metrics, "shop/same")

    assert [each.subject for each in found.new_alerts] == ["Alert New"]
    assert [each.subject for each in found.old_alerts] == ["Alert Known"]


def test_rules_are_counted_and_the_watchdog_is_seen(metrics: TrafficMetrics) -> None:
    assert metrics.now is not None
    assert metrics.now.rules == 4
    assert metrics.now.failing_rules == ()
    assert metrics.now.heartbeats == ("Watchdog",)
