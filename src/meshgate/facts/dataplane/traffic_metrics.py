"""Errors, durations and alerts, compared with those before the upgrade."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.semantics.proportions import rise
from meshgate.settings import flag
from meshgate.snapshot.traffic_metrics import PROMETHEUS, Alert, Window, WorkloadTraffic
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

NAMED = 3  # workloads that could not be read
# milliseconds: a shorter difference is that of the histogram's buckets
NOTICEABLE = 10.0


class _Compared(NamedTuple):
    before: WorkloadTraffic
    now: WorkloadTraffic


class Traffic:
    """The workloads that received enough requests in both windows, and the alerts."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._limits = evidence.expectations.traffic

    @cached_property
    def _windows(self) -> tuple[Window, Window]:
        """The windows before the upgrade and now.

        Raises NotApplicable if none was requested or there is no baseline, and CouldNotVerify if
        they cannot be compared.
        """
        if not self._limits.requested:
            raise NotApplicable(
                f"neither {flag('traffic.prometheus')} nor {flag('traffic.proxies')} is set"
            )
        metrics = self._evidence.traffic_metrics
        if metrics.skipped_reason:
            raise NotApplicable(metrics.skipped_reason)
        baseline = self._evidence.expectations.before
        if metrics.before is None and baseline is None:
            raise NotApplicable(
                f"only a baseline shows when the upgrade began ({flag('run.baseline')})"
            )
        before = metrics.before or (baseline.traffic if baseline else None)
        now = metrics.now
        if before is None or now is None or before.source != now.source:
            raise CouldNotVerify(
                "the baseline has no window of the same source",
                f"use {flag('traffic.prometheus')}, or save the baseline with "
                f"{flag('traffic.proxies')}",
            )
        if before.seconds != now.seconds:
            raise CouldNotVerify(
                f"the window of the baseline has {before.seconds:.0f} s, and this one "
                f"{now.seconds:.0f} s",
                f"verify again with {_length_option(now)}={before.seconds:.0f}",
            )
        if (now.end - before.end).total_seconds() < now.seconds:
            raise CouldNotVerify(
                f"the two windows overlap: the baseline is younger than {now.seconds:.0f} s",
                f"verify again later, or pass a shorter {_length_option(now)}",
            )
        return before, now

    @cached_property
    def compared(self) -> tuple[_Compared, ...]:
        """The workloads with enough requests in both windows.

        Raises CouldNotVerify if no workload had enough requests before the upgrade.
        """
        before, now = self._windows
        least = self._limits.requests
        after = {each.workload: each for each in now.workloads}
        busy = [each for each in before.workloads if each.requests >= least]
        if not busy:
            self._need_read(before, "before the upgrade", {each.workload for each in before.unread})
            raise CouldNotVerify(
                f"no workload received {least} requests within {before.seconds:.0f} s before "
                "the upgrade",
                f"pass a longer {_length_option(now)}, or a smaller {flag('traffic.requests')}",
            )
        found = []
        for each in busy:
            other = after.get(each.workload)
            if other is not None and other.requests >= least:
                found.append(_Compared(each, other))
        return tuple(found)

    @cached_property
    def _silent(self) -> str:
        """A workload with enough requests before the upgrade and too few now, in words."""
        before, now = self._windows
        after = {each.workload: each.requests for each in now.workloads}
        return next(
            (
                f"{each.workload} received {each.requests:.0f} requests before the upgrade and "
                f"{after.get(each.workload, 0):.0f} now, fewer than {self._limits.requests}"
                for each in before.workloads
                if each.requests >= self._limits.requests > after.get(each.workload, 0)
            ),
            "",
        )

    @property
    def worse(self) -> list[Finding]:
        """Workloads that answer more errors, or more slowly, than before the upgrade.

        Raises CouldNotVerify if none does, and one of them cannot be judged.
        """
        found = [finding for each in self.compared for finding in self._worse(each)]
        if not found:
            before, now = self._windows
            busy = {e.workload for e in before.workloads if e.requests >= self._limits.requests}
            self._need_read(now, "now", busy)
            if self._silent:
                raise CouldNotVerify(self._silent, "wait for traffic, and verify again")
            for each in self.compared:
                self._need_durations(each)
                self._need_confidence(each)
        return found

    @property
    def not_compared(self) -> list[Finding]:
        """Workloads that cannot be compared, because they were not read before the upgrade.

        Nothing can read them again: they are warnings, unless no other workload was compared.
        """
        before, now = self._windows
        least = self._limits.requests
        busy = {each.workload for each in before.workloads if each.requests >= least}
        relevant = {each.workload for each in now.workloads if each.requests >= least}
        relevant |= {each.workload for each in now.unread}
        return [
            Finding(
                f"Workload {each.workload}",
                f"is not compared: its {_what(before)} could not be read before the upgrade "
                f"({each.why})",
                remedy="Look at the workload's access log (response_flags) before and after.",
                problem="not-compared",
            )
            for each in before.unread
            if each.workload in relevant - busy
        ]

    @staticmethod
    def _need_read(window: Window, when: str, names: set[str]) -> None:
        """Raise CouldNotVerify if one of these workloads could not be read."""
        unread = [each for each in window.unread if each.workload in names]
        if unread:
            named = [f"{each.workload} ({each.why})" for each in unread[:NAMED]]
            more = len(unread) - len(named)
            others = f" and {more} more workloads" if more else ""
            raise CouldNotVerify(
                f"the {_what(window)} of {', '.join(named)}{others} could not be read {when}",
                unread[0].remedy,
                transient=when == "now" and all(each.transient for each in unread),
            )

    @staticmethod
    def _need_durations(each: _Compared) -> None:
        """Raise CouldNotVerify if a quantile was recorded before the upgrade and is not now."""
        for name in ("p95", "p99"):
            before, now = getattr(each.before, name), getattr(each.now, name)
            if before is not None and now is None:
                raise CouldNotVerify(
                    f"the {name} of {each.now.workload} was {before:.0f} ms before the upgrade and "
                    "is not recorded now",
                    "check that istio_request_duration_milliseconds is still recorded (Telemetries)"
                    ", or save a new baseline",
                )

    def _rise(self, each: _Compared) -> tuple[float, float, float]:
        return rise(
            (each.before.errors, each.before.requests),
            (each.now.errors, each.now.requests),
            self._limits.confidence,
        )

    def _need_confidence(self, each: _Compared) -> None:
        """Raise CouldNotVerify if the error rate may have risen by more than is tolerated."""
        value, _, high = self._rise(each)
        if high > self._limits.errors:
            raise CouldNotVerify(
                f"the error rate of {each.now.workload} rose by {value:.2%}, and with a confidence "
                f"of {self._limits.confidence:.0%} by at most {high:.2%}, which is more than "
                f"{self._limits.errors:.2%}",
                f"wait for more traffic, or pass a longer {_length_option(self._windows[1])}",
            )

    def _worse(self, each: _Compared) -> Iterator[Finding]:
        value, low, _ = self._rise(each)
        if value > self._limits.errors and low > 0:
            yield Finding(
                f"Workload {each.now.workload}",
                f"answers {each.now.errors / each.now.requests:.2%} of {each.now.requests:.0f} "
                f"requests with errors, and {each.before.errors / each.before.requests:.2%} of "
                f"{each.before.requests:.0f} before the upgrade",
                f"at most {self._limits.errors:.2%} more than before",
                "look at the workload's access log (response_flags)",
                problem="more-errors",
            )
        for name, before, now in (
            ("p95", each.before.p95, each.now.p95),
            ("p99", each.before.p99, each.now.p99),
        ):
            if before is None or now is None or now - before < NOTICEABLE:
                continue
            if now > before * (1 + self._limits.slower):
                yield Finding(
                    f"Workload {each.now.workload}",
                    f"its {name} is {now:.0f} ms, and {before:.0f} ms before the upgrade",
                    f"at most {self._limits.slower:.0%} longer than before",
                    "compare the CPU of its sidecars with their limits",
                    problem="slower",
                    about=(("quantile", name),),
                )

    # --- alerts ---------------------------------------------------------------------------------

    @property
    def _prometheus(self) -> tuple[Window, Window]:
        """The windows; raise NotApplicable if they are not from Prometheus."""
        before, now = self._windows
        if now.source != PROMETHEUS:
            raise NotApplicable(f"proxies have no alerts ({flag('traffic.prometheus')} reads them)")
        return before, now

    @property
    def observed(self) -> tuple[int, int]:
        """How many alerts fired, and how many workloads had metrics, in either window."""
        before, now = self._prometheus
        alerts = len(now.alerts) + sum(each not in now.alerts for each in before.alerts)
        return alerts, len({each.workload for each in (*before.workloads, *now.workloads)})

    @property
    def new_alerts(self) -> list[Finding]:
        """Alerts that fire now and did not fire before the upgrade, or for fewer pods.

        Raises CouldNotVerify or NotApplicable if there is none, and no rules are evaluated.
        """
        found = [
            _finding(
                each,
                f"fires for {each.count} series, and for {count} before the upgrade"
                if (count := self._count_before(each))
                else "fires, and did not fire before the upgrade",
                "new-alert",
                # the alert of a pod that was replaced resolves after some time
                transient=count > 0,
            )
            for each in self._prometheus[1].alerts
            if each.count > self._count_before(each)
        ]
        if not found:
            self._need_rules()
        return found

    @property
    def old_alerts(self) -> list[Finding]:
        """Alerts that fire now and fired before the upgrade too."""
        return [
            _finding(each, "fires, and fired before the upgrade too", "old-alert")
            for each in self._prometheus[1].alerts
            if each.count <= self._count_before(each)
        ]

    def _count_before(self, alert: Alert) -> int:
        before = self._prometheus[0].alerts
        same = (e for e in before if (e.name, e.labels) == (alert.name, alert.labels))
        return sum(each.count for each in same)

    def _need_rules(self) -> None:
        """Raise CouldNotVerify or NotApplicable if no alert can fire."""
        before, now = self._prometheus
        lost = set(before.heartbeats) - set(now.heartbeats)
        if lost:
            raise CouldNotVerify(
                f"the alert {min(lost)} always fires, fired before the upgrade and does not now",
                "check that Prometheus evaluates its rules (page Rule health)",
                transient=True,
            )
        if now.rules != 0 or now.alerts or now.heartbeats:
            return
        baseline = self._evidence.expectations.before
        if baseline and baseline.traffic and baseline.traffic.rules:
            raise CouldNotVerify(
                f"Prometheus has no alerting rules, and {baseline.traffic.rules} before the "
                "upgrade",
                "check its configuration (rule_files, or the PrometheusRules)",
                transient=True,
            )
        if not before.alerts:
            raise NotApplicable("Prometheus has no alerting rules, and no alert fired")

    @property
    def unproven_rules(self) -> list[Finding]:
        """Rules that fail, and the lack of any sign that rules are evaluated."""
        now = self._prometheus[1]
        found = [
            Finding(
                f"Alert {each}",
                "cannot fire: Prometheus cannot evaluate its rule",
                remedy="Look at the page of the rules in Prometheus.",
                problem="rule-fails",
            )
            for each in now.failing_rules
        ]
        if not now.rules and not now.alerts and not now.heartbeats:
            found.append(
                Finding(
                    "Prometheus",
                    "no alert fires now, and nothing shows that it evaluates alerting rules",
                    remedy="Add an alert that always fires, such as Watchdog.",
                    problem="no-rules",
                )
            )
        return found


def _what(window: Window) -> str:
    return "metrics" if window.source == PROMETHEUS else "proxies"


def _length_option(window: Window) -> str:
    return flag("traffic.window") if window.source == PROMETHEUS else flag("traffic.proxies")


def _finding(alert: Alert, seen: str, problem: str, *, transient: bool = False) -> Finding:
    about = ", ".join(
        f"{label} {alert.labels[label]}"
        for label in ("namespace", "pod", "container", "instance")
        if alert.labels.get(label)
    )
    return Finding(
        f"Alert {alert.name}",
        seen + (f" ({about})" if about else ""),
        transient=transient,
        remedy="Follow the runbook of the alert.",
        problem=problem,
        about=tuple(sorted(alert.labels.items())),
    )
