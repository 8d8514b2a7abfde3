"""Prometheus: which queries are sent, and what is kept of the answers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.prometheus import Prometheus
from meshgate.deadline import Deadline
from meshgate.snapshot.kubernetes import Owner
from meshgate.snapshot.traffic_metrics import Alert, Window, WorkloadTraffic
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import pod

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAYS = frozenset({"istio-ingress/my.gateway"})
WEB = {"destination_workload_namespace": "shop", "destination_workload": "web"}


UNCODED = 'response_code=""'


def vector(*series: tuple[dict[str, str], str], **more: Any) -> dict[str, Any]:
    result = [{"metric": metric, "value": [0, value]} for metric, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


def answering(serve: Serve, answer: Callable[[str, float], Any], **more: Any) -> Prometheus:
    """A server that answers a query at a time."""

    def respond(request: fakes.Request) -> fakes.Answer:
        asked = parse_qs(request.body.decode())
        return fakes.answer(answer(asked["query"][0], float(asked["time"][0])))

    return Prometheus(serve({"/api/v1/query": respond}).url, 5, Deadline(), **more)


def counted(server: Prometheus) -> Window:
    """The window that ends now."""
    found = server.read(900, None, GATEWAYS).now
    assert found is not None
    return found


def of_web(
    requests: str = "1000", errors: str = "7", quantile: str = "20", uncoded: str = ""
) -> Any:
    """Answers about shop/web; an empty value is no series."""

    def answer(query: str, at: float) -> Any:
        if "ALERTS" in query or 'reporter="source"' in query:
            return vector()
        value = requests
        if UNCODED in query:
            value = uncoded
        elif "response_code" in query:
            value = errors
        elif "quantile" in query:
            value = quantile
        return vector((WEB, value)) if value else vector()

    return answer


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
        if UNCODED in query:
            return vector()
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
        assert window.alerts == (Alert(name="High", labels={"namespace": "shop", "pod": "web-1"}),)
        assert window.heartbeats == ("Watchdog",)
    assert len(asked) == 22
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
        if UNCODED in query:
            return vector()
        if 'reporter="source"' in query:
            assert 'source_workload=~"my\\\\.gateway"' in query
            return vector((gateway, "3"), (client, "4"))
        assert "source_workload" not in query
        return vector((WEB, "5"), (served, "6"))

    found = answering(serve, answer).read(900, None, GATEWAYS)

    assert found.now is not None
    requests = [(each.workload, each.requests) for each in found.now.workloads]
    assert requests == [("istio-ingress/my.gateway", 3), ("shop/web", 5)]


def test_without_a_baseline_only_the_present_is_read(serve: Serve) -> None:
    found = answering(serve, lambda query, at: vector()).read(900, None, GATEWAYS)

    assert found.before is None
    assert found.now is not None


def test_a_quantile_that_is_no_number_is_unknown(serve: Serve) -> None:
    (web,) = counted(answering(serve, of_web(quantile="NaN"))).workloads

    assert (web.requests, web.p95) == (1000, None)


@pytest.mark.parametrize(
    ("series", "why"),
    [
        ({"errors": "NaN"}, "its errors are nan"),
        ({"errors": "+Inf"}, "its errors are inf"),
        ({"requests": "NaN"}, "its requests are nan"),
        ({"uncoded": "3"}, "its requests have no label response_code"),
    ],
)
def test_counts_that_prove_nothing_are_unread(
    serve: Serve, series: dict[str, str], why: str
) -> None:
    window = counted(answering(serve, of_web(**series)))

    assert window.workloads == ()
    (unread,) = window.unread
    assert unread.workload == "shop/web"
    assert why in unread.why


def test_no_series_of_errors_is_no_error(serve: Serve) -> None:
    window = counted(answering(serve, of_web(errors="", uncoded="0")))

    assert [each.errors for each in window.workloads] == [0]
    assert window.unread == ()


@pytest.mark.parametrize(
    "partial",
    [
        {"warnings": ["No StoreAPIs matched for this query"]},
        {"infos": ["2 of 3 stores answered"]},
        {"isPartial": True},
    ],
)
def test_a_partial_answer_is_a_gap(serve: Serve, partial: dict[str, Any]) -> None:
    with pytest.raises(ReadError, match="partial") as error:
        counted(answering(serve, lambda query, at: vector(**partial)))

    assert error.value.transient


@pytest.mark.parametrize(
    "complete",
    [
        {"warnings": [], "infos": None, "isPartial": False},
        {"infos": ['PromQL info: input to histogram_quantile needed to be fixed for "x"']},
    ],
)
def test_a_remark_about_the_query_is_no_partial_answer(
    serve: Serve, complete: dict[str, Any]
) -> None:
    assert counted(answering(serve, lambda query, at: vector(**complete))).workloads == ()


# --- several clusters ---------------------------------------------------------------------------


def per_cluster(*clusters: dict[str, str]) -> Callable[[str, float], Any]:
    """Series of shop/web with these labels, and no errors."""

    def answer(query: str, at: float) -> Any:
        if "ALERTS" in query or "response_code" in query or 'reporter="source"' in query:
            return vector()
        return vector(*(({**WEB, **labels}, str(10**at)) for at, labels in enumerate(clusters, 1)))

    return answer


EAST, WEST = {"destination_cluster": "east"}, {"destination_cluster": "west"}


@pytest.mark.parametrize(
    ("clusters", "own", "requests"),
    [
        ((EAST, WEST), "east", 10),
        ((EAST, WEST), "west", 100),
        ((EAST,), "", 10),
        (({"destination_cluster": "unknown"}, EAST), "east", 110),
        (({**EAST, "cluster": "prod-1"}, {**WEST, "cluster": "prod-2"}), "east", 10),
        (({"cluster": "prod-1"},), "east", 10),
        (({},), "east", 10),
    ],
)
def test_series_of_other_clusters_are_not_added(
    serve: Serve, clusters: tuple[dict[str, str], ...], own: str, requests: float
) -> None:
    (web,) = counted(answering(serve, per_cluster(*clusters), cluster_id=own)).workloads

    assert web.requests == requests


@pytest.mark.parametrize(
    ("clusters", "own"),
    [
        ((EAST, WEST), ""),
        (({**EAST, "cluster": "prod-1"}, {**EAST, "cluster": "prod-2"}), "east"),
        (({"cluster": "prod-1"}, {"cluster": "prod-2"}), "east"),
    ],
)
def test_series_of_several_clusters_that_cannot_be_told_apart_are_a_gap(
    serve: Serve, clusters: tuple[dict[str, str], ...], own: str
) -> None:
    with pytest.raises(ReadError, match="several clusters") as error:
        counted(answering(serve, per_cluster(*clusters), cluster_id=own))

    assert "--prometheus-label" in error.value.remedy
    assert not error.value.transient


def test_labels_are_part_of_every_query(serve: Serve) -> None:
    asked: list[str] = []

    def answer(query: str, at: float) -> Any:
        asked.append(query)
        return vector()

    counted(answering(serve, answer, labels=("cluster=prod-1", 'team=a"b')))

    matchers = 'cluster="prod-1", team="a\\"b"'
    assert all(query.count(matchers) == query.count("{") for query in asked)


# --- alerts -------------------------------------------------------------------------------------

REPLICA_SET = Owner(kind="ReplicaSet", name="web-6d8f9c5b4", controller=True)
PODS = [
    pod(f"web-6d8f9c5b4-{suffix}", labels={"pod-template-hash": "6d8f9c5b4"}, owner=REPLICA_SET)
    for suffix in ("x2v5k", "z9m4l")
]


def firing(*alerts: dict[str, str]) -> Callable[[str, float], Any]:
    def answer(query: str, at: float) -> Any:
        return vector(*((each, "1") for each in alerts)) if "ALERTS" in query else vector()

    return answer


def test_alerts_of_the_pods_of_a_workload_are_counted(serve: Serve) -> None:
    alerts = [
        {"alertname": "High", "namespace": "shop", "container": "app", "pod": name}
        for name in ("web-6d8f9c5b4-x2v5k", "web-6d8f9c5b4-z9m4l", "other-1")
    ]

    found = answering(serve, firing(*alerts)).read(900, None, GATEWAYS, PODS).now

    assert found is not None
    about = {"namespace": "shop", "container": "app"}
    assert set(map(repr, found.alerts)) == {
        repr(Alert(name="High", labels=dict(sorted({**about, "pod": each}.items())), count=count))
        for each, count in (("Deployment web", 2), ("other-1", 1))
    }


def test_alerts_of_other_clusters_are_omitted(serve: Serve) -> None:
    series = per_cluster({**EAST, "cluster": "prod-1"}, {**WEST, "cluster": "prod-2"})
    alerts = firing(*({"alertname": each, "cluster": each} for each in ("prod-1", "prod-2", "x")))

    def answer(query: str, at: float) -> Any:
        return alerts(query, at) if "ALERTS" in query else series(query, at)

    found = counted(answering(serve, answer, cluster_id="east"))

    assert [each.name for each in found.alerts] == ["prod-1", "x"]


def listing(*rules: dict[str, str]) -> Any:
    return {"status": "success", "data": {"groups": [{"rules": list(rules)}]}}


@pytest.mark.parametrize(
    ("answer", "rules", "failing"),
    [
        (listing(), 0, ()),
        (listing({"name": "High", "health": "ok"}, {"name": "Low", "health": "err"}), 2, ("Low",)),
        ({"status": "error"}, None, ()),
        ("<html>", None, ()),
        (None, None, ()),
    ],
)
def test_the_alerting_rules_are_counted_where_they_are_listed(
    serve: Serve, answer: Any, rules: int | None, failing: tuple[str, ...]
) -> None:
    answers = {"/api/v1/query": fakes.answer(vector())}
    if answer is not None:
        answers["/api/v1/rules"] = fakes.answer(answer)

    found = counted(Prometheus(serve(answers).url, 5, Deadline()))

    assert (found.rules, found.failing_rules) == (rules, failing)


# --- no answer ----------------------------------------------------------------------------------


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
