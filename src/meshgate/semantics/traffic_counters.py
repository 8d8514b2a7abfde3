"""What Istio's standard metrics of one proxy say about the requests that its workload answers."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "istio_requests_total"
DURATIONS = "istio_request_duration_milliseconds_bucket"
# Seconds since Envoy started.
UPTIME = "envoy_server_uptime"

# A sidecar counts the requests that its workload answers, a gateway those that it forwards.
SIDECAR, GATEWAY = "destination", "source"

# Errors of the server: 5xx, no answer, and the states of gRPC that correspond to 5xx.
ERROR_CODES = "5..|0"
GRPC_ERRORS = "2|4|12|13|14|15"
# Without the label, which a Telemetry can remove, no error can be seen.
NO_CODE = f"its requests have no label response_code ({REQUESTS})"
KEEP_CODE = "keep the label response_code of Istio's metrics (tagOverrides of Telemetries)"
_ERROR, _GRPC_ERROR = re.compile(ERROR_CODES), re.compile(GRPC_ERRORS)


class Counters(NamedTuple):
    """What one proxy has counted since it started.

    `buckets`: upper limit in milliseconds to the number of requests that were not slower.
    `outcomes`: the requests of each response_code and grpc_response_status, `200|14`.
    `uptime`: seconds since the proxy started; None if it does not report them.
    """

    requests: float = 0.0
    errors: float = 0.0
    buckets: Mapping[float, float] = {}
    outcomes: Mapping[str, float] = {}
    uptime: float | None = None

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was counted since an earlier reading; raise ValueError after a restart.

        The sums can grow in spite of a restart: each outcome and the uptime are compared, too.
        """
        since = Counters(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            _difference(self.buckets, earlier.buckets),
            _difference(self.outcomes, earlier.outcomes),
            self.uptime,
        )
        uptimes = (earlier.uptime or 0.0, math.inf if self.uptime is None else self.uptime)
        counts = (*since.buckets.values(), *since.outcomes.values())
        if uptimes[1] < uptimes[0] or any(count < 0 for count in counts):
            raise ValueError("its counters decreased between the two readings")
        return since

    def __add__(self, other: object) -> "Counters":
        if not isinstance(other, Counters):
            return NotImplemented
        return Counters(
            self.requests + other.requests,
            self.errors + other.errors,
            _sum(self.buckets, other.buckets),
            _sum(self.outcomes, other.outcomes),
        )


K = TypeVar("K", str, float)


def _difference(later: Mapping[K, float], earlier: Mapping[K, float]) -> Mapping[K, float]:
    keys = later.keys() | earlier.keys()
    return {each: later.get(each, 0.0) - earlier.get(each, 0.0) for each in keys}


def _sum(first: Mapping[K, float], second: Mapping[K, float]) -> Mapping[K, float]:
    keys = first.keys() | second.keys()
    return {each: first.get(each, 0.0) + second.get(each, 0.0) for each in keys}


def counters(metrics: str, reporter: str) -> Counters:
    """Return a proxy's counters from its metrics, in the text format of Prometheus.

    Args:
        metrics: the metrics.
        reporter: SIDECAR or GATEWAY, whose series count.

    Raises:
        ValueError: if they cannot be decoded.

    Returns:
        The sum of the series.
    """
    wanted = f'reporter="{reporter}"'
    # other lines need not be parsed
    lines = [
        line
        for line in metrics.splitlines()
        if line.startswith(UPTIME) or (line.startswith((REQUESTS, DURATIONS)) and wanted in line)
    ]
    errors = 0.0
    uptime: float | None = None
    buckets: defaultdict[float, float] = defaultdict(float)
    outcomes: defaultdict[str, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if not math.isfinite(sample.value):
                    raise ValueError(f"{sample.name} has the value {sample.value}")
                if sample.name == DURATIONS:
                    buckets[float(sample.labels["le"])] += sample.value
                elif sample.name == UPTIME:
                    uptime = sample.value
                elif sample.name == REQUESTS:
                    if not sample.labels.get("response_code"):
                        raise ValueError(NO_CODE)
                    outcomes[_outcome(sample.labels)] += sample.value
                    errors += sample.value if _failed(sample.labels) else 0.0
    except (KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"cannot decode its metrics: {error}") from error
    return Counters(sum(outcomes.values()), errors, dict(buckets), dict(outcomes), uptime)


def _outcome(labels: Mapping[str, str]) -> str:
    return f"{labels['response_code']}|{labels.get('grpc_response_status', '')}"


def _failed(labels: Mapping[str, str]) -> bool:
    return bool(
        _ERROR.fullmatch(labels.get("response_code", ""))
        or _GRPC_ERROR.fullmatch(labels.get("grpc_response_status", ""))
    )


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile of a histogram as Prometheus' histogram_quantile does.

    Args:
        share: 0.95 for the 95th percentile.
        buckets: upper limit to the number of values that are not greater, also for infinity.

    Returns:
        A value interpolated within its bucket, or the greatest finite limit if the value is beyond
        it; None without values.
    """
    limits = sorted(buckets)
    if len(limits) < 2 or limits[-1] != math.inf or buckets[math.inf] <= 0:
        return None
    rank = share * buckets[math.inf]
    position = next(number for number, limit in enumerate(limits) if buckets[limit] >= rank)
    if position == len(limits) - 1:
        return limits[-2]
    start, below = (limits[position - 1], buckets[limits[position - 1]]) if position else (0.0, 0.0)
    end, count = limits[position], buckets[limits[position]] - below
    return start + (end - start) * (rank - below) / count
