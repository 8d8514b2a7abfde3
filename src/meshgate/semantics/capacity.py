"""Room on nodes: what is allocatable, what the pods there request, and whether one more fits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from meshgate.semantics.pod_resources import Amounts, totals
from meshgate.semantics.quantities import amount, shown
from meshgate.semantics.selectors import selects
from meshgate.semantics.workloads import is_active
from meshgate.snapshot.kubernetes import Container, Pod
from meshgate.snapshot.new_pods import NewContainer, NewPod, NodeRequirement, NodeTerm, Toleration
from meshgate.snapshot.upgrade import Node, Taint

# of the resources that a scheduler counts: those that a snapshot has of every pod
COUNTED = ("cpu", "memory")
PODS = "pods"
KEEPS_OUT = ("NoSchedule", "NoExecute")

# Labels of nodes whose number a cloud's autoscaler may raise when a pod does not fit.
SCALED = (
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "kubernetes.azure.com/agentpool",
    "node.cluster.x-k8s.io/machine-deployment",
)


class Room(NamedTuple):
    """A node with what is left of each resource."""

    node: Node
    left: Amounts


def rooms(nodes: Iterable[Node], pods: Iterable[Pod]) -> list[Room]:
    """Return what is left on each node that is Ready and accepts new pods.

    Nodes that report nothing allocatable are left out.
    """
    used: defaultdict[str, Amounts] = defaultdict(dict)
    for pod in pods:
        if is_active(pod) and pod.spec.node_name:
            total = used[pod.spec.node_name]
            for name, value in {**_requested(pod), PODS: Decimal(1)}.items():
                total[name] = total.get(name, Decimal(0)) + value
    return [
        Room(
            node,
            {
                name: amount(node.status.allocatable[name])
                - used[node.metadata.name].get(name, Decimal(0))
                for name in (*COUNTED, PODS)
                if name in node.status.allocatable
            },
        )
        for node in nodes
        if node.status.allocatable and accepts_pods(node)
    ]


def accepts_pods(node: Node) -> bool:
    """Return whether a node is Ready and schedulable."""
    ready = any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)
    return ready and not node.spec.unschedulable


def _requested(pod: Pod) -> Amounts:
    containers = (
        *(_container(each, init=True) for each in pod.spec.init_containers),
        *(_container(each, init=False) for each in pod.spec.containers),
    )
    return totals(NewPod(workload="", containers=containers), "requests")


def _container(container: Container, *, init: bool) -> NewContainer:
    resources = container.resources
    found = {
        name: getattr(resources.requests, name) or getattr(resources.limits, name)
        for name in COUNTED
    }
    return NewContainer(
        name=container.name,
        init=init,
        sidecar=init and container.restart_policy == "Always",
        requests={name: value for name, value in found.items() if value},
    )


def eligible(pod: NewPod, node: Node) -> bool:
    """Return whether a pod's nodeSelector, required node affinity and tolerations permit a node."""
    return chooses(pod, node) and tolerates(pod, node)


def chooses(pod: NewPod, node: Node) -> bool:
    """Return whether a pod's nodeSelector and required node affinity permit a node."""
    return pod.node_selector.items() <= node.metadata.labels.items() and (
        not pod.node_terms or any(_holds(each, node) for each in pod.node_terms)
    )


def tolerates(pod: NewPod, node: Node) -> bool:
    """Return whether a pod tolerates each taint of a node that keeps pods out."""
    return all(
        any(_tolerates(each, taint) for each in pod.tolerations)
        for taint in node.spec.taints
        if taint.effect in KEEPS_OUT
    )


def _holds(term: NodeTerm, node: Node) -> bool:
    """Return whether a term of a node affinity holds; an empty one never does."""
    fields = {"metadata.name": node.metadata.name}
    rows = [(each, node.metadata.labels) for each in term.match_expressions]
    rows += [(each, fields) for each in term.match_fields]
    return bool(rows) and all(_row_holds(each, values) for each, values in rows)


def _row_holds(row: NodeRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(row.key)
    match row.operator:
        case "In":
            return value in row.values
        case "NotIn":
            return value not in row.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    try:
        number, limit = int(value or ""), int(row.values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if row.operator == "Gt" else number < limit


def kept_apart(
    pod: NewPod, namespace: str, nodes: Iterable[Node], pods: Iterable[Pod]
) -> frozenset[str]:
    """Return the nodes that a pod's required anti-affinity forbids, for the pods there now.

    Args:
        pod: the new pod.
        namespace: its namespace.
        nodes: all nodes.
        pods: all pods.

    Returns:
        The names of the nodes.
    """
    labels = {each.metadata.name: each.metadata.labels for each in nodes}
    found: set[str] = set()
    for term in pod.apart:
        places = {
            labels[each.spec.node_name].get(term.topology_key)
            for each in pods
            if is_active(each)
            and each.spec.node_name in labels
            and each.metadata.namespace in (term.namespaces or (namespace,))
            and term.label_selector is not None
            and selects(term.label_selector, each.metadata.labels)
        } - {None}
        found |= {name for name, own in labels.items() if own.get(term.topology_key) in places}
    return frozenset(found)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect):
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return (toleration.key, toleration.value) == (taint.key, taint.value)


def missing(needed: Amounts, left: Amounts) -> str:
    """Return which resource a node lacks for a pod, in words; empty if the pod fits."""
    for name in (*COUNTED, PODS):
        wanted = Decimal(1) if name == PODS else needed.get(name, Decimal(0))
        if name in left and wanted > left[name]:
            has = shown(max(left[name], Decimal(0)), name)
            return f"{name}: {shown(wanted, name)} is requested, and {has} is left"
    return ""
