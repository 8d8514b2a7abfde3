"""Pods that cannot start because Istio's CNI plugin failed, or did not redirect their traffic."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.snapshot.kubernetes import Event, Pod
from meshgate.verdict import Finding

# How an event of the kubelet begins the reason of the plugin that failed.
_PLUGIN = "plugin type="

# What such an event contains if Istio's plugin failed: its type, or the name that is not found.
_ISTIO = "istio-cni"

# The condition of a pod whose network namespace exists, which the CNI plugins have set up.
_SANDBOX = "PodReadyToStartContainers"

# The init container that ends with an error in a pod whose traffic the plugin did not redirect.
_VALIDATION = "istio-validation"

_OLDEST = datetime.min.replace(tzinfo=UTC)


def sandbox_error(events: Iterable[Event], pod: Pod) -> str:
    """Return why the kubelet could not set up a pod's network; empty if it could.

    `events` are those of all pods.
    """
    found = [] if _has_sandbox(pod) else [each for each in events if _is_about(each, pod)]
    if not found:
        return ""
    message = max(found, key=lambda each: each.last_timestamp or _OLDEST).message
    before, plugin, reason = message.partition(_PLUGIN)
    return " ".join((plugin + reason if plugin else before).split())


def cni_failures(evidence: Evidence, pods: Iterable[Pod]) -> Iterator[Finding]:
    """Yield those of these pods, outside ambient mode, that Istio's CNI plugin keeps from starting.

    Earlier releases did not record the events of a mesh without ambient mode.
    """
    namespaces = {each.metadata.name: each for each in evidence.namespaces}
    events = evidence.sandbox_events if evidence.was_read("sandbox_events") else ()
    for pod in pods:
        node = pod.spec.node_name
        if pod.status.phase != "Pending" or not node or not workloads.is_active(pod):
            continue
        if workloads.ambient(pod, namespaces):
            continue
        error = sandbox_error(events, pod)
        if _ISTIO in error:
            yield _failure(pod, error, "no-sandbox")
        elif code := _validation_error(pod):
            seen = f"{_VALIDATION} ends with exit code {code}: its traffic is not redirected"
            yield _failure(pod, seen, "not-redirected")


def _failure(pod: Pod, why: str, problem: str) -> Finding:
    node = pod.spec.node_name
    return pod_finding(
        pod,
        f"cannot start on node {node}: {why}",
        "a running pod",
        f"look at the log of istio-cni-node on node {node}",
        problem=problem,
        transient=True,
    )


def _is_about(event: Event, pod: Pod) -> bool:
    """Return whether an event is about a pod, not about an earlier one of a StatefulSet."""
    about, seen = event.involved_object, event.last_timestamp
    if (about.namespace, about.name) != (pod.metadata.namespace, pod.metadata.name):
        return False
    created = pod.metadata.creation_timestamp
    return seen is None or created is None or seen >= created


def _has_sandbox(pod: Pod) -> bool:
    return bool(pod.status.pod_ip) or any(
        each.type == _SANDBOX and each.status == "True" for each in pod.status.conditions
    )


def _validation_error(pod: Pod) -> int:
    """Return the exit code of the last end of a pod's validation container; 0 without an error."""
    for status in pod.status.init_container_statuses:
        if status.name == _VALIDATION:
            ended = status.state.terminated or status.last_state.terminated
            return ended.exit_code if ended else 0
    return 0
