"""Ambient mode: what istiod sends to ztunnels, and how many pods each ztunnel serves.

Neither is read where nothing is in ambient mode.
"""

from prometheus_client.parser import text_string_to_metric_families

from meshgate.collect import istiod, pod_metrics
from meshgate.collect.errors import ReadError
from meshgate.collect.readers import Context, replicas
from meshgate.deadline import concurrently
from meshgate.semantics import workloads
from meshgate.semantics.node_agents import ZTUNNEL, kind_of
from meshgate.snapshot.ambient import INDEX, AmbientReading, ZtunnelReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod

INDEX_PATH = "/debug/ambientz"
METRICS_PORT = 15020
TIMEOUT = 5.0  # seconds for the metrics of one ztunnel

BUILD, ACTIVE, PENDING = (
    "istio_build",
    "workload_manager_active_proxy_count",
    "workload_manager_pending_proxy_count",
)


def read_index(context: Context, found: Items) -> tuple[AmbientReading, ...]:
    """Return what each replica of istiod sends to ztunnels."""
    if not workloads.uses_ambient(found.namespaces, found.pods):
        return ()
    return istiod.ask_each(replicas(context, found), context.transport, AmbientReading, _index)


def _index(pod: Pod, session: istiod.Session) -> AmbientReading:
    answer = session.get(INDEX_PATH)
    if answer.status != 200:
        raise istiod.refusal(INDEX_PATH, answer)
    try:
        index = INDEX.decode(answer.body)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"cannot decode {INDEX_PATH}: {error}",
            "is this istiod of a version that meshgate knows?",
        ) from error
    return AmbientReading(
        pod=pod.metadata.name,
        # others than pods are not compared with anything
        workloads=tuple(each for each in index.workloads or () if "/Pod/" in each.uid),
        services=index.services or (),
    )


def read_ztunnels(context: Context, found: Items) -> tuple[ZtunnelReading, ...]:
    """Return what each running ztunnel counts."""
    if not workloads.uses_ambient(found.namespaces, found.pods):
        return ()
    ztunnels = [
        pod
        for pod in found.pods
        if kind_of(pod.metadata.labels) == ZTUNNEL
        and workloads.is_active(pod)
        and pod.status.phase == "Running"
    ]
    return tuple(concurrently(lambda pod: _counts(context, pod), ztunnels, workers=8))


def _counts(context: Context, pod: Pod) -> ZtunnelReading:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    try:
        text = pod_metrics.read(context.transport, pod, METRICS_PORT, "/metrics", TIMEOUT)
    except ReadError as error:
        return ZtunnelReading(pod=name, error=error.why)
    # only these lines need to be parsed
    lines = [line for line in text.splitlines() if line.startswith((BUILD, ACTIVE, PENDING))]
    version, counts = "", dict[str, int]()
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name == BUILD:
                    version = sample.labels.get("tag", "")
                elif sample.name in (ACTIVE, PENDING):
                    counts[sample.name] = int(sample.value)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        return ZtunnelReading(pod=name, error=f"cannot decode its metrics: {error}")
    return ZtunnelReading(
        pod=name, version=version, active=counts.get(ACTIVE), pending=counts.get(PENDING, 0)
    )
