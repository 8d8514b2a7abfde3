"""The lab is healthy if every workload is rolled out, every pod is Ready, none is terminating, and
every proxy is connected to an istiod and in sync with it."""

import json
from collections.abc import Iterator
from typing import Any

from labkit.node import Node
from labkit.steps import LabError, poll, step

Object = dict[str, Any]

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def wait_healthy(node: Node, timeout: float = 180) -> None:
    """Wait until the lab is healthy."""
    with step("wait for every pod to be Ready and every proxy to be in sync"):
        poll("a healthy lab", lambda: "\n".join(of(node)), timeout=timeout)


def of(node: Node) -> list[str]:
    """Return a line for everything that is not healthy."""
    objects = node.items("deployments,statefulsets,daemonsets,pods", "--all-namespaces")
    return complaints(objects) or unsynced(node, objects)


def complaints(objects: list[Object]) -> list[str]:
    """Return a line for every object that is not healthy, in the order of the objects."""
    return [f"{o['kind']} {_name(o)}: {why}" for o in objects for why in _complaints(o)]


def unsynced(node: Node, objects: list[Object]) -> list[str]:
    """Return a line for every proxy that is not connected or not in sync."""
    pods = [o for o in objects if o["kind"] == "Pod" and o["status"].get("phase") == "Running"]
    istiods = [o for o in pods if o["metadata"].get("labels", {}).get("app") == "istiod"]
    connected: dict[str, Object] = {}
    for istiod in istiods:
        connected |= {proxy["proxy"]: proxy for proxy in _syncz(node, istiod)}
    found = []
    for pod in pods:
        name = f"{pod['metadata']['name']}.{pod['metadata']['namespace']}"
        if not _has_proxy(pod):
            continue
        if name not in connected:
            found.append(f"{name}: not connected to istiod")
        elif late := _not_taken(connected[name]):
            found.append(f"{name}: not in sync: {', '.join(late)}")
    return found


def _syncz(node: Node, istiod: Object) -> list[Object]:
    account = ["create", "token", "default", "--namespace=istio-system", "--audience=istio-ca"]
    token = node.kubectl(*account).strip()
    url = f"http://{istiod['status']['podIP']}:15014/debug/syncz"
    try:
        answer = node.run("labapp", "get", "-H", f"Authorization: Bearer {token}", url)
    except LabError:
        return []  # not up yet
    proxies: list[Object] = json.loads(answer.partition("\n\n")[2].strip() or "[]") or []
    return proxies


def _has_proxy(pod: Object) -> bool:
    spec = pod["spec"]
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    return any(container["name"] == "istio-proxy" for container in containers)


def _not_taken(proxy: Object) -> list[str]:
    kinds = ("cluster", "listener", "route", "endpoint")
    return [kind for kind in kinds if proxy.get(f"{kind}_sent") != proxy.get(f"{kind}_acked")]


def _complaints(o: Object) -> Iterator[str]:
    status = o.get("status", {})
    if "deletionTimestamp" in o["metadata"]:
        yield "is terminating"
    elif o["kind"] == "Pod":
        if status.get("phase") != "Succeeded" and not _is_ready(status):
            yield _why_not_ready(status)
    elif o["kind"] in _WORKLOADS:
        if status.get("observedGeneration", 0) < o["metadata"]["generation"]:
            yield "its controller has not seen the last change"
        elif o["kind"] == "DaemonSet":
            yield from _counts(status, status["desiredNumberScheduled"], "numberReady")
        else:
            counts = ["replicas", "readyReplicas"]
            if o["spec"].get("updateStrategy", {}).get("type") != "OnDelete":
                counts.append("updatedReplicas")  # that one waits until somebody deletes its pods
            yield from _counts(status, o["spec"]["replicas"], *counts)


def _counts(status: Object, wanted: int, *names: str) -> Iterator[str]:
    for name in names:
        if status.get(name, 0) != wanted:
            yield f"{name} {status.get(name, 0)} of {wanted}"


def _is_ready(status: Object) -> bool:
    conditions = status.get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _why_not_ready(status: Object) -> str:
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind, ()):
            if waiting := container.get("state", {}).get("waiting"):
                return f"{container['name']} is waiting: {waiting.get('reason', 'unknown')}"
    return f"not Ready ({status.get('phase')})"


def _name(o: Object) -> str:
    namespace = o["metadata"].get("namespace", "")
    return f"{namespace}/{o['metadata']['name']}" if namespace else str(o["metadata"]["name"])
