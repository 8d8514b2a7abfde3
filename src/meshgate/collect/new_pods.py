"""The pods that a restart of the workloads would create: each template, sent to its injector.

Templates hold whatever people put there.  They are sent to istiod (and to the API server for a dry
run) and not kept: `NewPod` contains only what is judged.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.placement import placement
from meshgate.collect.readers import Context
from meshgate.probe.admission import Injection, inject_each
from meshgate.semantics.json_patch import patched
from meshgate.semantics.meshes import own_mesh
from meshgate.semantics.webhooks import IGNORED, Backend, Hook, Webhooks
from meshgate.semantics.workloads import PROXY, is_active, owner, proxy
from meshgate.settings import flag
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.new_pods import (
    NewContainer,
    NewPod,
    NewPods,
    SecurityContext,
    Toleration,
)
from meshgate.snapshot.sources import Kind

Body = dict[str, Any]

WORKLOADS = {
    "Deployment": Kind("deployments", "apps", "v1", "deployments", Body),
    "StatefulSet": Kind("statefulsets", "apps", "v1", "statefulsets", Body),
    "DaemonSet": Kind("daemonsets", "apps", "v1", "daemonsets", Body),
    "CronJob": Kind("cronjobs", "batch", "v1", "cronjobs", Body, optional=True),
}

# The kinds of owners whose pods have no template to look for: Jobs end, and nothing creates a bare
# pod or a static one again.
WITHOUT_RESTART = ("", "Job", "Node")

_PODS = Kind("pods", "", "v1", "pods", Body)
# What the API server sets in a pod's spec when it creates or schedules it.
_SET_LATER = ("nodeName", "ephemeralContainers")

# pods that one connection to an injector is used for
AT_ONCE = 50

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


class _Candidate(NamedTuple):
    """A workload whose pods an injector is called for, and the pod that it would create."""

    workload: str
    spec: Body
    pod: Body
    hook: Hook
    backend: Backend | None


def read(context: Context, found: Items) -> NewPods:
    """Return the pod that a restart would create for each injected workload.

    Raises ReadError if workloads cannot be listed, or a dry run is not allowed.
    """
    webhooks = Webhooks(
        found.mutating_webhooks,
        (),
        found.services,
        found.endpoint_slices,
        own_mesh(found, context.expectations.istio_namespace),
    )
    namespaces = {each.metadata.name: each for each in found.namespaces}
    seen: set[str] = set()
    batches: defaultdict[tuple[str, str], list[_Candidate]] = defaultdict(list)
    for name, spec, pod in (*_of_templates(context), *_of_other_controllers(context, found)):
        seen.add(name)
        namespace = namespaces.get(pod["metadata"]["namespace"])
        if namespace is None or namespace.metadata.name in IGNORED:
            continue
        hooks = webhooks.selecting(namespace, pod["metadata"].get("labels") or {})
        if len(hooks) != 1:
            continue  # CP008 reports pods that several webhooks inject
        backends = webhooks.backends(hooks[0])
        backend = backends[len(batches) % len(backends)] if backends else None
        candidate = _Candidate(name, spec, pod, hooks[0], backend)
        batches[hooks[0].subject, backend.pod if backend else ""].append(candidate)
    rows = [part for batch in batches.values() for part in _parts(batch)]
    dry_run = context.settings.probes.dry_run_pods
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = pool.map(lambda part: _inject(context, part), rows)
        pods = [
            _new_pod(context, candidate, injection)
            for part, injections in zip(rows, answers, strict=True)
            for candidate, injection in zip(part, injections, strict=True)
        ]
    kept = [each for each in pods if each.injected or each.refused or each.error]
    injected = {each.workload for each in kept}
    return NewPods(
        pods=tuple(sorted(kept, key=lambda each: each.workload)),
        others=tuple(sorted(seen - injected)),
        dry_run=dry_run,
    )


def _parts(batch: list[_Candidate]) -> Iterator[list[_Candidate]]:
    for start in range(0, len(batch), AT_ONCE):
        yield batch[start : start + AT_ONCE]


def _inject(context: Context, part: list[_Candidate]) -> list[Injection]:
    first = part[0]
    if first.backend is None:
        return [Injection(error="its Service has no ready endpoint")] * len(part)
    pods = [each.pod for each in part]
    return inject_each(first.hook, first.backend, pods, context.transport.dial)


def _of_templates(context: Context) -> Iterator[tuple[str, Body, Body]]:
    """Yield each workload's name, its spec, and the pod of its template."""
    for kind, listed in WORKLOADS.items():
        for each in context.cluster.objects(listed):
            pod = _pod_of(each)
            name = f"{kind} {pod['metadata']['namespace']}/{each['metadata']['name']}"
            yield name, each.get("spec") or {}, pod


def _of_other_controllers(context: Context, found: Items) -> Iterator[tuple[str, Body, Body]]:
    """Yield the same for workloads that cannot be read (Argo Rollouts), from one of their pods.

    The injector first removes from a pod what it added before, and so returns the next pod.
    """
    pods: defaultdict[str, list[Pod]] = defaultdict(list)
    for each in found.pods:
        name = owner(each)
        if name.partition(" ")[0] not in (*WORKLOADS, *WITHOUT_RESTART) and (
            is_active(each) and proxy(each) and each.metadata.annotations.injection_status
        ):
            pods[name].append(each)
    for name, some in sorted(pods.items()):
        metadata = some[0].metadata
        only = f"metadata.namespace={metadata.namespace},metadata.name={metadata.name}"
        for each in context.cluster.objects(msgspec.structs.replace(_PODS, only=only)):
            spec = {field: each["spec"][field] for field in each["spec"].keys() - {*_SET_LATER}}
            template = {"metadata": each["metadata"], "spec": spec}
            made = _pod_of({"metadata": each["metadata"], "spec": {"template": template}})
            yield name, {"replicas": len(some)}, made


def _pod_of(workload: Body) -> Body:
    """Return the pod that a workload's controller would send to the API server."""
    metadata, spec = workload["metadata"], workload.get("spec") or {}
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


def _new_pod(context: Context, candidate: _Candidate, injection: Injection) -> NewPod:
    kind = candidate.workload.partition(" ")[0]
    replicas, surge, unavailable = _rollout(kind, candidate.spec)
    base = NewPod(
        workload=candidate.workload,
        replicas=replicas,
        surge=surge,
        unavailable=unavailable,
        webhook=candidate.hook.subject,
        refused=injection.refused,
        error=injection.error,
    )
    if base.refused or base.error:
        return base
    try:
        pod = patched(candidate.pod, injection.patch)
        own = {name for name, _ in _containers(candidate.pod["spec"])}
        described = described_pod(pod, own - _injected_before(candidate.pod))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return msgspec.structs.replace(base, error=f"its patch does not fit the pod: {error}")
    injected = any(each.name == PROXY for each in described.containers)
    asked = injected and context.settings.probes.dry_run_pods
    return msgspec.structs.replace(
        described,
        workload=candidate.workload,
        replicas=replicas,
        surge=surge,
        unavailable=unavailable,
        webhook=candidate.hook.subject,
        injected=injected,
        admission=_dry_run(context, candidate.pod) if asked else "",
    )


def _dry_run(context: Context, pod: Body) -> str:
    """Return why the API server would refuse a pod; empty if it accepts it."""
    namespace = pod["metadata"]["namespace"]
    answer = context.cluster.ask(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        query=[("dryRun", "All")],
        headers={"Content-Type": "application/json"},
        body=msgspec.json.encode(pod),
    )
    if answer.status in (200, 201):
        return ""
    try:
        words = str(msgspec.json.decode(answer.data, type=dict[str, Any]).get("message", ""))
    except ValueError:
        words = ""
    if answer.status in (401, 403) and 'cannot create resource "pods"' in words:
        raise ReadError(
            f"no right to create pods in {namespace} as a dry run",
            f"grant `create pods`, or omit {flag('probes.dry_run_pods')}",
        )
    return words or f"answered {answer.status}"


# --- what is kept -------------------------------------------------------------------------------


def described_pod(pod: Body, own: set[str]) -> NewPod:
    """Return what is judged of a pod; `own` are the containers of its template."""
    spec = pod["spec"]
    return NewPod(
        workload="",
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        security=_security(spec.get("securityContext")),
        volumes=tuple(
            sorted({kind for each in spec.get("volumes") or () for kind in each if kind != "name"})
        ),
        priority_class=str(spec.get("priorityClassName") or ""),
        terminating=spec.get("activeDeadlineSeconds") is not None,
        overhead=_quantities(spec.get("overhead")),
        requests=_quantities((spec.get("resources") or {}).get("requests")),
        limits=_quantities((spec.get("resources") or {}).get("limits")),
        node_selector=_quantities(spec.get("nodeSelector")),
        tolerations=msgspec.convert(
            [
                {name: each for name, each in toleration.items() if each is not None}
                for toleration in spec.get("tolerations") or ()
            ],
            tuple[Toleration, ...],
        ),
        **placement(spec),
        containers=tuple(
            _container(name, each, own, init=init)
            for init, field in ((True, "initContainers"), (False, "containers"))
            for each in spec.get(field) or ()
            for name in [str(each.get("name", ""))]
        ),
    )


class _Injected(msgspec.Struct, rename="camel"):
    containers: tuple[str, ...] | None = None
    init_containers: tuple[str, ...] | None = None


def _injected_before(pod: Body) -> set[str]:
    """Return the containers that an injector added to a pod, as it wrote there."""
    text = pod["metadata"]["annotations"].get("sidecar.istio.io/status") or "{}"
    status = msgspec.json.decode(text, type=_Injected)
    return {*(status.containers or ()), *(status.init_containers or ())}


def _containers(spec: Body) -> Iterator[tuple[str, Body]]:
    for field in ("initContainers", "containers"):
        for each in spec.get(field) or ():
            yield str(each.get("name", "")), each


def _container(name: str, container: Body, own: set[str], *, init: bool) -> NewContainer:
    resources = container.get("resources") or {}
    ports = container.get("ports") or ()
    hooks = container.get("lifecycle") or {}
    probes = {kind: container[kind] for kind in _PROBES if container.get(kind)}
    return NewContainer(
        name=name,
        image=str(container.get("image") or ""),
        init=init,
        sidecar=init and container.get("restartPolicy") == "Always",
        injected=name not in own or name == PROXY,
        requests=_quantities(resources.get("requests")),
        limits=_quantities(resources.get("limits")),
        security=_security(container.get("securityContext")),
        ports=tuple(f"{each.get('containerPort')}/{each.get('protocol', 'TCP')}" for each in ports),
        host_ports=tuple(int(each["hostPort"]) for each in ports if each.get("hostPort")),
        probes={kind: _handler(probe) for kind, probe in probes.items()},
        hooks=tuple(sorted(hook for hook, value in hooks.items() if isinstance(value, dict))),
        hosts=tuple(
            str(action["host"])
            for handler in (*probes.values(), *hooks.values())
            if isinstance(handler, dict)
            for action in (handler.get("httpGet"), handler.get("tcpSocket"))
            if isinstance(action, dict) and action.get("host")
        ),
        variables=tuple(sorted(str(each.get("name")) for each in container.get("env") or ())),
    )


def _handler(probe: Mapping[str, Any]) -> str:
    """Return how a probe asks, without what it sends: `httpGet /healthz`, `exec`, `grpc`."""
    for kind in ("httpGet", "tcpSocket", "grpc", "exec"):
        if kind in probe:
            path = str((probe[kind] or {}).get("path", "")) if kind == "httpGet" else ""
            return f"{kind} {path.partition('?')[0]}".strip()
    return ""


def _security(value: Any) -> SecurityContext | None:
    if not value:
        return None
    # null means absent
    clean = {name: each for name, each in value.items() if each is not None}
    return msgspec.convert(clean, SecurityContext)


def _quantities(value: Any) -> dict[str, str]:
    return {str(name): str(each) for name, each in (value or {}).items()}


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
    if kind not in WORKLOADS:
        return count, 0, count  # how its controller replaces pods is not known
    # a DaemonSet replaces one pod of a node; a CronJob's next pod is additional
    return (0, 0, 1) if kind == "DaemonSet" else (1, 0, 0)


def _share(value: Any, count: int, *, up: bool) -> int:
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = int(text[:-1]) * count
    return -(-share // 100) if up else share // 100
