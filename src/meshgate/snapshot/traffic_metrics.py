"""The workloads' traffic and the alerts, before the upgrade and now."""

from datetime import datetime

from meshgate.snapshot.base import Base

# Where a window is from: Prometheus, or two readings of the proxies' own counters.
PROMETHEUS, PROXIES = "Prometheus", "proxies"


class TrafficLimits(Base, frozen=True):
    """What the traffic is judged by.

    Attributes:
        requested: whether Prometheus was named, or the proxies' counters were to be read.
        requests: a workload with fewer requests in a window is not judged.
        errors: by how much the share of errors may rise, 0.01 for one percentage point.
        slower: by which share p95 and p99 may rise, 0.5 for half as long again.
        confidence: of the statement that the share of errors did not rise by more.
    """

    requested: bool = False
    requests: int = 1000
    errors: float = 0.01
    slower: float = 0.5
    confidence: float = 0.95


class WorkloadTraffic(Base, frozen=True):
    """The requests that one workload answered within a window; a gateway answers with others'.

    Attributes:
        workload: `namespace/name`.
        requests: how many there were.
        errors: how many of them were answered with 5xx, or not at all.
        p95: the 95th percentile of their duration in milliseconds; None without durations.
        p99: the 99th percentile.
    """

    workload: str
    requests: float
    errors: float = 0.0
    p95: float | None = None
    p99: float | None = None


class Alert(Base, frozen=True):
    """A firing alert.

    Attributes:
        name: its name.
        labels: what it is about, with workloads in place of pods (semantics/alerts.py).
        count: how many of its series have these labels, for example of the pods of a workload.
    """

    name: str
    labels: dict[str, str] = {}
    count: int = 1


class Unread(Base, frozen=True):
    """A workload of which some or all requests are not known, why, and what to do."""

    workload: str
    why: str
    remedy: str = ""
    transient: bool = False


class Window(Base, frozen=True):
    """A period, and what was recorded in it.

    Attributes:
        end: when it ended.
        seconds: its length.
        source: PROMETHEUS or PROXIES.
        workloads: those that received requests.
        unread: those with a proxy that could not be read, or without usable metrics; `workloads`
            contains what their other proxies counted.
        alerts: those that fired at its end; the proxies know of none.
        heartbeats: the names of alerts that always fire and did.
        rules: how many alerting rules Prometheus has; None if it does not list them, or if the
            window ended long ago.
        failing_rules: the names of those that it could not evaluate.
    """

    end: datetime
    seconds: float
    source: str = PROMETHEUS
    workloads: tuple[WorkloadTraffic, ...] = ()
    unread: tuple[Unread, ...] = ()
    alerts: tuple[Alert, ...] = ()
    heartbeats: tuple[str, ...] = ()
    rules: int | None = None
    failing_rules: tuple[str, ...] = ()


class TrafficMetrics(Base, frozen=True):
    """Two windows of equal length.

    Attributes:
        skipped_reason: why nothing was read.
        before: from Prometheus, and ends when the baseline was captured; None without a baseline.
        now: ends with this capture.
    """

    skipped_reason: str = ""
    before: Window | None = None
    now: Window | None = None
