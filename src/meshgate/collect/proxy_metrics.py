"""The requests that proxies count, without Prometheus: two readings of their own counters.

Their labels name callers and paths of the mesh: only sums for each workload are kept.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from meshgate.collect import pod_metrics
from meshgate.collect.errors import OUT_OF_TIME, ReadError
from meshgate.collect.istiod import Transport
from meshgate.deadline import Deadline, concurrently
from meshgate.semantics import workloads
from meshgate.semantics.traffic_counters import GATEWAY, SIDECAR, Counters, counters, quantile
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.traffic_metrics import PROXIES, Unread, Window, WorkloadTraffic

# Envoy's own port, which sidecars do not protect with mTLS; the filter leaves out other statistics
PORT, METRICS = 15090, "/stats/prometheus?usedonly&filter=istio_request"
PODS = 3  # of each workload
ROUND = 120.0  # seconds for one reading of all pods
WORKERS = 8


def read(
    transport: Transport, pods: Iterable[Pod], window: float, timeout: float, deadline: Deadline
) -> Window:
    """Return the requests that workloads answered within a window that begins now.

    Args:
        transport: the way to pods.
        pods: the pods of the mesh.
        window: seconds between the two readings.
        timeout: seconds for the counters of one pod.
        deadline: when the run ends.

    Raises:
        ReadError: if the window ends after the run.

    Returns:
        The window; a workload with a pod that cannot be read is among the unread ones.
    """
    if deadline.left <= window:
        raise ReadError(*OUT_OF_TIME)
    begun = time.monotonic()
    chosen = _chosen(pods)
    first = _all(transport, chosen, timeout, deadline)
    time.sleep(max(0.0, min(window - (time.monotonic() - begun), deadline.left)))
    readable = [pod for pod in chosen if isinstance(first[_key(pod)], Counters)]
    second = _all(transport, readable, timeout, deadline)

    counted: defaultdict[str, Counters] = defaultdict(Counters)
    unread: dict[str, Unread] = {}
    for pod in chosen:
        name, answer = _workload(pod), first[_key(pod)]
        if isinstance(answer, Counters):
            answer = _since(answer, second[_key(pod)])
        if isinstance(answer, Counters):
            counted[name] += answer
        else:
            unread.setdefault(
                name,
                Unread(
                    workload=name,
                    why=f"pod {pod.metadata.name}: {answer.why}",
                    remedy=answer.remedy,
                    transient=answer.transient,
                ),
            )
    return Window(
        end=datetime.now(UTC),
        seconds=window,
        source=PROXIES,
        workloads=tuple(
            WorkloadTraffic(
                workload=name,
                requests=each.requests,
                errors=each.errors,
                p95=quantile(0.95, each.buckets),
                p99=quantile(0.99, each.buckets),
            )
            for name, each in sorted(counted.items())
            if name not in unread and each.requests
        ),
        unread=tuple(unread[name] for name in sorted(unread)),
    )


def gateways(pods: Iterable[Pod]) -> frozenset[str]:
    """Return the gateways among workloads, as `namespace/name`."""
    return frozenset(_workload(pod) for pod in pods if _is_gateway(pod))


def _chosen(pods: Iterable[Pod]) -> list[Pod]:
    """Return a few running pods of each workload with sidecars and of each gateway."""
    by_workload: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in sorted(pods, key=lambda each: each.metadata.name):
        if (
            pod.status.phase == "Running"
            and workloads.is_active(pod)
            and (workloads.has_sidecar(pod) or _is_gateway(pod))
        ):
            by_workload[_workload(pod)].append(pod)
    return [pod for name in sorted(by_workload) for pod in by_workload[name][:PODS]]


def _is_gateway(pod: Pod) -> bool:
    return (
        workloads.proxy(pod) is not None
        and workloads.is_gateway(pod)
        and not workloads.is_ambient_proxy(pod)
    )


def _workload(pod: Pod) -> str:
    return workloads.lasting(pod).partition(" ")[2]


def _key(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _all(
    transport: Transport, pods: list[Pod], timeout: float, deadline: Deadline
) -> dict[str, Counters | ReadError]:
    """Return what each pod has counted, by its name, or why that is not known."""
    # many pods that do not answer delay the run no longer than this
    ends = deadline.within(ROUND)

    def counted_by(pod: Pod) -> Counters | ReadError:
        if ends.passed:
            return ReadError(f"port {PORT} was not read in time", "verify again", transient=True)
        try:
            text = pod_metrics.read(transport, pod, PORT, METRICS, min(timeout, ends.left))
            return counters(text, GATEWAY if _is_gateway(pod) else SIDECAR)
        except ReadError as error:
            return error
        except ValueError as error:
            return ReadError(str(error), "report this with `meshgate --version`")

    return dict(zip(map(_key, pods), concurrently(counted_by, pods, WORKERS), strict=True))


def _since(first: Counters, second: Counters | ReadError) -> Counters | ReadError:
    """Return what was counted between two readings, or why that is not known."""
    if isinstance(second, ReadError):
        # it was readable: it ended, as pods do
        return ReadError(second.why, second.remedy, transient=True)
    try:
        return second.since(first)
    except ValueError as error:
        return ReadError(str(error), "verify again", transient=True)
