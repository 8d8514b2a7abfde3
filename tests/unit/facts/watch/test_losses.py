"""What a watch saw of an upgrade: what is lost, why, and when the watch proves nothing."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh, notes_about
from meshgate.facts.watch.losses import Watched
from meshgate.snapshot.watch import Watch
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ingress_builders as build
from tests.support.builders import AT, expecting
from tests.support.watch_builders import (
    OBSERVERS,
    changed,
    flow,
    gateway,
    lost,
    terminating,
    watch,
)


def watched(given: Watch | None, *budgets: str) -> Watched:
    return Mesh(build.snapshot(**expecting(watch=given, loss_budgets=budgets))).watched


def test_nothing_was_lost() -> None:
    seen = watched(watch())

    assert (seen.lost, seen.lost_through_gateways, seen.remarks) == ([], [], [])
    assert (seen.requests, seen.through_gateways) == (51220 + 100 + 1800, 100)


def test_a_loss_names_the_time_and_the_pod_that_was_terminating() -> None:
    ill = flow(lost=(lost(62, 3, "Connection refused", last=60),))

    (found,) = watched(watch(ill, happenings=(terminating(63, until=59),))).lost

    assert found.subject == "Service payments/api"
    assert found.seen == (
        "3 of 51,220 requests to http1://api.payments:80/ from a pod with proxy 1.30.4 lost, "
        "11:58:58-11:59:00 (Connection refused), while Pod payments/api-6c9d-x was terminating "
        "(terminationDrainDuration 1s)"
    )
    assert found.identity == (
        "Service payments/api",
        "requests-lost",
        (("request", "http1://api.payments:80/"),),
    )


def test_the_own_pod_is_named_before_configuration_istiod_and_others() -> None:
    ill = watch(flow(lost=(lost(60),)))
    mine = terminating(61, until=58)
    other = terminating(60, subject="Pod shop/web-1", services=("shop/web",))
    istiod = terminating(60, subject="Pod istio-system/istiod-1", services=(), role="istiod")

    def cause(*happenings: Any) -> str:
        given = msgspec.structs.replace(ill, happenings=happenings)
        return watched(given).lost[0].seen.partition("(503), ")[2]

    assert cause(other, istiod, changed(65), mine).startswith("while Pod payments/api-6c9d-x")
    assert cause(other, istiod, changed(65)) == "after EnvoyFilter payments/cut was created"
    assert cause(other, istiod).startswith("while Pod istio-system/istiod-1 was terminating")
    assert cause(other).startswith("while Pod shop/web-1")
    # a pod that starts elsewhere, and a pod of the watch itself
    observer = terminating(60, subject="Pod p/observer-1-b-x", services=(), role="observer")
    starting = msgspec.structs.replace(other, what="was starting")
    assert cause(starting, observer).startswith("while no pod was terminating")
    # too early, and too late
    assert cause(changed(90), changed(50), terminating(200, until=190)) == (
        "while no pod was terminating and no configuration changed"
    )


def test_a_cause_that_lasts_is_named_for_what_continues() -> None:
    again = tuple(lost(seconds, 1, "403") for seconds in (200, 180, 160))
    ill = flow(lost=(*again, lost(155, 1, "503"), lost(60, 1, "403")))

    (found,) = watched(watch(ill, happenings=(changed(205),))).lost

    times, _, rest = found.seen.partition("after EnvoyFilter payments/cut was created; ")
    assert times.endswith("11:56:40, 11:57:00, 11:57:20 (403), ")
    assert rest.count("while no pod was terminating") == 2


def test_a_budget_is_for_the_name_of_the_target() -> None:
    ill = watch(flow(lost=(lost(60, 3),)))

    assert watched(ill, "payments/*=3").lost == []
    assert len(watched(ill, "payments/api=2").lost) == 1
    assert len(watched(ill, "shop/*=9").lost) == 1


def test_interruptions_are_counted_apart_and_those_by_the_servers_restart_only_warn() -> None:
    kept = flow(kind="idle", target="idle://api.payments:80", sent=2, lost=(lost(60, 1, "closed"),))

    restarted = watched(watch(flow(), kept, happenings=(terminating(61, until=58),)))
    # a proxy drains the connections of a changed listener for 45 s
    cut = watched(watch(flow(), kept, happenings=(changed(110),)))

    assert restarted.lost == []
    (remark,) = restarted.remarks
    assert remark.seen.startswith("1 interruptions of the idle connection to idle://api.payments")
    (found,) = cut.lost
    assert found.problem == "connection-interrupted"
    assert found.seen.endswith("(closed), after EnvoyFilter payments/cut was created")
    assert cut.requests == 51220


def test_what_went_through_the_gateways_is_judged_apart() -> None:
    seen = watched(watch(flow(lost=(lost(60),)), gateway()))

    assert seen.lost_through_gateways == []
    (found,) = watched(watch(flow(), gateway(lost=(lost(60),)))).lost_through_gateways
    assert found.subject == "Gateway ways/front"


def test_slow_and_unanswered_requests_only_warn() -> None:
    slow = gateway(slow=(lost(60, 4, "slower than 1000 ms"),))
    sampled = flow(answered=None, sent=0, failing="403 RBAC: access denied")
    seen = watched(watch(slow, sampled))

    assert seen.lost == []
    assert [each.problem for each in seen.remarks] == ["requests-slow", "never-answered"]
    assert [each.problem for each in seen.slow_through_gateways] == ["requests-slow"]


def test_a_declared_target_that_was_never_answered_is_unknown() -> None:
    never = flow(answered=None, sent=0, failing="404 no route", declared=True)

    with pytest.raises(CouldNotVerify, match="was never answered: 404 no route"):
        _ = watched(watch(never, gateway())).lost


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"unusable": "there is no snapshot"}, "left no evidence: there is no snapshot"),
        ({"flows": (flow(sent=0, answered=None),)}, "no request of the watch was answered"),
        ({"last": AT - timedelta(minutes=3)}, "before this run began"),
        (
            {"observers": (msgspec.structs.replace(OBSERVERS[0], ended="its pod ended"),)},
            "the observer with proxy 1.30.4 ended before the watch: its pod ended",
        ),
        ({"observers": ()}, "no observer could be started"),
    ],
)
def test_a_watch_that_did_not_watch_proves_nothing(given: dict[str, Any], why: str) -> None:
    with pytest.raises(CouldNotVerify, match=why):
        _ = watched(watch(*given.pop("flows", ()), **given)).lost


def test_an_observer_that_ended_says_nothing_about_the_gateways() -> None:
    ended = msgspec.structs.replace(OBSERVERS[0], ended="its pod ended")

    assert watched(watch(observers=(ended,))).lost_through_gateways == []


def test_losses_are_reported_although_the_watch_ended_early() -> None:
    early = AT - timedelta(minutes=3)

    assert len(watched(watch(flow(lost=(lost(200),)), last=early)).lost) == 1


def test_without_a_watch() -> None:
    with pytest.raises(NotApplicable, match="--watch"):
        _ = watched(None).lost


def test_the_result_is_a_note_in_one_line() -> None:
    ill = watch(flow(lost=(lost(60, 3),)), gateway())
    notes = notes_about(Mesh(build.snapshot(**expecting(watch=ill))), ())

    assert "51,320 requests, 3 lost, from 11:55:00 to 12:00:00 UTC" in notes
