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
from meshgate.collect.pod_templates import Body, NextPod, next_pods
from meshgate.collect.readers import Context
from meshgate.probe.admission import Injection, inject_each
from meshgate.semantics.json_patch import patched
from meshgate.semantics.meshes import own_mesh
from meshgate.semantics.webhooks import IGNORED, Backend, Hook, Webhooks
from meshgate.semantics.workloads import PROXY
from meshgate.settings import flag
from meshgate.snapshot.items import Items
from meshgate.snapshot.new_pods import (
    NewContainer,
    NewPod,
    NewPods,
    SecurityContext,
    Toleration,
)

# pods that one connection to an injector is used for
AT_ONCE = 50

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


class _Candidate(NamedTuple):
    """The next pod of a workload, and the injector that is called for it."""

    next: NextPod
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
    for each in next_pods(context.cluster, found.pods):
        seen.add(each.workload)
        namespace = namespaces.get(each.pod["metadata"]["namespace"])
        if namespace is None or namespace.metadata.name in IGNORED:
            continue
        hooks = webhooks.selecting(namespace, each.pod["metadata"].get("labels") or {})
        if len(hooks) != 1:
            continue  # CP008 reports pods that several webhooks inject
        backends = webhooks.backends(hooks[0])
        backend = backends[len(batches) % len(backends)] if backends else None
        candidate = _Candidate(each, hooks[0], backend)
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
    pods = [each.next.pod for each in part]
    return inject_each(first.hook, first.backend, pods, context.transport.dial)


def _new_pod(context: Context, candidate: _Candidate, injection: Injection) -> NewPod:
    own = candidate.next
    base = NewPod(
        workload=own.workload,
        replicas=own.replicas,
        surge=own.surge,
        unavailable=own.unavailable,
        webhook=candidate.hook.subject,
        refused=injection.refused,
        error=injection.error,
    )
    if base.refused or base.error:
        return base
    try:
        pod = patched(own.pod, injection.patch)
        names = {name for name, _ in _containers(own.pod["spec"])}
        described = described_pod(pod, names - _injected_before(own.pod))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return msgspec.structs.replace(base, error=f"its patch does not fit the pod: {error}")
    injected = any(each.name == PROXY for each in described.containers)
    asked = injected and context.settings.probes.dry_run_pods
    return msgspec.structs.replace(
        described,
        workload=own.workload,
        replicas=own.replicas,
        surge=own.surge,
        unavailable=own.unavailable,
        webhook=candidate.hook.subject,
        injected=injected,
        admission=_dry_run(context, own.pod) if asked else "",
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
        **placement(spec, pod["metadata"].get("labels") or {}),
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
