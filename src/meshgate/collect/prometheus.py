"""Istio's standard metrics and alerts, from Prometheus.

Only instant queries are sent, and one for the alerting rules.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

import httpx
import msgspec

from meshgate.collect.errors import ReadError
from meshgate.deadline import Deadline, bounded
from meshgate.semantics.alerts import HEARTBEATS, INHIBITORS, AlertLabels
from meshgate.semantics.traffic_counters import (
    DURATIONS,
    ERROR_CODES,
    GATEWAY,
    GRPC_ERRORS,
    KEEP_CODE,
    NO_CODE,
    REQUESTS,
    SIDECAR,
)
from meshgate.settings import flag
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.traffic_metrics import (
    Alert,
    TrafficMetrics,
    Unread,
    Window,
    WorkloadTraffic,
)

NAMED = 3  # clusters in a message
LARGEST = 64 * 1024 * 1024  # bytes of one answer
# What a series of an unknown cluster has as the label of its cluster's ID.
NO_CLUSTER = frozenset({"", "unknown"})
# The beginning of remarks about a query, not about its data.
REMARK = "PromQL info"


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
    warnings: tuple[str, ...] | None = None
    infos: tuple[str, ...] | None = None
    is_partial: bool = False  # VictoriaMetrics

    @property
    def partial(self) -> str:
        """Why data may be missing in the answer; empty for a complete one."""
        remarks = (each for each in self.infos or () if not each.startswith(REMARK))
        return "; ".join([*(self.warnings or ()), *remarks]) or "isPartial" * self.is_partial


class _Rule(Base, frozen=True):
    name: str = ""
    health: str = ""


class _Group(Base, frozen=True):
    rules: tuple[_Rule, ...] = ()


class _Groups(Base, frozen=True):
    groups: tuple[_Group, ...] = ()


class _Rules(Base, frozen=True):
    data: _Groups


_ANSWER = msgspec.json.Decoder(_Answer)


class _Queries:
    """The queries about what proxies of one side count.

    Args:
        side: SIDECAR or GATEWAY, which is the reporter and the beginning of the workload's labels.
        seconds: the length of the window.
        matchers: of labels that all series must have.
        names: the names of workloads, if only some are to be read.
    """

    def __init__(
        self, side: str, seconds: float, matchers: Iterable[str] = (), names: Iterable[str] = ()
    ) -> None:
        self.side = side
        self._by = f"cluster, {side}_cluster, {side}_workload_namespace, {side}_workload"
        # one backslash before a dot: two within a string of PromQL
        only = "|".join(each.replace(".", "\\\\.") for each in names)
        named = [f'{side}_workload=~"{only}"'] if only else []
        self._matchers = ", ".join([f'reporter="{side}"', *named, *matchers])
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

    @property
    def uncoded(self) -> str:
        """The query of requests of which no series shows whether they are errors."""
        increase = self._increase(REQUESTS, 'response_code=""')
        return f"sum by ({self._by}) ({increase})"

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
        labels: `NAME=VALUE` that all series and alerts must have.
        cluster_id: istiod's ID of its cluster; empty if it is not known.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        deadline: Deadline,
        *,
        labels: Iterable[str] = (),
        cluster_id: str = "",
    ) -> None:
        self._matchers = [_matcher(each) for each in labels]
        self._cluster_id = cluster_id
        # values of the label `cluster` that only series of other clusters have
        self._other_clusters: set[str] = set()
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._deadline = deadline

    def read(
        self,
        window: float,
        before: datetime | None,
        gateways: frozenset[str],
        pods: Iterable[Pod] = (),
    ) -> TrafficMetrics:
        """Return the window that ends now, and the one that ended at `before`.

        Args:
            window: the length of both in seconds.
            before: when the first one ended; None to read only the second one.
            gateways: the workloads that are gateways, as `namespace/name`.
            pods: the cluster's pods, which alerts name.

        Raises:
            ReadError: if Prometheus does not answer.

        Returns:
            Both windows.
        """
        labels = AlertLabels(pods)
        now = self._window(datetime.now(UTC), window, gateways, labels)
        rules, failing = self._rules()
        return TrafficMetrics(
            before=self._window(before, window, gateways, labels) if before else None,
            now=msgspec.structs.replace(now, rules=rules, failing_rules=failing),
        )

    def _window(
        self, end: datetime, seconds: float, gateways: frozenset[str], labels: AlertLabels
    ) -> Window:
        self._other_clusters.clear()
        sides = {SIDECAR: _Queries(SIDECAR, seconds, self._matchers)}
        if gateways:
            names = sorted({each.partition("/")[2] for each in gateways})
            sides[GATEWAY] = _Queries(GATEWAY, seconds, self._matchers, names)
        found = [
            each
            for side, queries in sides.items()
            for each in self._workloads(queries, end)
            if (each.workload in gateways) == (side == GATEWAY)
        ]
        workloads = [each for each in found if isinstance(each, WorkloadTraffic)]
        unread = [each for each in found if isinstance(each, Unread)]
        firing = ", ".join(['alertstate="firing"', *self._matchers])
        alerts = [
            each.metric
            for each in self._query(f"ALERTS{{{firing}}}", end)
            if each.metric.get("cluster", "") not in self._other_clusters
        ]
        always = HEARTBEATS & {each.get("alertname", "") for each in alerts}
        return Window(
            end=end,
            seconds=seconds,
            workloads=tuple(sorted(workloads, key=lambda each: each.workload)),
            unread=tuple(sorted(unread, key=lambda each: each.workload)),
            alerts=_grouped(alerts, labels),
            heartbeats=tuple(sorted(always)),
        )

    def _workloads(self, queries: "_Queries", end: datetime) -> Iterator[WorkloadTraffic | Unread]:
        requests, failed, uncoded = (
            self._by_workload(each, queries.side, end, math.fsum)
            for each in (queries.requests, queries.errors, queries.uncoded)
        )
        p95, p99 = (
            self._by_workload(queries.quantile(each), queries.side, end, max)
            for each in ("0.95", "0.99")
        )
        for name, count in requests.items():
            errors = failed.get(name, 0.0)
            if not math.isfinite(count + errors):
                which = f"errors are {errors}" if math.isfinite(count) else f"requests are {count}"
                yield Unread(workload=name, why=f"its {which}", remedy=f"query {REQUESTS}")
            elif uncoded.get(name, 0.0):
                yield Unread(workload=name, why=NO_CODE, remedy=KEEP_CODE)
            else:
                yield WorkloadTraffic(
                    workload=name,
                    requests=count,
                    errors=errors,
                    p95=_finite(p95.get(name)),
                    p99=_finite(p99.get(name)),
                )

    def _by_workload(
        self, query: str, side: str, at: datetime, combine: Callable[[list[float]], float]
    ) -> dict[str, float]:
        """Return the value of each workload of this cluster."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for each in self._own(self._query(query, at), side):
            namespace = each.metric.get(f"{side}_workload_namespace", "unknown")
            name = each.metric.get(f"{side}_workload", "unknown")
            if "unknown" not in (namespace, name):
                found[f"{namespace}/{name}"].append(float(each.value[1]))
        return {name: combine(values) for name, values in found.items()}

    def _own(self, found: Iterable[_Series], side: str) -> list[_Series]:
        """Return the series of this cluster; raise ReadError if that is not known."""
        label, own = f"{side}_cluster", {self._cluster_id} - {""}
        own = own or {each.metric.get(label, "") for each in found} - NO_CLUSTER
        kept = [each for each in found if each.metric.get(label, "") in own | NO_CLUSTER]
        for values, name in (
            (own, label),
            ({each.metric.get("cluster", "") for each in kept}, "cluster"),
        ):
            if len(values) > 1:
                listed = ", ".join(sorted(values)[:NAMED])
                raise ReadError(
                    f"Prometheus {self._url} has the metrics of several clusters ({name}: "
                    f"{listed})",
                    f"name this one, for example with {flag('traffic.labels', 'cluster=NAME')}, "
                    f"or its own Prometheus with {flag('traffic.prometheus')}",
                )
        names = {each.metric.get("cluster", "") for each in found}
        self._other_clusters |= names - {each.metric.get("cluster", "") for each in kept} - {""}
        return kept

    def _rules(self) -> tuple[int | None, tuple[str, ...]]:
        """Return how many alerting rules there are, and which fail; None if that is not known.

        Not every server with this API knows the rules.
        """
        try:
            body = self._ask("GET", "rules", {"type": "alert"})
            groups = msgspec.json.decode(body, type=_Rules).data.groups
        except (ReadError, ValueError):
            return None, ()
        rules = [each for group in groups for each in group.rules]
        return len(rules), tuple(sorted({each.name for each in rules if each.health == "err"}))

    def _query(self, query: str, at: datetime) -> tuple[_Series, ...]:
        body = self._ask("POST", "query", {"query": query, "time": f"{at.timestamp():.3f}"})
        try:
            answer = _ANSWER.decode(body)
        except ValueError as error:
            raise self._failed(str(error), transient=True) from error
        if answer.status != "success" or answer.data.result_type != "vector":
            raise self._failed(answer.error or "its answer is not one of Prometheus")
        if answer.partial:
            raise self._failed(f"its answer is partial: {answer.partial}", transient=True)
        return answer.data.result

    def _ask(self, method: str, path: str, words: dict[str, str]) -> bytes:
        """Return the body of an answer; raise ReadError without one."""
        limit = min(self._timeout, self._deadline.left)
        params, data = (words, None) if method == "GET" else (None, words)

        def ask() -> bytes:
            body = bytearray()
            url = f"{self._url}/api/v1/{path}"
            with (
                httpx.Client(timeout=limit, trust_env=False) as client,
                client.stream(method, url, params=params, data=data) as response,
            ):
                for part in response.iter_bytes():
                    body += part
                    if len(body) > LARGEST:
                        raise ValueError("its answer is too large")
            return bytes(body)

        try:
            return bounded(ask, limit, "query Prometheus")
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise self._failed(str(error) or type(error).__name__, transient=True) from error

    def _failed(self, why: str, *, transient: bool = False) -> ReadError:
        return ReadError(
            f"cannot query Prometheus {self._url}: {why}",
            f"check {flag('traffic.prometheus')}, and that the verifier may connect to it",
            transient=transient,
        )


def _matcher(label: str) -> str:
    name, _, value = label.partition("=")
    return f"{name}={msgspec.json.encode(value).decode()}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _grouped(alerts: Iterable[Mapping[str, str]], labels: AlertLabels) -> tuple[Alert, ...]:
    """Return the alerts, each once, with the number of its series."""
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    for each in alerts:
        name = each.get("alertname", "")
        if name and name not in HEARTBEATS | INHIBITORS:
            counts[name, tuple(sorted(labels.lasting(each).items()))] += 1
    return tuple(
        Alert(name=name, labels=dict(lasting), count=count)
        for (name, lasting), count in sorted(counts.items())
    )
