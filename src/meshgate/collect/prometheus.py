"""Istio's standard metrics and alerts, from Prometheus.

Only instant queries are sent; labels that name a pod or an instance are not kept.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import httpx
import msgspec

from meshgate.collect.errors import ReadError
from meshgate.deadline import Deadline, bounded
from meshgate.semantics.traffic_counters import (
    DURATIONS,
    ERROR_CODES,
    GATEWAY,
    GRPC_ERRORS,
    REQUESTS,
    SIDECAR,
)
from meshgate.settings import flag
from meshgate.snapshot.base import Base
from meshgate.snapshot.traffic_metrics import Alert, TrafficMetrics, Window, WorkloadTraffic

LARGEST = 64 * 1024 * 1024  # bytes of one answer
# an alert that always fires, so that its absence is noticed
ALWAYS_FIRING = ("Watchdog", "InfoInhibitor")
# labels of an alert that a restart changes
CHANGING = frozenset({"__name__", "alertstate", "alertname", "instance", "pod", "container", "uid"})

FIRING = 'ALERTS{alertstate="firing"}'


class _Series(Base, frozen=True):
    metric: dict[str, str] = msgspec.field(default_factory=dict)
    value: tuple[float, str] = (0.0, "NaN")


class _Data(Base, frozen=True):
    result_type: str = ""
    result: tuple[_Series, ...] = ()


class _Answer(Base, frozen=True):
    status: str = ""
    error: str = ""
    data: _Data = _Data()


_ANSWER = msgspec.json.Decoder(_Answer)


class _Queries:
    """The queries about what proxies of one side count.

    Args:
        side: SIDECAR or GATEWAY, which is the reporter and the beginning of the workload's labels.
        seconds: the length of the window.
        names: the names of workloads, if only some are to be read.
    """

    def __init__(self, side: str, seconds: float, names: Iterable[str] = ()) -> None:
        self.side = side
        self._by = f"{side}_workload_namespace, {side}_workload"
        # one backslash before a dot: two within a string of PromQL
        only = "|".join(each.replace(".", "\\\\.") for each in names)
        self._matchers = f'reporter="{side}"' + (f', {side}_workload=~"{only}"' if only else "")
        self._seconds = round(seconds)

    @property
    def requests(self) -> str:
        return f"sum by ({self._by}) ({self._increase(REQUESTS)})"

    @property
    def errors(self) -> str:
        # no series has the labels of both parts
        http = self._increase(REQUESTS, f'response_code=~"{ERROR_CODES}"')
        grpc = self._increase(
            REQUESTS, f'response_code!~"{ERROR_CODES}", grpc_response_status=~"{GRPC_ERRORS}"'
        )
        return f"sum by ({self._by}) ({http} or {grpc})"

    def quantile(self, share: str) -> str:
        """Return the query of a quantile of the durations in milliseconds."""
        by = f"sum by (le, {self._by}) ({self._increase(DURATIONS)})"
        return f"histogram_quantile({share}, {by})"

    def _increase(self, metric: str, more: str = "") -> str:
        matchers = self._matchers + (f", {more}" if more else "")
        return f"increase({metric}{{{matchers}}}[{self._seconds}s])"


class Prometheus:
    """A server that answers instant queries.

    Args:
        url: its base URL.
        timeout: seconds for one query.
        deadline: when the run ends.
    """

    def __init__(self, url: str, timeout: float, deadline: Deadline) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._deadline = deadline

    def read(
        self, window: float, before: datetime | None, gateways: frozenset[str]
    ) -> TrafficMetrics:
        """Return the window that ends now, and the one that ended at `before`.

        Args:
            window: the length of both in seconds.
            before: when the first one ended; None to read only the second one.
            gateways: the workloads that are gateways, as `namespace/name`.

        Raises:
            ReadError: if Prometheus does not answer.

        Returns:
            Both windows.
        """
        return TrafficMetrics(
            before=self._window(before, window, gateways) if before else None,
            now=self._window(datetime.now(UTC), window, gateways),
        )

    def _window(self, end: datetime, seconds: float, gateways: frozenset[str]) -> Window:
        sides = {SIDECAR: _Queries(SIDECAR, seconds)}
        if gateways:
            names = sorted({each.partition("/")[2] for each in gateways})
            sides[GATEWAY] = _Queries(GATEWAY, seconds, names)
        workloads = [
            each
            for side, queries in sides.items()
            for each in self._workloads(queries, end)
            if (each.workload in gateways) == (side == GATEWAY)
        ]
        alerts = {_alert(each) for each in self._query(FIRING, end)}
        return Window(
            end=end,
            seconds=seconds,
            workloads=tuple(sorted(workloads, key=lambda each: each.workload)),
            alerts=tuple(sorted(_unique(alerts), key=lambda each: (each.name, str(each.labels)))),
        )

    def _workloads(self, queries: "_Queries", end: datetime) -> Iterator[WorkloadTraffic]:
        failed, p95, p99 = (
            self._by_workload(each, queries.side, end)
            for each in (queries.errors, queries.quantile("0.95"), queries.quantile("0.99"))
        )
        for name, count in self._by_workload(queries.requests, queries.side, end).items():
            yield WorkloadTraffic(
                workload=name,
                requests=count,
                errors=failed.get(name, 0.0),
                p95=p95.get(name),
                p99=p99.get(name),
            )

    def _by_workload(self, query: str, side: str, at: datetime) -> dict[str, float]:
        found = {}
        for each in self._query(query, at):
            namespace = each.metric.get(f"{side}_workload_namespace", "unknown")
            name = each.metric.get(f"{side}_workload", "unknown")
            value = float(each.value[1])
            if "unknown" not in (namespace, name) and math.isfinite(value):
                found[f"{namespace}/{name}"] = value
        return found

    def _query(self, query: str, at: datetime) -> tuple[_Series, ...]:
        limit = min(self._timeout, self._deadline.left)

        def ask() -> bytes:
            body = bytearray()
            with (
                httpx.Client(timeout=limit, trust_env=False) as client,
                client.stream(
                    "POST",
                    f"{self._url}/api/v1/query",
                    data={"query": query, "time": f"{at.timestamp():.3f}"},
                ) as response,
            ):
                for part in response.iter_bytes():
                    body += part
                    if len(body) > LARGEST:
                        raise ValueError("its answer is too large")
            return bytes(body)

        try:
            answer = _ANSWER.decode(bounded(ask, limit, "query Prometheus"))
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise self._failed(str(error) or type(error).__name__, transient=True) from error
        if answer.status != "success" or answer.data.result_type != "vector":
            raise self._failed(answer.error or "its answer is not one of Prometheus")
        return answer.data.result

    def _failed(self, why: str, *, transient: bool = False) -> ReadError:
        return ReadError(
            f"cannot query Prometheus {self._url}: {why}",
            f"check {flag('traffic.prometheus')}, and that the verifier may connect to it",
            transient=transient,
        )


def _alert(series: _Series) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = {name: each for name, each in series.metric.items() if name not in CHANGING}
    return series.metric.get("alertname", ""), tuple(sorted(labels.items()))


def _unique(alerts: Iterable[tuple[str, tuple[tuple[str, str], ...]]]) -> Iterable[Alert]:
    return (
        Alert(name=name, labels=dict(labels))
        for name, labels in alerts
        if name and name not in ALWAYS_FIRING
    )
