"""Topology spread constraints: the nodes that they forbid to a pod, as in kube-scheduler."""

from collections import Counter
from collections.abc import Iterable, Sequence

from meshgate.semantics.capacity import chooses, tolerates
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import is_active
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.new_pods import NewPod, Spread
from meshgate.snapshot.upgrade import Node

# What a Deployment adds to the labels of its pods: no pod of the next ReplicaSet exists yet.
_TEMPLATE_HASH = "pod-template-hash"
_HONOR = "Honor"


def too_skewed(
    pod: NewPod, namespace: str, nodes: Sequence[Node], pods: Iterable[Pod]
) -> frozenset[str]:
    """Return the nodes that a pod's spread constraints forbid, for the pods there now.

    Args:
        pod: the new pod.
        namespace: its namespace.
        nodes: all nodes: those that accept no pods are domains too.
        pods: all pods.

    Returns:
        The names of the nodes.
    """
    keys = {each.topology_key for each in pod.spread}
    counted = [each for each in nodes if keys <= each.metadata.labels.keys()]
    own = [e for e in pods if is_active(e) and e.metadata.namespace == namespace]
    found: set[str] = set()
    for constraint in pod.spread:
        key = constraint.topology_key
        matching = Counter(e.spec.node_name for e in own if _counts(constraint, pod, e))
        domains: Counter[str] = Counter()
        for node in counted:
            if _includes(constraint, pod, node):
                domains[node.metadata.labels[key]] += matching[node.metadata.name]
        few = len(domains) < constraint.min_domains
        fewest = 0 if few else min(domains.values(), default=0)
        itself = _selects(constraint, pod.labels)
        found |= {
            node.metadata.name
            for node in nodes
            if (domain := node.metadata.labels.get(key)) is None
            or domains[domain] + itself - fewest > constraint.max_skew
        }
    return frozenset(found)


def _includes(constraint: Spread, pod: NewPod, node: Node) -> bool:
    """Return whether a node counts as part of its domain."""
    return (constraint.node_affinity_policy != _HONOR or chooses(pod, node)) and (
        constraint.node_taints_policy != _HONOR or tolerates(pod, node)
    )


def _counts(constraint: Spread, pod: NewPod, other: Pod) -> bool:
    """Return whether a constraint of the new pod counts another one."""
    labels = other.metadata.labels
    selector = constraint.label_selector
    if selector is None or not (selector.match_labels or selector.match_expressions):
        return False  # the scheduler counts none
    if _TEMPLATE_HASH in constraint.match_label_keys:
        return False
    return selects(selector, labels) and all(
        labels.get(key) == pod.labels[key]
        for key in constraint.match_label_keys
        if key in pod.labels
    )


def _selects(constraint: Spread, labels: dict[str, str]) -> bool:
    return constraint.label_selector is not None and selects(constraint.label_selector, labels)
