"""The rights that a verifier needs, generated from what the collectors say that they read.

Resources are named one by one: on Kubernetes 1.34 a wildcard reader may exec and port-forward.
"""

from collections import defaultdict
from typing import Any

from meshgate.collect.plan import ALSO_READ, ANALYZE_READS, PRECHECK_READS, SHADOW_READS
from meshgate.snapshot.items import KINDS


def cluster_role(name: str, *, shadow: bool = False) -> dict[str, Any]:
    """Return a ClusterRole that reads and does nothing else: no Secret, no subresource.

    `shadow`: also what the target's istiod reads, when an upgrade is tried with nothing applied.
    """
    resources: defaultdict[str, set[str]] = defaultdict(set)
    for kind in KINDS.values():
        resources[kind.group].add(kind.resource)
    also = SHADOW_READS if shadow else ()
    for group, names in (*ANALYZE_READS, *PRECHECK_READS, *ALSO_READ, *also):
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


# The Jobs of the gates: Argo CD's tree shows a failed stage by their names.
GATES = (
    "control-plane-precheck",
    "control-plane-verification",
    "istio-cni-verification",
    "ztunnel-verification",
    "ambient-verification",
    "ingress-gateway-verification",
    "data-plane-verification",
    "control-plane-before-ingress",
    "control-plane-before-restart",
    "ingress-gateway-before-restart",
)


WATCH = "upgrade-watch"  # its Pod


def role(name: str, namespace: str) -> dict[str, Any]:
    """Return what a verifier may write where the gates run: its verdict on its own Job, Events.

    The last gate also deletes the Pod of the watch.
    """
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
            {
                "apiGroups": [""],
                "resources": ["pods"],
                "resourceNames": [WATCH],
                "verbs": ["delete"],
            },
            {
                "apiGroups": ["batch"],
                "resources": ["jobs"],
                "resourceNames": list(GATES),
                "verbs": ["patch"],
            },
        ],
    }


REPORTS = "istio-verification-reports"


def reports_namespace(name: str = REPORTS) -> dict[str, Any]:
    """Where baselines and reports are kept; nothing runs there."""
    return _namespace(name, "disabled")


def reports_role(name: str, namespace: str = REPORTS) -> dict[str, Any]:
    """Return what keeps them: ConfigMaps of any name, so never where those of others are."""
    verbs = ["create", "delete", "get", "update"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}],
    }


PROBES = "istio-verification-probes"


def probes_namespace(name: str = PROBES) -> dict[str, Any]:
    """Where the probe pair is made: injected as the namespaces of an upgrade in place are."""
    return _namespace(name, "enabled")


def probes_role(name: str, namespace: str = PROBES) -> dict[str, Any]:
    """Return what makes test pods, in a separate namespace: Jobs, and a Service for each.

    A watch creates Pods too, as a dry run: RBAC cannot distinguish that.
    """
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "delete"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list"]},
        ],
    }


def token_role(name: str, account: str) -> dict[str, Any]:
    """Return what requests tokens of one ServiceAccount, `namespace/name`, to call as it."""
    namespace, _, account_name = account.partition("/")
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": f"{name}-token-{account_name}", "namespace": namespace},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["serviceaccounts/token"],
                "resourceNames": [account_name],
                "verbs": ["create"],
            }
        ],
    }


def restart_role(name: str) -> dict[str, Any]:
    """Return the role of the restart: read everything it needs, patch workloads, delete nothing."""
    workloads = ["daemonsets", "deployments", "statefulsets"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list"]},
            {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]},
            {"apiGroups": ["apps"], "resources": workloads, "verbs": ["get", "list", "patch"]},
        ],
    }


def _namespace(name: str, injection: str) -> dict[str, Any]:
    labels = {"istio-injection": injection}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
