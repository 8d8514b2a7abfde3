"""Which cluster and which mesh a proxy belongs to, as istiod and the injectors show it."""

from collections import Counter
from collections.abc import Collection, Iterable

from meshgate.semantics.webhooks import Hook, Webhooks
from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.istiod import IstiodReading, ProxySync
from meshgate.snapshot.kubernetes import Namespace, Pod


def local_cluster(readings: Iterable[IstiodReading], proxies: Collection[str]) -> str:
    """Return the cluster id that istiod uses for this cluster; empty if it cannot be told.

    Args:
        readings: what the replicas of istiod report.
        proxies: the proxies of this cluster's pods, as `pod.namespace`.

    Returns:
        The id that most of these proxies are connected with.  A pod of another cluster may have
        the name of one here, so that one match proves nothing.
    """
    connected = {
        (proxy.proxy, proxy.cluster_id) for reading in readings for proxy in reading.proxies
    }
    matches = Counter(cluster for name, cluster in connected if name in proxies).most_common(2)
    if not matches or (len(matches) > 1 and matches[0][1] == matches[1][1]):
        return ""
    return matches[0][0]


def is_local(proxy: ProxySync, cluster: str) -> bool:
    """Return whether a proxy is one of this cluster; an unknown id is taken for ours."""
    return not cluster or not proxy.cluster_id or proxy.cluster_id == cluster


def in_another_mesh(
    pod: Pod, namespace: Namespace | None, webhooks: Webhooks, istio_namespace: str
) -> bool:
    """Return whether an injector of another mesh in this cluster is responsible for a pod.

    Args:
        pod: the pod.
        namespace: its namespace, if that is known.
        webhooks: the injectors of all meshes in the cluster.
        istio_namespace: the namespace of our own istiod.

    Returns:
        True only if injectors decide it: those of the revision that injected the pod, or, where
        two meshes use the same revision, those that select the pod now.
    """
    revision = injected_revision(pod)
    ours, others = _split(
        [hook for hook in webhooks.injectors if not revision or hook.revision == revision],
        istio_namespace,
    )
    if revision and bool(ours) != bool(others):
        return bool(others)
    if namespace is None:
        return False
    ours, others = _split(webhooks.selecting(namespace, pod.metadata.labels), istio_namespace)
    return bool(others) and not ours


def _split(hooks: Iterable[Hook], istio_namespace: str) -> tuple[list[Hook], list[Hook]]:
    """Return the hooks that our istiod serves, and those that another one serves."""
    served = [hook for hook in hooks if hook.service]
    ours = [hook for hook in served if hook.service and hook.service.namespace == istio_namespace]
    return ours, [hook for hook in served if hook not in ours]
