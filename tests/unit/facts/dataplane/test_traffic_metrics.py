"""Errors, durations and alerts, compared with those before the upgrade."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.traffic_metrics import Traffic
from meshgate.snapshot.model import Before
from meshgate.snapshot.traffic_metrics import (
    PROXIES,
    Alert,
    TrafficLimits,
    TrafficMetrics,
    Unread,
    Window,
    WorkloadTraffic,
)
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import AT, expecting, mesh


def web(requests: float = 100_000, errors: float = 0, **more: Any) -> WorkloadTraffic:
    return WorkloadTraffic(workload="shop/web", requests=requests, errors=errors, **more)


def traffic(
    before: WorkloadTraffic | None,
    now: WorkloadTraffic | None,
    *,
    alerts: tuple[tuple[Alert, ...], tuple[Alert, ...]] = ((), ()),
    apart: float = 3600,
    **limits: Any,
) -> Traffic:
    """Two windows of 15 minutes."""
    metrics = TrafficMetrics(
        before=Window(
            end=AT,
            seconds=900,
            workloads=(before,) if before else (),
            alerts=alerts[0],
        ),
        now=Window(
            end=AT + timedelta(seconds=apart),
            seconds=900,
            workloads=(now,) if now else (),
            alerts=alerts[1],
        ),
    )
    asked = TrafficLimits(requested=True, **limits)
    return mesh(traffic_metrics=metrics, **expecting(traffic=asked)).traffic


def test_traffic_as_before_is_no_finding() -> None:
    assert traffic(web(p95=20, p99=40), web(errors=20, p95=22, p99=41)).worse == []


def test_more_errors_are_a_finding() -> None:
    (found,) = traffic(web(errors=100), web(errors=5000)).worse

    assert found.subject == "Workload shop/web"
    assert found.seen == (
        "answers 5.00% of 100000 requests with errors, and 0.10% of 100000 before the upgrade"
    )


def test_a_rise_within_the_limit_is_none() -> None:
    assert traffic(web(), web(errors=900)).worse == []
    assert len(traffic(web(), web(errors=900), errors=0.001).worse) == 1


def test_slower_answers_are_a_finding_for_each_quantile() -> None:
    found = traffic(web(p95=100, p99=200), web(p95=160, p99=500)).worse

    assert [dict(each.about)["quantile"] for each in found] == ["p95", "p99"]
    assert "its p95 is 160 ms, and 100 ms before" in found[0].seen


@pytest.mark.parametrize(("before", "now"), [(2, 9), (100, 149), (None, 500), (None, None)])
def test_a_difference_within_the_limit_or_unknown_is_none(
    before: float | None, now: float | None
) -> None:
    assert traffic(web(p95=before), web(p95=now)).worse == []


@pytest.mark.parametrize(
    ("before", "now", "more", "reason"),
    [
        (web(500), web(500), {}, "no workload received 1000 requests"),
        (None, web(), {}, "no workload received"),
        (web(), web(10), {}, "shop/web received 100000 requests before the upgrade and 10 now"),
        (web(), None, {}, "and 0 now"),
        (web(1000, 20), web(1000, 25), {}, "with a confidence of 95% by at most"),
        (web(100), web(100, 2), {"requests": 100}, "rose by 2.00%, and with a confidence"),
        (web(), web(), {"apart": 600}, "the two windows overlap"),
    ],
)
def test_too_little_traffic_is_unknown(
    before: WorkloadTraffic | None,
    now: WorkloadTraffic | None,
    more: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(CouldNotVerify, match=reason):
        _ = traffic(before, now, **more).worse


def test_durations_that_are_not_recorded_any_more_are_unknown() -> None:
    compared = traffic(web(p95=20, p99=40), web())

    with pytest.raises(CouldNotVerify, match="p95 of shop/web was 20 ms before the upgrade"):
        _ = compared.worse


def test_missing_durations_hide_no_errors() -> None:
    assert len(traffic(web(p95=20), web(errors=5000)).worse) == 1


def test_without_prometheus_or_baseline_there_is_nothing_to_compare() -> None:
    asked = expecting(traffic=TrafficLimits(requested=True))

    for facts, reason in (
        (mesh(read=()), "neither --prometheus nor --proxy-metrics"),
        (mesh(traffic_metrics=TrafficMetrics(skipped_reason="none"), **asked), "none"),
        (mesh(traffic_metrics=TrafficMetrics(), **asked), "--baseline"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            _ = facts.traffic.worse
        with pytest.raises(NotApplicable, match=reason):
            _ = facts.traffic.new_alerts


# --- the proxies' own counters ------------------------------------------------------------------

BLOCKED = Unread(workload="shop/web", why="pod web-1: port 15090: refused", remedy="open it")


def counted(
    *workloads: WorkloadTraffic, at: float = 0, seconds: float = 60, unread: tuple[Unread, ...] = ()
) -> Window:
    end = AT + timedelta(seconds=at)
    return Window(end=end, seconds=seconds, source=PROXIES, workloads=workloads, unread=unread)


def by_proxies(before: Window | None, now: Window) -> Traffic:
    """What the baseline's window and a later one say."""
    asked = TrafficLimits(requested=True)
    given = Before(taken=AT, traffic=before)
    return mesh(
        traffic_metrics=TrafficMetrics(now=now), **expecting(traffic=asked, before=given)
    ).traffic


def test_the_window_of_the_baseline_is_compared_with_the_proxies_now() -> None:
    before = counted(web())

    assert by_proxies(before, counted(web(), at=600)).worse == []
    (found,) = by_proxies(before, counted(web(errors=5000), at=600)).worse
    assert found.subject == "Workload shop/web"


def test_proxies_have_no_alerts() -> None:
    with pytest.raises(NotApplicable, match="no alerts"):
        _ = by_proxies(counted(web()), counted(web(), at=600)).new_alerts


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (None, counted(web(), at=600), "the baseline has no window of the same source"),
        (
            Window(end=AT, seconds=60, workloads=(web(),)),
            counted(web(), at=600),
            "the baseline has no window of the same source",
        ),
        (
            counted(web()),
            counted(web(), at=600, seconds=30),
            "the window of the baseline has 60 s, and this one 30 s",
        ),
        (counted(web()), counted(web(), at=59), "the two windows overlap"),
        (
            counted(web(), WorkloadTraffic("shop/api", requests=9000)),
            counted(WorkloadTraffic("shop/api", requests=9000), at=600, unread=(BLOCKED,)),
            r"the proxies of shop/web \(pod web-1: port 15090: refused\) could not be read now",
        ),
        (
            counted(unread=(BLOCKED,)),
            counted(web(), at=600),
            r"the proxies of shop/web \(.*\) could not be read before the upgrade",
        ),
    ],
)
def test_counters_that_cannot_be_compared_are_unknown(
    before: Window | None, now: Window, reason: str
) -> None:
    with pytest.raises(CouldNotVerify, match=reason):
        _ = by_proxies(before, now).worse


def test_an_unread_workload_hides_no_finding() -> None:
    failing = WorkloadTraffic("shop/api", requests=9000, errors=9000)
    now = counted(failing, at=600, unread=(BLOCKED,))

    (found,) = by_proxies(counted(web(), API), now).worse

    assert found.subject == "Workload shop/api"


API = WorkloadTraffic("shop/api", requests=9000)


def test_a_workload_that_was_not_read_before_the_upgrade_is_a_warning() -> None:
    facts = by_proxies(counted(API, unread=(BLOCKED,)), counted(API, web(), at=600))

    assert facts.worse == []
    (warning,) = facts.not_compared
    assert warning.subject == "Workload shop/web"
    assert "could not be read before the upgrade (pod web-1: port 15090: refused)" in warning.seen


@pytest.mark.parametrize("unread", [(), (BLOCKED,)])
def test_a_workload_with_one_unread_pod_in_the_baseline_is_judged_by_the_others(
    unread: tuple[Unread, ...],
) -> None:
    before = counted(web(), unread=unread)

    assert by_proxies(before, counted(web(), at=600)).worse == []
    assert len(by_proxies(before, counted(web(errors=9000), at=600)).worse) == 1
    assert by_proxies(before, counted(web(), at=600)).not_compared == []


def test_an_unread_pod_now_is_unknown_although_others_were_read() -> None:
    facts = by_proxies(counted(web()), counted(web(), at=600, unread=(BLOCKED,)))

    with pytest.raises(CouldNotVerify, match="the proxies of shop/web"):
        _ = facts.worse


def test_a_workload_that_was_idle_before_the_upgrade_may_be_unread() -> None:
    assert by_proxies(counted(API), counted(API, at=600, unread=(BLOCKED,))).worse == []


def test_a_workload_that_is_unread_in_both_windows_does_not_close_the_gate_for_ever() -> None:
    facts = by_proxies(counted(API, unread=(BLOCKED,)), counted(API, at=600, unread=(BLOCKED,)))

    assert facts.worse == []
    assert len(facts.not_compared) == 1


# --- alerts -------------------------------------------------------------------------------------


def test_only_alerts_that_did_not_fire_before_are_findings() -> None:
    old = Alert(name="HighLatency", labels={"namespace": "shop"})
    other = Alert(name="HighLatency", labels={"namespace": "payments"})

    facts = traffic(web(), web(), alerts=((old,), (old, other)))

    assert [each.about for each in facts.new_alerts] == [(("namespace", "payments"),)]
    assert [each.about for each in facts.old_alerts] == [(("namespace", "shop"),)]
    assert traffic(web(), web(), alerts=((old,), ())).new_alerts == []


def alert(count: int = 1, **labels: str) -> Alert:
    return Alert(name="CrashLooping", labels=labels, count=count)


def test_an_old_alert_excuses_neither_another_workload_nor_another_container() -> None:
    before = alert(pod="Deployment web", container="app")
    now = (
        before,
        alert(pod="Deployment api", container="app"),
        alert(pod="Deployment web", container="istio-proxy"),
    )

    facts = traffic(web(), web(), alerts=((before,), now))

    assert [dict(each.about)["pod"] for each in facts.new_alerts] == [
        "Deployment api",
        "Deployment web",
    ]
    assert "(pod Deployment api, container app)" in facts.new_alerts[0].seen
    assert len(facts.old_alerts) == 1


@pytest.mark.parametrize(("before", "now", "new"), [(1, 3, 1), (3, 3, 0), (3, 1, 0)])
def test_an_alert_is_old_up_to_its_number_before_the_upgrade(
    before: int, now: int, new: int
) -> None:
    alerts = ((alert(before, pod="Deployment web"),), (alert(now, pod="Deployment web"),))

    facts = traffic(web(), web(), alerts=alerts)

    assert (len(facts.new_alerts), len(facts.old_alerts)) == (new, 1 - new)
    assert all(each.transient for each in facts.new_alerts)
    assert all("fires for 3 series, and for 1 before" in each.seen for each in facts.new_alerts)


def alerting(
    before: dict[str, Any], now: dict[str, Any], baseline: Window | None = None
) -> Traffic:
    """What Prometheus says of its rules in both windows, and said when the baseline was saved."""
    windows = (Window(end=AT + timedelta(hours=at), seconds=900) for at in (0, 1))
    first, second = (
        msgspec.structs.replace(window, **given)
        for window, given in zip(windows, (before, now), strict=True)
    )
    asked = TrafficLimits(requested=True)
    given = Before(taken=AT, traffic=baseline)
    metrics = TrafficMetrics(before=first, now=second)
    return mesh(traffic_metrics=metrics, **expecting(traffic=asked, before=given)).traffic


WATCHDOG = {"heartbeats": ("Watchdog",)}


@pytest.mark.parametrize(
    ("before", "now", "baseline", "reason"),
    [
        (WATCHDOG, {}, None, "the alert Watchdog always fires"),
        (WATCHDOG, {"rules": 30}, None, "the alert Watchdog always fires"),
        ({}, {"rules": 0}, Window(end=AT, seconds=900, rules=30), "no alerting rules, and 30"),
    ],
)
def test_alerts_that_cannot_fire_any_more_are_unknown(
    before: dict[str, Any], now: dict[str, Any], baseline: Window | None, reason: str
) -> None:
    with pytest.raises(CouldNotVerify, match=reason):
        _ = alerting(before, now, baseline).new_alerts


def test_a_prometheus_without_rules_has_nothing_to_compare() -> None:
    with pytest.raises(NotApplicable, match="no alerting rules"):
        _ = alerting({}, {"rules": 0}).new_alerts


def test_a_new_alert_is_found_although_the_watchdog_is_gone() -> None:
    assert len(alerting(WATCHDOG, {"alerts": (alert(),)}).new_alerts) == 1


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"rules": 30}),
        (WATCHDOG, WATCHDOG),
        # Thanos lists no rules, and evaluates them elsewhere
        (WATCHDOG, {**WATCHDOG, "rules": 0}),
        ({}, WATCHDOG),
    ],
)
def test_no_alert_is_healthy_where_rules_are_evaluated(
    before: dict[str, Any], now: dict[str, Any]
) -> None:
    facts = alerting(before, now)

    assert (facts.new_alerts, facts.unproven_rules) == ([], [])


def test_the_lack_of_any_sign_of_rules_is_a_warning() -> None:
    facts = alerting({}, {})

    assert facts.new_alerts == []
    assert [each.problem for each in facts.unproven_rules] == ["no-rules"]


def test_a_rule_that_cannot_be_evaluated_is_a_warning() -> None:
    (warning,) = alerting({}, {"rules": 2, "failing_rules": ("High",)}).unproven_rules

    assert warning.subject == "Alert High"
