"""Saves the healthy state of a lab and restores it.

Every object is compared with what it was, then created, replaced or deleted, again and again until
nothing differs and all is healthy: a repair may have to wait for another one, as one that goes
through a webhook has to wait for istiod. What has not changed is left alone.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from labkit import health
from labkit.node import Node
from labkit.signals import end_pod, thaw_all
from labkit.steps import LabError, poll, step, tail

Object = dict[str, Any]

_KINDS = (
    # In the order in which missing ones are created.
    "namespaces", "serviceaccounts", "configmaps", "secrets", "services",
    "limitranges", "resourcequotas", "poddisruptionbudgets.policy",
    "horizontalpodautoscalers.autoscaling", "networkpolicies.networking.k8s.io",
    "ingressclasses.networking.k8s.io", "ingresses.networking.k8s.io",
    "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "deployments.apps", "statefulsets.apps", "daemonsets.apps",
    "jobs.batch", "cronjobs.batch", "pods",
)  # fmt: skip
_API_GROUPS = (
    "networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io",
    "gateway.networking.k8s.io",
)  # fmt: skip

_SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")
_SYSTEM_OBJECTS = (
    # Made, and kept as they are, by Kubernetes or by istiod.
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ConfigMap", "istio-ca-crl"),
    ("ServiceAccount", "default"),
    ("Service", "kubernetes"),
)
_VOLATILE_METADATA = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences",
)  # fmt: skip
_VOLATILE_ANNOTATIONS = (
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",  # the API server counts it up at every change
    "kubectl.kubernetes.io/last-applied-configuration",
)


class Key(NamedTuple):
    """The identity of an object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}{'/' if self.namespace else ''}{self.name}"


class Repair(NamedTuple):
    """What to do with one object, and its new body."""

    verb: str
    key: Key
    body: Object

    def __str__(self) -> str:
        return f"{self.verb} {self.key}"


def save(node: Node) -> None:
    """Save the current state as the healthy one."""
    with step("save this state"):
        kinds = [*_KINDS, *_custom_kinds(node)]
        poll("istiod's webhooks", lambda: _unpatched(_read(node, kinds)), timeout=60)
        objects = _read(node, kinds)
        golden = {"kinds": kinds, "objects": objects, "shapes": _shapes(objects)}
        (node.lab.path / "golden.json").write_text(json.dumps(golden))


def restore(node: Node, timeout: float = 240) -> None:
    """Repair what differs until the lab is healthy; print what was repaired."""
    golden = _load(node)
    wanted = _managed(golden["objects"])
    printed: set[str] = set()

    def report(what: str) -> None:
        if what not in printed:
            print(f"  {what}", flush=True)
            printed.add(what)

    for thawed in thaw_all(node):
        report(thawed)
    deadline = time.monotonic() + timeout
    while True:
        objects = _read(node, golden["kinds"])
        repairs = list(_repairs(wanted, objects))
        complaints = health.complaints(objects)
        if not repairs:
            repairs = list(_unfit_pods(golden["shapes"], objects))
        if not repairs and not complaints:
            complaints = health.unsynced(node, objects)
        if not repairs and not complaints:
            break
        for repair in repairs:
            report(str(repair))
            if error := _do(node, repair):
                complaints.append(error)
        if time.monotonic() > deadline:
            raise LabError(f"not healthy after {timeout:.0f} s:\n{tail(chr(10).join(complaints))}")
        time.sleep(0.2)
    if not printed:
        print("  nothing to repair")


def _load(node: Node) -> Object:
    try:
        golden: Object = json.loads((node.lab.path / "golden.json").read_text())
    except FileNotFoundError:
        raise LabError("this lab never became healthy: run lab down, then lab up") from None
    return golden


# --- reading ----------------------------------------------------------------------------------


def _custom_kinds(node: Node) -> list[str]:
    """The kinds of Istio and of the Gateway API that this cluster has."""
    return [
        kind
        for group in _API_GROUPS
        for kind in node.kubectl(
            "api-resources", f"--api-group={group}", "--verbs=list", "--output=name"
        ).split()
    ]


def _read(node: Node, kinds: list[str]) -> list[Object]:
    return node.items(",".join(kinds), "--all-namespaces")


def _managed(objects: list[Object]) -> dict[Key, Object]:
    """Those that are put back: not the system's own, nor what controllers make of others."""
    return {_key(o): o for o in objects if _is_managed(o)}


def _key(o: Object) -> Key:
    metadata = o["metadata"]
    return Key(o["kind"], metadata.get("namespace", ""), metadata["name"])


def _is_managed(o: Object) -> bool:
    key, metadata = _key(o), o["metadata"]
    if key.namespace in _SYSTEM_NAMESPACES or (key.kind, key.name) in _SYSTEM_OBJECTS:
        return False
    if key.kind == "Namespace" and key.name in _SYSTEM_NAMESPACES:
        return False
    if key.kind.startswith("ClusterRole") and key.name.startswith(("system:", "kubeadm:")):
        return False
    if "kubernetes.io/bootstrapping" in metadata.get("labels", {}):
        return False
    if "control-plane.alpha.kubernetes.io/leader" in metadata.get("annotations", {}):
        return False
    return not (key.kind in ("Pod", "Job") and _owned(o))


def _owned(o: Object) -> bool:
    return bool(o["metadata"].get("ownerReferences"))


def _unpatched(objects: list[Object]) -> str:
    """istiod finishes its webhooks when it is up; before that they are not as they will be."""
    return "\n".join(
        f"{_key(o)}: {hook['name']}"
        for o in objects
        if o["kind"].endswith("WebhookConfiguration")
        for hook in o.get("webhooks", ())
        if not hook["clientConfig"].get("caBundle")
        or (o["kind"].startswith("Validating") and hook["failurePolicy"] != "Fail")
    )


# --- comparing --------------------------------------------------------------------------------


def _repairs(wanted: dict[Key, Object], objects: list[Object]) -> Iterator[Repair]:
    live = _managed(objects)
    # A namespace whose pods are gone ends at once; else its controller looks again much later.
    with_pods = {_key(o).namespace for o in objects if o["kind"] == "Pod"}
    for key, o in live.items():
        waits = key.kind == "Namespace" and key.name in with_pods
        if key not in wanted and not _owned(o) and not _leaving(o) and not waits:
            yield Repair("delete", key, o)
    for key, o in wanted.items():
        if key not in live:
            if not _owned(o):  # else its controller makes it again
                yield Repair("create", key, _body(o))
        elif not _leaving(live[key]) and _essence(o) != _essence(live[key]):
            yield Repair("replace", key, _body(o, live[key]))


def _leaving(o: Object) -> bool:
    return "deletionTimestamp" in o["metadata"]


def _essence(o: Object) -> Object:
    """What makes two objects the same."""
    body = _body(o)
    body["metadata"]["annotations"] = {
        name: value
        for name, value in body["metadata"].get("annotations", {}).items()
        if name not in _VOLATILE_ANNOTATIONS
    }
    return body


def _body(o: Object, live: Object | None = None) -> Object:
    """The object as it can be written, over the live one if there is one."""
    metadata = {k: v for k, v in o["metadata"].items() if k not in _VOLATILE_METADATA}
    if live and _owned(live):
        metadata["ownerReferences"] = live["metadata"]["ownerReferences"]
    body = {k: v for k, v in o.items() if k != "status"} | {"metadata": metadata}
    if o["kind"] == "Service" and o["spec"].get("clusterIP") != "None":
        addresses = ("clusterIP", "clusterIPs")  # assigned again to a new Service
        body["spec"] = {k: v for k, v in o["spec"].items() if k not in addresses}
    return body


# --- pods -------------------------------------------------------------------------------------


def _shapes(objects: list[Object]) -> dict[str, list[str]]:
    """The names of the containers that the pods of each workload have."""
    return {_workload(o): _containers(o) for o in objects if _is_workload_pod(o)}


def _unfit_pods(shapes: dict[str, list[str]], objects: list[Object]) -> Iterator[Repair]:
    """Pods that would take minutes to become right, or to go, by themselves."""
    for o in filter(_is_workload_pod, objects):
        if _leaving(o):
            if _dawdles(o):
                yield Repair("end", _key(o), o)
        elif _misshapen(o, shapes) or _gave_up(o):
            yield Repair("delete", _key(o), o)


def _dawdles(pod: Object) -> bool:
    """Return whether its grace period is long."""
    return int(pod["metadata"].get("deletionGracePeriodSeconds", 0)) > 5


def _misshapen(pod: Object, shapes: dict[str, list[str]]) -> bool:
    """Return whether it lacks its sidecar, because it was created while the injector was away."""
    return shapes.get(_workload(pod), _containers(pod)) != _containers(pod)


def _gave_up(pod: Object) -> bool:
    """Return whether it failed, or the kubelet waits for minutes before it restarts it."""
    status = pod.get("status", {})
    return status.get("phase") == "Failed" or "CrashLoopBackOff" in json.dumps(status)


def _is_workload_pod(o: Object) -> bool:
    return o["kind"] == "Pod" and _owned(o) and _key(o).namespace not in _SYSTEM_NAMESPACES


def _workload(pod: Object) -> str:
    metadata = pod["metadata"]
    owner = metadata["ownerReferences"][0]
    name = owner["name"].removesuffix("-" + metadata.get("labels", {}).get("pod-template-hash", ""))
    return f"{metadata['namespace']}/{name}"


def _containers(pod: Object) -> list[str]:
    spec = pod["spec"]
    return sorted(c["name"] for c in [*spec.get("initContainers", ()), *spec["containers"]])


# --- writing ----------------------------------------------------------------------------------


def _do(node: Node, repair: Repair) -> str:
    """Carry out the repair; return why that failed, or an empty string."""
    body = json.dumps(repair.body)
    try:
        match repair.verb:
            case "delete":
                node.kubectl("delete", "--filename=-", "--wait=false", stdin=body)
            case "end":
                end_pod(node, repair.body["metadata"]["uid"])
            case "create":
                node.kubectl("create", "--filename=-", stdin=body)
            case "replace":
                _replace(node, body)
    except LabError as error:
        return str(error)
    return ""


def _replace(node: Node, body: str) -> None:
    try:
        node.kubectl("replace", "--filename=-", stdin=body)
    except LabError as error:
        # Some fields can only be changed by replacing the object.
        if "immutable" not in str(error) and "updates to statefulset spec" not in str(error):
            raise
        node.kubectl("replace", "--force", "--filename=-", stdin=body)
