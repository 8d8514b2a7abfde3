"""The pod that each workload creates next, before injection: its template, or a present pod.

Deployments, StatefulSets, DaemonSets, CronJobs and unfinished Jobs are listed.  Of other
controllers (Argo Rollouts) only the pods can be read.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from meshgate.collect.kubernetes import Cluster
from meshgate.semantics.workloads import is_active, owner, proxy
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Condition, Metadata, Owner, Pod, PodStatus
from meshgate.snapshot.sources import Kind

Body = dict[str, Any]

WORKLOADS = {
    "Deployment": Kind("deployments", "apps", "v1", "deployments", Body),
    "StatefulSet": Kind("statefulsets", "apps", "v1", "statefulsets", Body),
    "DaemonSet": Kind("daemonsets", "apps", "v1", "daemonsets", Body),
    "CronJob": Kind("cronjobs", "batch", "v1", "cronjobs", Body, optional=True),
}

# The kinds of owners whose pods are not read as those of another controller: Jobs have a template,
# and nothing creates a bare pod or a static one again.
_NOT_OTHERS = (*WORKLOADS, "", "Job", "Node")

_STATUS = "sidecar.istio.io/status"
# What the API server sets in a pod's spec when it creates or schedules it.
_SET_LATER = ("nodeName", "ephemeralContainers")


class _PodMetadata(Base, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    deletion_timestamp: str | None = None
    owner_references: tuple[Owner, ...] = ()


class _PodBody(Base, frozen=True):
    metadata: _PodMetadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: PodStatus = PodStatus()


class _JobStatus(Base, frozen=True):
    active: int = 0
    succeeded: int = 0
    conditions: tuple[Condition, ...] = ()


class _JobBody(Base, frozen=True):
    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: _JobStatus = _JobStatus()


_PODS = Kind("pods", "", "v1", "pods", _PodBody)
_JOBS = Kind("jobs", "batch", "v1", "jobs", _JobBody, optional=True)

# Conditions of a Job that creates no further pod.
_ENDED = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")


class NextPod(NamedTuple):
    """The pod that a workload creates next.

    Attributes:
        workload: `Kind namespace/name`.
        replicas: how many of them there are in the end; 0 for a DaemonSet, and for a Job that
            creates another pod only if one fails.
        surge: how many more than that may exist during a rollout; `unavailable`: how many fewer.
        pod: the body that its controller sends to the API server.
    """

    workload: str
    replicas: int
    surge: int
    unavailable: int
    pod: Body


def next_pods(cluster: Cluster, pods: Iterable[Pod]) -> Iterator[NextPod]:
    """Yield the next pod of each workload.

    Args:
        cluster: the API server.
        pods: all pods, which show the workloads of other controllers.

    Yields:
        One pod for each workload, those of other controllers last.
    """
    for kind, listed in WORKLOADS.items():
        for each in cluster.objects(listed):
            metadata, spec = each["metadata"], each.get("spec") or {}
            name = f"{kind} {metadata['namespace']}/{metadata['name']}"
            yield NextPod(name, *_rollout(kind, spec), _pod_of(metadata, spec))
    yield from _of_jobs(cluster)
    yield from _of_other_controllers(cluster, pods)


def _of_jobs(cluster: Cluster) -> Iterator[NextPod]:
    """Yield the next pod of each unfinished Job that no CronJob creates."""
    for each in cluster.objects(_JOBS):
        metadata, status = each.metadata, each.status
        ended = any(c.type in _ENDED and c.status == "True" for c in status.conditions)
        scheduled = any(o.controller and o.kind == "CronJob" for o in metadata.owner_references)
        if ended or scheduled or metadata.deletion_timestamp:
            continue
        spec = msgspec.json.decode(each.spec, type=Body)
        more = _creates_more(spec, status)
        if not more and spec.get("backoffLimit") == 0 and not spec.get("podFailurePolicy"):
            continue  # it ends with its present pods
        pod = _pod_of({"name": metadata.name, "namespace": metadata.namespace}, spec)
        name = f"Job {metadata.namespace}/{metadata.name}"
        yield NextPod(name, int(more), 0, 0, pod)


def _creates_more(spec: Body, status: _JobStatus) -> bool:
    """Return whether a Job creates a pod although none fails: it is suspended, or not far yet."""
    completions = spec.get("completions")
    if completions is None:  # a work queue: no new pod after the first success
        parallelism = spec.get("parallelism")
        completions = 0 if status.succeeded else 1 if parallelism is None else parallelism
    return int(completions) > status.succeeded + status.active


def _of_other_controllers(cluster: Cluster, pods: Iterable[Pod]) -> Iterator[NextPod]:
    """Yield the next pods of workloads that cannot be read, from one list of each namespace.

    The injector first removes from a present pod what it added before, and so returns the next one.
    """
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for pod in pods:
        name = owner(pod)
        if name.partition(" ")[0] not in _NOT_OTHERS and (
            is_active(pod) and proxy(pod) and pod.metadata.annotations.injection_status
        ):
            found = counts[pod.metadata.namespace]
            found[name] = found.get(name, 0) + 1
    for namespace, workloads in sorted(counts.items()):
        wanted = dict(workloads)
        for body in cluster.objects(msgspec.structs.replace(_PODS, namespace=namespace)):
            name = _owner(body)
            if name not in wanted or _STATUS not in body.metadata.annotations:
                continue
            # how its controller replaces pods is not known
            count = wanted.pop(name)
            yield NextPod(name, count, 0, count, _again(body))


def _owner(body: _PodBody) -> str:
    """Return the workload of an active pod; empty for any other pod."""
    metadata = body.metadata
    pod = Pod(
        metadata=Metadata(
            name=metadata.name,
            namespace=metadata.namespace,
            labels=metadata.labels,
            owner_references=metadata.owner_references,
        ),
        status=body.status,
    )
    return owner(pod) if is_active(pod) and not metadata.deletion_timestamp else ""


def _again(body: _PodBody) -> Body:
    """Return the pod that is created with the labels, annotations and spec of a present one."""
    spec = msgspec.json.decode(body.spec, type=Body)
    metadata = {
        "name": body.metadata.name,
        "namespace": body.metadata.namespace,
        "labels": body.metadata.labels,
        "annotations": body.metadata.annotations,
    }
    kept = {field: value for field, value in spec.items() if field not in _SET_LATER}
    return _pod_of(metadata, {"template": {"metadata": metadata, "spec": kept}})


def _pod_of(metadata: Body, spec: Body) -> Body:
    """Return the pod that a workload's controller would send to the API server.

    Args:
        metadata: name and namespace of the workload.
        spec: the workload's spec.

    Returns:
        The pod.
    """
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"].get("spec") or {}
    template = spec.get("template") or {}
    own = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": dict(own.get("labels") or {}),
            "annotations": dict(own.get("annotations") or {}),
        },
        "spec": template.get("spec") or {"containers": []},
    }


def _rollout(kind: str, spec: Body) -> tuple[int, int, int]:
    """Return replicas, surge and how many pods may be missing during a rollout."""
    replicas = spec.get("replicas")
    count = 1 if replicas is None else int(replicas)
    if kind == "Deployment":
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return count, 0, count
        rolling = strategy.get("rollingUpdate") or {}
        surge = _share(rolling.get("maxSurge", "25%"), count, up=True)
        unavailable = _share(rolling.get("maxUnavailable", "25%"), count, up=False)
        return count, surge, unavailable if surge or unavailable else 1
    if kind == "StatefulSet":
        return count, 0, 1
    # a DaemonSet replaces one pod of a node; a CronJob's next pod is additional
    return (0, 0, 1) if kind == "DaemonSet" else (1, 0, 0)


def _share(value: Any, count: int, *, up: bool) -> int:
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = int(text[:-1]) * count
    return -(-share // 100) if up else share // 100
