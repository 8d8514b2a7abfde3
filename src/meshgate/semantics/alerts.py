"""What a firing alert is about: labels that stay equal when its pods are replaced."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from meshgate.semantics import workloads
from meshgate.snapshot.kubernetes import Pod

# Alerts that always fire, so that their absence is noticed.
HEARTBEATS = frozenset({"Watchdog", "DeadMansSwitch"})
# Alerts that are about other alerts only.
INHIBITORS = frozenset({"InfoInhibitor"})

# Labels that contain the name of a pod, and those of its namespace.
_PODS = {
    "pod": "namespace",
    "pod_name": "namespace",
    "exported_pod": "exported_namespace",
    "kubernetes_pod_name": "kubernetes_namespace",
}
# Labels that say nothing about the object, or that a restart changes.
_DROPPED = frozenset({"__name__", "alertstate", "alertname", "uid", "pod_template_hash"})

_HOST = re.compile(r"(?:\[([^\]]+)\]|([^/:\[\]]+))(?::\d+)?")

# The letters of the hashes and random suffixes that Kubernetes generates.
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
# What follows the name of a workload in the names of its pods.  Those of a StatefulSet last.
_SUFFIXES = {
    "Deployment": f"-{_RANDOM}{{1,10}}-{_RANDOM}{{5}}",
    "Rollout": f"-{_RANDOM}{{1,10}}-{_RANDOM}{{5}}",
    "ReplicaSet": f"-{_RANDOM}{{5}}",
    "DaemonSet": f"-{_RANDOM}{{5}}",
    "Job": f"-{_RANDOM}{{5}}",
    "CronJob": rf"-\d{{8,}}-{_RANDOM}{{5}}",
}


class AlertLabels:
    """The lasting labels of alerts.

    Args:
        pods: the cluster's pods.
    """

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._workloads: dict[tuple[str, str], str] = {}
        self._by_namespace: defaultdict[str, set[str]] = defaultdict(set)
        self._nodes: set[str] = set()
        for pod in pods:
            namespace, name = pod.metadata.namespace, pod.metadata.name
            workload = workloads.workload(pod)
            if pod.spec.host_network:
                self._nodes.add(pod.status.pod_ip)
            if workload.partition(" ")[0] in _SUFFIXES:
                self._workloads[namespace, name] = workload
                self._by_namespace[namespace].add(workload)

    def lasting(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return an alert's labels, with the workload (`Deployment web`) in place of a pod.

        A pod that is not among the cluster's pods any more belongs to a workload if only that
        one's pods have such names.  A pod of no known workload, or of a StatefulSet, keeps its
        name.  An instance is omitted if it is the address of a pod, or of something unknown.
        """
        found = {name: each for name, each in labels.items() if name not in _DROPPED}
        for label, of_namespace in _PODS.items():
            if label in found:
                namespace = labels.get(of_namespace) or labels.get("namespace", "")
                found[label] = self._workload(namespace, found[label])
        instance = found.pop("instance", "")
        names = [labels[each] for each in _PODS if labels.get(each)]
        if instance and not any(each in instance for each in names):
            host = _host(instance)
            workload = self._workload(labels.get("namespace", ""), host)
            if workload != host:
                found["instance"] = workload
            elif not _is_address(host) or (host in self._nodes and not names):
                found["instance"] = instance
        return found

    def _workload(self, namespace: str, pod: str) -> str:
        """Return `Kind name` of a pod's workload, or the pod's name if that is not known."""
        if known := self._workloads.get((namespace, pod)):
            return known
        matching = [each for each in self._by_namespace[namespace] if _may_own(each, pod)]
        return matching[0] if len(matching) == 1 else pod


def _may_own(workload: str, pod: str) -> bool:
    kind, _, name = workload.partition(" ")
    return re.fullmatch(re.escape(name) + _SUFFIXES[kind], pod) is not None


def _host(instance: str) -> str:
    """Return the host of `HOST[:PORT]`, or the instance if it is something else."""
    found = _HOST.fullmatch(instance)
    return found[1] or found[2] if found else instance


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
