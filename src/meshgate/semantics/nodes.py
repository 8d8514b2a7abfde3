"""Nodes whose kubelet does not report any more, such as a reclaimed spot instance."""

from collections.abc import Sequence

from meshgate.snapshot.upgrade import Node


def lost(nodes: Sequence[Node]) -> frozenset[str]:
    """Return the names of the nodes whose condition Ready is Unknown.

    None if they are half of all nodes or more: that is an outage, not a lost machine.
    """
    found = frozenset(each.metadata.name for each in nodes if _is_lost(each))
    return found if 2 * len(found) < len(nodes) else frozenset()


def _is_lost(node: Node) -> bool:
    # a kubelet that runs without a working CNI plugin reports False
    return any(each.type == "Ready" and each.status == "Unknown" for each in node.status.conditions)
