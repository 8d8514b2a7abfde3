"""The requests that proxies count, without Prometheus: two readings of their own counters.

Their labels name callers and paths of the mesh: only sums for each workload are kept.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from meshgate.collect import pod_metrics
from meshgate.collect.errors import OUT_OF_TIME, ReadError
from meshgate.collect.istiod import Transport
from meshgate.collect.kubernetes import Cluster
from meshgate.deadline import Deadline, concurrently
from meshgate.semantics import workloads
from meshgate.semantics.traffic_counters import (
    GATEWAY,
    KEEP_CODE,
    NO_CODE,
    SIDECAR,
    Counters,
    counters,
    quantile,
)
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.traffic_metrics import PROXIES, Unread, Window, WorkloadTraffic

# Envoy's own port, which sidecars do not protect with mTLS; the filter (a regular expression)
# leaves out other statistics
PORT, METRICS = 15090, "/stats/prometheus?usedonly&filter=istio_request%7C%5Eserver%5C.uptime%24"
PODS = 3  # of each workload
ROUND = 120.0  # seconds for one reading of all pods
WORKERS = 8


def read(
    transport: Transport,
    pods: Iterable[Pod],
    window: float,
    timeout: float,
    deadline: Deadline,
    *,
    has_ended: Callable[[Pod], bool],
) -> Window:
    """Return the requests that workloads answered within a window that begins now.

    Args:
        transport: the way to pods.
        pods: the pods of the mesh.
        window: seconds between the two readings.
        timeout: seconds for the counters of one pod.
        deadline: when the run ends.
        has_ended: whether a pod that was read before has been deleted or is being deleted.

    Raises:
        ReadError: if the window ends after the run.

    Returns:
        The window; a workload with a pod that cannot be read is among the unread ones, with what
        its other pods counted.  A pod that ended in the window is omitted if others were read.
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
    missing: list[tuple[Pod, ReadError]] = []
    for pod in chosen:
        answer = first[_key(pod)]
        if isinstance(answer, Counters):
            answer = _since(answer, second[_key(pod)])
        if isinstance(answer, Counters):
            counted[_workload(pod)] += answer
        else:
            missing.append((pod, answer))
    for pod, error in missing:
        name = _workload(pod)
        ends = isinstance(first[_key(pod)], Counters) and name in counted
        if name not in unread and not (ends and has_ended(pod)):
            unread[name] = _unread(name, pod, error)
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
            if each.requests
        ),
        unread=tuple(unread[name] for name in sorted(unread)),
    )


def has_ended(cluster: Cluster, pod: Pod) -> bool:
    """Return whether a pod does not exist any more or is being deleted; False if not known."""
    metadata = pod.metadata
    only = f"metadata.namespace={metadata.namespace},metadata.name={metadata.name}"
    try:
        found = cluster.objects(msgspec.structs.replace(KINDS["pods"], only=only))
    except ReadError:
        return False
    return not any(
        (each.metadata.namespace, each.metadata.name, each.metadata.uid)
        == (metadata.namespace, metadata.name, metadata.uid)
        and workloads.is_active(each)
        for each in found
    )


def gateways(pods: Iterable[Pod]) -> frozenset[str]:
    """Return the gateways among workloads, as `namespace/name`."""
    return frozenset(_workload(pod) for pod in pods if _is_gateway(pod))


def _unread(name: str, pod: Pod, error: ReadError) -> Unread:
    return Unread(
        workload=name,
        why=f"pod {pod.metadata.name}: {error.why}",
        remedy=error.remedy,
        transient=error.transient,
    )


def _chosen(pods: Iterable[Pod]) -> list[Pod]:
    """Return a few running pods of each workload with sidecars and of each gateway.

    A Job's pods send requests and end: there is nothing to compare.
    """
    by_workload: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in sorted(pods, key=lambda each: each.metadata.name):
        if (
            pod.status.phase == "Running"
            and workloads.is_active(pod)
            and not workloads.workload(pod).startswith(("Job ", "CronJob "))
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
            known = str(error) == NO_CODE
            return ReadError(
                str(error), KEEP_CODE if known else "report this with `meshgate --version`"
            )

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
