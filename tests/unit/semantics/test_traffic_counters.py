"""What the metrics of one proxy say about the requests that its workload answers."""

import math

import pytest

from meshgate.semantics.traffic_counters import GATEWAY, SIDECAR, Counters, counters, quantile

# as Istio's Envoy writes them, with fewer labels
SERVED = """\
# TYPE envoy_server_uptime gauge
envoy_server_uptime{} 70
# TYPE istio_requests_total counter
istio_requests_total{reporter="destination",source_workload="client",response_code="200",response_flags="-"} 90
istio_requests_total{reporter="destination",source_workload="other",response_code="503",response_flags="UF,\\"x\\""} 6
istio_requests_total{reporter="destination",response_code="0",response_flags="DC"} 3
istio_requests_total{reporter="destination",response_code="200",grpc_response_status="14"} 1
istio_requests_total{reporter="destination",response_code="200",grpc_response_status="5"} 10
istio_requests_total{reporter="destination",response_code="404"} 10
istio_requests_total{reporter="source",response_code="500"} 1000
# TYPE istio_request_duration_milliseconds histogram
istio_request_duration_milliseconds_bucket{reporter="destination",response_code="200",le="5"} 80
istio_request_duration_milliseconds_bucket{reporter="destination",response_code="200",le="+Inf"} 90
istio_request_duration_milliseconds_bucket{reporter="destination",response_code="503",le="5"} 6
istio_request_duration_milliseconds_bucket{reporter="destination",response_code="503",le="+Inf"} 6
istio_request_duration_milliseconds_sum{reporter="destination",response_code="200"} 500
istio_request_bytes_bucket{reporter="destination",response_code="200",le="+Inf"} 90
"""  # noqa: E501


def test_the_series_of_one_side_are_summed() -> None:
    served = counters(SERVED, SIDECAR)

    assert (served.requests, served.errors) == (120, 10)
    assert served.buckets == {5.0: 86, math.inf: 96}
    assert served.outcomes == {"200|": 90, "503|": 6, "0|": 3, "200|14": 1, "200|5": 10, "404|": 10}
    assert served.uptime == 70
    assert counters(SERVED, GATEWAY) == Counters(1000, 1000, {}, {"500|": 1000}, 70)


def test_a_proxy_without_these_metrics_has_counted_nothing() -> None:
    assert counters("envoy_server_live 1\n", SIDECAR) == Counters()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('istio_requests_total{reporter="destination",response_code="2', "Invalid value"),
        ('istio_requests_total{reporter="destination"} NaN', "has the value nan"),
        ('istio_requests_total{reporter="destination"} many', "could not convert"),
        ('istio_requests_total{reporter="destination"} 1', "have no label response_code"),
        ('istio_request_duration_milliseconds_bucket{reporter="destination"} 1', "cannot decode"),
    ],
)
def test_what_cannot_be_decoded_is_an_error(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        counters(line + "\n", SIDECAR)


def test_what_was_counted_between_two_readings() -> None:
    first, second = Counters(10, 1, {5: 8, math.inf: 10}), Counters(30, 2, {5: 9, math.inf: 30})

    assert second.since(first) == Counters(20, 1, {5: 1, math.inf: 20})
    assert second.since(Counters()) == second
    with pytest.raises(ValueError, match="decreased"):
        first.since(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # the sums grow
        (
            Counters(100, 0, {}, {"200|": 90, "404|": 10}),
            Counters(120, 0, {}, {"200|": 120}),
        ),
        (Counters(0, 0, {5: 3, math.inf: 4}), Counters(0, 0, {math.inf: 5})),
        (Counters(5, 0, {}, {"200|": 5}, 900), Counters(50, 0, {}, {"200|": 50}, 40)),
    ],
    ids=["another outcome", "a bucket that is gone", "uptime"],
)
def test_a_restart_is_noticed_although_the_sums_grow(first: Counters, second: Counters) -> None:
    with pytest.raises(ValueError, match="decreased"):
        second.since(first)


def test_counters_without_the_uptime_are_compared() -> None:
    first, second = Counters(5, 0, {}, {"200|": 5}), Counters(9, 1, {}, {"200|": 8, "503|": 1}, 40)

    assert second.since(first).requests == 4
    assert second.since(first._replace(uptime=30)).errors == 1


def test_the_pods_of_a_workload_are_summed() -> None:
    total = Counters(1, 1, {5: 1, math.inf: 1}) + Counters(2, 0, {10: 2, math.inf: 2})

    assert total == Counters(3, 1, {5: 1, 10: 2, math.inf: 3})


def test_quantiles_of_known_histograms() -> None:
    buckets = {5.0: 50.0, 10.0: 90.0, math.inf: 100.0}

    assert quantile(0.25, buckets) == 2.5  # the first bucket begins at 0
    assert quantile(0.7, buckets) == 7.5
    assert quantile(0.99, buckets) == 10.0  # beyond the greatest limit
    assert quantile(0.95, {}) is None
    assert quantile(0.95, {5.0: 0.0, math.inf: 0.0}) is None
    assert quantile(0.95, {5.0: 3.0}) is None
