"""Reading istiod's numbers: twice, only what is used, and never a guess."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshgate.collect import istiod_metrics as numbers
from meshgate.collect.istiod import MONITORING_PORT, Direct
from meshgate.snapshot.istiod import Conflict, Conflicts, IstiodMetrics
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import istiod
from tests.support.fakes import Answer, Answers, Request

METRICS = """\
# HELP pilot_total_xds_rejects Total number of XDS responses from pilot rejected by proxy.
# TYPE pilot_total_xds_rejects counter
pilot_total_xds_rejects{{type="lds"}} {rejects}
pilot_xds_lds_reject{{err="1",node="web-1.shop"}} 1
pilot_proxy_convergence_time_bucket{{le="10"}} 4
pilot_info{{version="1.31.0"}} 1
go_goroutines 900
process_start_time_seconds 1.7e+09
"""


class Replica:
    """A replica whose answers can be changed, and what reading it gives."""

    def __init__(self, serve: Serve, token: Path) -> None:
        answers: Answers = {
            "/metrics": _counting(),
            "/debug/push_status": fakes.answer({}),
        }
        self.server = serve(answers, fakes.address(), MONITORING_PORT)
        self._transport = Direct(token, timeout=5.0)

    def read(self) -> IstiodMetrics:
        """One reading, its window as short as can be."""
        (seen,) = numbers.read([istiod(ip=fakes.address())], self._transport, 0.0)
        return seen


def _counting() -> Callable[[Request], Answer]:
    counts: Iterator[int] = iter(range(5, 100))
    return lambda request: Answer(200, METRICS.format(rejects=next(counts)).encode())


@pytest.fixture
def replica(serve: Serve, tmp_path: Path) -> Replica:
    """One that rejects a push between every two looks."""
    token = tmp_path / "token"
    token.write_text("a-token")
    return Replica(serve, token)


def test_a_replica_is_read_at_both_ends_of_the_window(replica: Replica) -> None:
    seen = replica.read()

    assert (
        seen.before["pilot_total_xds_rejects|lds"],
        seen.after["pilot_total_xds_rejects|lds"],
    ) == (5, 6)
    assert replica.server.asked.count("GET /metrics") == 2


def test_only_what_a_claim_reads_is_kept_and_no_proxys_name(replica: Replica) -> None:
    assert set(replica.read().after) == {
        "pilot_total_xds_rejects|lds",
        "pilot_proxy_convergence_time_bucket|10",
        "pilot_info",
        "process_start_time_seconds",
    }


def test_conflicts_are_those_of_the_last_push(replica: Replica) -> None:
    replica.server.answers["/debug/push_status"] = fakes.answer(
        {
            "pilot_vservice_dup_domain": {"web:80": {"proxy": "a.b", "message": "duplicate"}},
            "pilot_eds_no_instances": {"outbound|80||web": {}},
        }
    )

    assert replica.read().conflicts == Conflicts(
        domains={"web:80": Conflict(proxy="a.b", message="duplicate")}
    )


def test_no_push_yet_is_not_no_conflict(replica: Replica) -> None:
    replica.server.answers["/debug/push_status"] = Answer(200, b"")

    assert replica.read().conflicts is None


def test_metrics_that_only_istiod_itself_may_read_are_said_to_be_so(replica: Replica) -> None:
    replica.server.answers["/metrics"] = Answer(403, b"Forbidden")

    assert "METRICS_LOCALHOST_ACCESS_ONLY=false" in replica.read().denied


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/metrics", Answer(200, b"pilot_total_xds_rejects{type= 1\n")),
        ("/debug/push_status", Answer(200, b"<html>")),
        ("/debug/push_status", Answer(404)),
    ],
    ids=["no metrics", "no JSON", "no debug"],
)
def test_what_cannot_be_read_is_no_number(replica: Replica, path: str, answer: Answer) -> None:
    replica.server.answers[path] = answer

    seen = replica.read()

    assert seen.denied
    assert seen.after == {}


def test_an_istiod_that_fails_may_be_better_the_next_time(replica: Replica) -> None:
    replica.server.answers["/metrics"] = Answer(503)

    assert "503" in replica.read().error


def test_unusual_metrics_leave_the_others_readable(replica: Replica) -> None:
    replica.server.answers["/metrics"] = Answer(
        200,
        b'pilot_total_xds_rejects{type="\xff"} 1\n'
        b'go_gc_duration_seconds{quantile="0.5"} NaN\n'
        b"process_start_time_seconds 1\n",
    )

    seen = replica.read()

    assert (seen.error, seen.denied) == ("", "")
    assert seen.after == {"pilot_total_xds_rejects|\ufffd": 1.0, "process_start_time_seconds": 1.0}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e999"])
def test_a_value_that_is_no_number_is_not_left_out(replica: Replica, value: str) -> None:
    replica.server.answers["/metrics"] = Answer(
        200,
        f'pilot_total_xds_rejects{{type="lds"}} {value}\nprocess_start_time_seconds 1\n'.encode(),
    )

    seen = replica.read()

    assert "for pilot_total_xds_rejects lds" in seen.denied
    assert seen.after == {}
