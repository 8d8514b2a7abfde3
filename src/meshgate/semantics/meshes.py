"""Which mesh and which cluster an object belongs to, where there are several."""

from collections import Counter
from collections.abc import Iterable, Mapping

from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.kubernetes import Pod

DEFAULT = "default"


def revision(labels: Mapping[str, str]) -> str:
    """Return the revision of an istiod's Deployment, pod or webhook."""
    return labels.get("istio.io/rev", DEFAULT)


def foreign_revisions(pods: Iterable[Pod], istio_namespace: str) -> frozenset[str]:
    """Return the revisions that only an istiod in another namespace serves: another mesh's.

    Control planes that share a cluster must have different revisions, because the webhooks that
    inject for them are cluster-wide.
    """
    ours: set[str] = set()
    others: set[str] = set()
    for pod in pods:
        labels = pod.metadata.labels
        if labels.get("app") == "istiod" and pod.metadata.deletion_timestamp is None:
            found = ours if pod.metadata.namespace == istio_namespace else others
            found.add(revision(labels))
    return frozenset(others - ours)


def is_foreign(pod: Pod, foreign: frozenset[str]) -> bool:
    """Whether a pod's proxy was injected by another mesh's istiod."""
    return injected_revision(pod) in foreign


def local_clusters(readings: Iterable[IstiodReading], pods: Mapping[str, Pod]) -> frozenset[str]:
    """Return the IDs that this cluster can have, from the proxies that run in it.

    Args:
        readings: what istiod's replicas reported; they know the proxies of all clusters.
        pods: this cluster's pods with a proxy, by `pod.namespace`.

    Returns:
        One ID where the proxies agree.  A StatefulSet has pods of the same names in every cluster,
        so the names of Deployments, which are random, decide before those.
    """
    unique: Counter[str] = Counter()
    all_names: Counter[str] = Counter()
    for reading in readings:
        for proxy in reading.proxies:
            if (pod := pods.get(proxy.proxy)) is not None:
                all_names[proxy.cluster_id] += 1
                if "pod-template-hash" in pod.metadata.labels:
                    unique[proxy.cluster_id] += 1
    counts = unique or all_names
    most = max(counts.values(), default=0)
    return frozenset(cluster for cluster, count in counts.items() if count == most)
