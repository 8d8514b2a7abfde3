"""Two readings of the proxies' counters, over the network of pods."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from meshgate.collect import proxy_metrics
from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import Direct
from meshgate.collect.kubernetes import Cluster
from meshgate.deadline import Deadline
from meshgate.snapshot.kubernetes import Owner, Pod
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.sources import Kind
from meshgate.snapshot.traffic_metrics import PROXIES, Window, WorkloadTraffic
from tests.conftest import Estate, Gate, Serve
from tests.support import fakes
from tests.support.builders import istiod, pod, running, sidecar, snapshot

WEB = Owner(kind="ReplicaSet", name="web-5f", controller=True)
LABELS = {"pod-template-hash": "5f"}
GATEWAY = {"istio": "ingressgateway"}

Read = Callable[[str], str]


def counts(ok: int, failed: int = 0, reporter: str = "destination") -> str:
    """What a proxy has counted: every answer takes up to 10 ms."""
    total = ok + failed
    labels = f'reporter="{reporter}",source_workload="client"'
    return (
        f'istio_requests_total{{{labels},response_code="200"}} {ok}\n'
        f'istio_requests_total{{{labels},response_code="503"}} {failed}\n'
        f'istio_request_duration_milliseconds_bucket{{{labels},le="10"}} {total}\n'
        f'istio_request_duration_milliseconds_bucket{{{labels},le="+Inf"}} {total}\n'
    )


def uptime(seconds: int) -> str:
    """How long a proxy has run."""
    return f"envoy_server_uptime{{}} {seconds}\n"


def proxy(serve: Serve, number: int, *answers: Any) -> str:
    """Serve one answer after the other where a proxy serves its metrics; return its address."""
    left = list(answers)

    def answer(request: fakes.Request) -> fakes.Answer:
        assert request.query == {"usedonly": [""], "filter": [r"istio_request|^server\.uptime$"]}
        found = left.pop(0)
        return found if isinstance(found, fakes.Answer) else fakes.Answer(200, found.encode())

    address = fakes.address(number)
    serve({"/stats/prometheus": answer}, address, proxy_metrics.PORT)
    return address


def read(
    *pods: Pod, window: float = 0.05, deadline: float | None = None, ended: bool = False
) -> Window:
    return proxy_metrics.read(
        Direct(None, 5.0), pods, window, 5.0, Deadline(deadline), has_ended=lambda pod: ended
    )


def web(number: int, ip: str, **more: Any) -> Pod:
    return sidecar(f"web-5f-{number}", ip=ip, owner=WEB, labels=LABELS, **more)


def test_only_what_is_counted_within_the_window_of_all_pods_of_a_workload(serve: Serve) -> None:
    first = proxy(serve, 0, counts(1000, 500), counts(1100, 503))
    second = proxy(serve, 1, counts(0), counts(97))

    window = read(web(1, first), web(2, second))

    assert window.workloads == (
        WorkloadTraffic(workload="shop/web", requests=200, errors=3, p95=9.5, p99=9.9),
    )
    assert (window.source, window.seconds, window.unread) == (PROXIES, 0.05, ())


@pytest.mark.parametrize("metrics", ["", uptime(60), counts(0, reporter="source")])
def test_a_proxy_that_has_counted_nothing_is_read(serve: Serve, metrics: str) -> None:
    window = read(web(1, proxy(serve, 0, metrics, metrics)))

    assert (window.workloads, window.unread) == ((), ())


def test_a_gateway_counts_what_it_forwards(serve: Serve) -> None:
    address = proxy(
        serve,
        0,
        counts(0),
        counts(7) + counts(90, 10, reporter="source"),
    )
    gateway = pod(
        "gw-1",
        "istio-ingress",
        containers=[running("istio-proxy")],
        labels=GATEWAY,
        ip=address,
    )

    (found,) = read(gateway).workloads

    assert (found.workload, found.requests, found.errors) == ("istio-ingress/gw-1", 100, 10)


@pytest.mark.parametrize(
    ("answers", "why", "transient"),
    [
        (
            [fakes.Answer(403)],
            "%24 answered 403",
            False,
        ),
        ([counts(5), fakes.Answer(503)], "answered 503", True),
        ([counts(5), counts(4)], "its counters decreased between the two readings", True),
        ([counts(5, 1), counts(9, 0)], "its counters decreased between the two readings", True),
        ([uptime(900) + counts(5), uptime(3) + counts(90)], "its counters decreased", True),
        (['istio_requests_total{reporter="destination"} NaN\n'], "has the value nan", False),
    ],
)
def test_a_pod_that_cannot_be_read_makes_its_workload_unread(
    serve: Serve, answers: list[Any], why: str, transient: bool
) -> None:
    readable = proxy(serve, 1, counts(0), counts(1000))

    window = read(web(1, proxy(serve, 0, *answers)), web(2, readable))

    # the facts decide what the counters of the other pods prove
    assert [each.requests for each in window.workloads] == [1000]
    (unread,) = window.unread
    assert unread.workload == "shop/web"
    assert unread.why.startswith("pod web-5f-1: ")
    assert why in unread.why
    assert unread.transient is transient


def test_a_workload_is_judged_by_its_other_pods_if_one_ended(serve: Serve) -> None:
    gone = proxy(serve, 0, counts(5), fakes.Answer(503))
    readable = proxy(serve, 1, counts(0), counts(1000))

    window = read(web(1, gone), web(2, readable), ended=True)

    assert [each.requests for each in window.workloads] == [1000]
    assert window.unread == ()


def test_a_workload_whose_only_pod_ended_is_unread(serve: Serve) -> None:
    window = read(web(1, proxy(serve, 0, counts(5), fakes.Answer(503))), ended=True)

    assert [(each.workload, each.transient) for each in window.unread] == [("shop/web", True)]


def test_a_pod_that_was_never_read_has_not_ended(serve: Serve) -> None:
    readable = proxy(serve, 1, counts(0), counts(1000))

    window = read(web(1, proxy(serve, 0, fakes.Answer(503))), web(2, readable), ended=True)

    assert [each.workload for each in window.unread] == ["shop/web"]


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        ([web(1, "127.0.0.9")], False),
        ([], True),
        ([web(1, "127.0.0.9", deleted=True)], True),
        ([web(1, "127.0.0.9", phase="Failed")], True),
        (ReadError("no right to list pods", "grant it"), False),
    ],
    ids=["still there", "gone", "terminating", "failed", "not known"],
)
def test_whether_a_pod_has_ended(found: list[Pod] | ReadError, ended: bool) -> None:
    class Api:
        def objects(self, kind: Kind) -> tuple[Any, ...]:
            assert kind.only == "metadata.namespace=shop,metadata.name=web-5f-1"
            if isinstance(found, ReadError):
                raise found
            return tuple(found)

    assert proxy_metrics.has_ended(cast(Cluster, Api()), web(1, "127.0.0.9")) is ended


@pytest.mark.parametrize("job", ["nightly", "nightly-28999999"])
def test_pods_of_jobs_are_not_read(job: str) -> None:
    owner = Owner(kind="Job", name=job, controller=True)

    window = read(sidecar("nightly-abcde", ip="127.0.0.9", owner=owner))

    assert (window.workloads, window.unread) == ((), ())


def test_requests_without_a_response_code_are_unread(serve: Serve) -> None:
    silent = 'istio_requests_total{reporter="destination"} 5\n'

    (unread,) = read(web(1, proxy(serve, 0, silent))).unread

    assert "no label response_code" in unread.why
    assert "tagOverrides" in unread.remedy


def test_a_pod_that_refuses_the_connection(serve: Serve) -> None:
    (unread,) = read(web(1, fakes.address(2))).unread

    assert "pod web-5f-1: port 15090: " in unread.why
    assert unread.remedy == "check that the verifier may connect to port 15090 of the pod"


def test_only_running_proxies_are_read_and_few_of_each_workload(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_metrics, "PODS", 1)
    address = proxy(serve, 0, counts(0), counts(3))

    window = read(
        web(2, "127.0.0.9"),
        web(1, address),
        web(0, "127.0.0.9", phase="Pending"),
        web(0, "127.0.0.9", deleted=True),
        pod("plain", containers=[running("app")], ip="127.0.0.9"),
        istiod(ip="127.0.0.9"),
    )

    assert [each.requests for each in window.workloads] == [3]
    assert window.unread == ()


def test_many_pods_that_do_not_answer_delay_a_run_only_so_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_metrics, "ROUND", 0.2)
    monkeypatch.setattr(proxy_metrics, "WORKERS", 1)

    def late(request: fakes.Request) -> fakes.Answer:
        time.sleep(5)
        return fakes.Answer(200)

    serve({"/stats/prometheus": late}, fakes.address(), proxy_metrics.PORT)
    begun = time.monotonic()

    window = read(*(sidecar(f"web-{number}", ip=fakes.address()) for number in range(9)))

    assert time.monotonic() - begun < 4
    assert [each.workload for each in window.unread] == [f"shop/web-{n}" for n in range(9)]
    assert "no answer within" in window.unread[0].why
    assert window.unread[-1].why == "pod web-8: port 15090 was not read in time"


def test_a_window_that_ends_after_the_run_is_not_begun(serve: Serve) -> None:
    with pytest.raises(ReadError, match="deadline"):
        read(web(1, "127.0.0.9"), window=10, deadline=5)


def test_the_window_of_a_baseline_is_compared_and_recorded(
    serve: Serve, gate: Gate, estate: Callable[[Snapshot], Estate], tmp_path: Path
) -> None:
    """From the option to the verdict: a baseline, a worse workload, and its replay."""
    seen = [0, 0]

    def answer(request: fakes.Request) -> fakes.Answer:
        seen[0] += 5000
        seen[1] += failing
        return fakes.Answer(200, counts(seen[0], seen[1]).encode())

    serve({"/stats/prometheus": answer}, fakes.address(1), proxy_metrics.PORT)
    held = snapshot(pods=(istiod(ip=fakes.address()), web(1, fakes.address(1))))
    cluster = (*estate(held).options, "--settle=0")
    options = (*cluster, "--proxy-metrics=0.1")
    saved = tmp_path / "baseline.json.gz"
    failing = 0
    gate(*options, "-m", "precheck", "--check=PC002", f"--save-baseline={saved}")

    def judged(*words: object) -> list[str]:
        return gate(*words, "-m", "dataplane", "--check=DP018").of("DP018")

    (same,) = judged(*options, f"--baseline={saved}")
    failing = 1000
    (worse,) = judged(*options, f"--baseline={saved}")
    replayed = judged(f"--snapshot={tmp_path}/reports/snapshot.json.gz")
    (without,) = judged(*cluster, f"--baseline={saved}")

    assert same.startswith("pass ")
    assert worse.startswith("FAIL DP018 Workload shop/web: answers 16.67% of 6000 requests")
    assert replayed == [worse]
    assert without.startswith("n/a ")
