"""The rights that a verifier needs, generated from what the collectors say that they read.

Resources are named one by one: on Kubernetes 1.34 a wildcard reader may exec and port-forward.
"""

from collections import defaultdict
from typing import Any

from meshgate.collect.plan import ALSO_READ, ANALYZE_READS, KINDS, PRECHECK_READS


def cluster_role(name: str) -> dict[str, Any]:
    """A ClusterRole that reads and does nothing else: no Secret, no subresource."""
    resources: defaultdict[str, set[str]] = defaultdict(set)
    for kind in KINDS.values():
        resources[kind.group].add(kind.resource)
    for group, names in (*ANALYZE_READS, *PRECHECK_READS, *ALSO_READ):
        resources[group].update(names)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {
                "apiGroups": [group],
                "resources": sorted(names),
                "verbs": ["get", "list", "watch"],
            }
            for group, names in sorted(resources.items())
        ],
    }


def role(name: str, namespace: str) -> dict[str, Any]:
    """What a verifier may write: ConfigMaps that it keeps baselines in, in one namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "verbs": ["create", "delete", "get", "update"],
            }
        ],
    }
