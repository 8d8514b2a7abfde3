"""Prometheus: which queries are sent, and what is kept of the answers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.prometheus import Prometheus
from meshgate.deadline import Deadline
from meshgate.snapshot.traffic_metrics import Alert, WorkloadTraffic
from tests.conftest import Serve
from tests.support import fakes

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAYS = frozenset({"istio-ingress/my.gateway"})
WEB = {"destination_workload_namespace": "shop", "destination_workload": "web"}


def vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": metric, "value": [0, value]} for metric, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def answering(serve: Serve, answer: Callable[[str, float], Any]) -> Prometheus:
    """A server that answers a query at a time."""

    def respond(request: fakes.Request) -> fakes.Answer:
        asked = parse_qs(request.body.decode())
        return fakes.answer(answer(asked["query"][0], float(asked["time"][0])))

    return Prometheus(serve({"/api/v1/query": respond}).url, 5, Deadline())


def test_both_windows_are_read_at_their_ends(serve: Serve) -> None:
    asked: list[tuple[str, float]] = []

    def answer(query: str, at: float) -> Any:
        asked.append((query, at))
        if "ALERTS" in query:
            firing = {
                "__name__": "ALERTS",
                "alertname": "High",
                "pod": "web-1",
                "namespace": "shop",
            }
            return vector((firing, "1"), ({"alertname": "Watchdog"}, "1"))
        value = "40" if "0.99" in query else "20" if "0.95" in query else "7"
        value = "1000" if "response_code" not in query and "quantile" not in query else value
        return vector((WEB, value), ({**WEB, "destination_workload": "unknown"}, "9"))

    found = answering(serve, answer).read(900, BEFORE, GATEWAYS)

    assert found.before is not None
    assert found.now is not None
    assert found.before.end == BEFORE
    for window in (found.before, found.now):
        assert window.workloads == (
            WorkloadTraffic(workload="shop/web", requests=1000, errors=7, p95=20, p99=40),
        )
        assert window.alerts == (Alert(name="High", labels={"namespace": "shop"}),)
    assert len(asked) == 18
    assert {at == BEFORE.timestamp() for _, at in asked} == {True, False}
    assert all("[900s]" in query for query, _ in asked if "istio_" in query)


def test_gateways_are_counted_by_themselves_and_workloads_by_their_sidecars(serve: Serve) -> None:
    gateway = {"source_workload_namespace": "istio-ingress", "source_workload": "my.gateway"}
    # another workload of that name, and what a client of the gateway's own counts
    client = {**gateway, "source_workload_namespace": "shop"}
    served = {f"destination_{name.partition('_')[2]}": each for name, each in gateway.items()}

    def answer(query: str, at: float) -> Any:
        if "ALERTS" in query:
            return vector()
        if 'reporter="source"' in query:
            assert 'source_workload=~"my\\\\.gateway"' in query
            return vector((gateway, "3"), (client, "4"))
        assert "source_workload" not in query
        return vector((WEB, "5"), (served, "6"))

    found = answering(serve, answer).read(900, None, GATEWAYS)

    assert found.now is not None
    counted = [(each.workload, each.requests) for each in found.now.workloads]
    assert counted == [("istio-ingress/my.gateway", 3), ("shop/web", 5)]


def test_without_a_baseline_only_the_present_is_read(serve: Serve) -> None:
    found = answering(serve, lambda query, at: vector()).read(900, None, GATEWAYS)

    assert found.before is None
    assert found.now is not None


def test_a_quantile_that_is_no_number_is_unknown(serve: Serve) -> None:
    found = answering(
        serve, lambda query, at: vector((WEB, "NaN" if "quantile" in query else "5"))
    ).read(900, None, GATEWAYS)

    assert found.now is not None
    (web,) = found.now.workloads
    assert (web.requests, web.p95) == (5, None)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "error", "error": "parse error"},
        {"status": "success", "data": {"resultType": "matrix", "result": []}},
        "<html>",
    ],
)
def test_an_answer_that_is_none_is_a_gap(serve: Serve, answer: Any) -> None:
    with pytest.raises(ReadError, match="cannot query Prometheus"):
        answering(serve, lambda query, at: answer).read(900, None, GATEWAYS)


def test_a_server_that_is_not_there_is_a_gap() -> None:
    with pytest.raises(ReadError, match="cannot query Prometheus") as error:
        Prometheus("http://127.0.0.1:9", 5, Deadline()).read(900, None, GATEWAYS)

    assert error.value.transient
