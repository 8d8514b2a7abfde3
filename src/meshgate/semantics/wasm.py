"""Which proxies a WasmPlugin is for."""

from meshgate.semantics import workloads
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.wasm import WasmPlugin

LOADED = "success"
# the results by which an agent could not load a module from elsewhere
FAILED = frozenset({"fetch_failure", "marshal_failure", "unmarshal_failure"})


def selects(plugin: WasmPlugin, pod: Pod, root_namespace: str) -> bool:
    """Return whether a pod's proxy fetches the module of a WasmPlugin.

    Args:
        plugin: the WasmPlugin.
        pod: a pod.
        root_namespace: the mesh's, whose plugins apply in every namespace.

    Returns:
        False for modules in the proxy's own image (`file://`), and for pods without a proxy that
        runs.
    """
    spec, namespace = plugin.spec, plugin.metadata.namespace
    if spec.url.startswith("file:") or not workloads.is_active(pod):
        return False
    if workloads.proxy(pod) is None or pod.status.phase != "Running" or not pod.status.pod_ip:
        return False
    labels = pod.metadata.labels
    targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
    if targets:
        return namespace == pod.metadata.namespace and any(
            each.kind == "Gateway" and each.name == labels.get(workloads.GATEWAY_NAME)
            for each in targets
        )
    if workloads.is_waypoint(pod):
        return False  # only targetRefs reach a waypoint
    wanted = spec.selector.match_labels if spec.selector else {}
    return (
        namespace in (pod.metadata.namespace, root_namespace)
        and labels.get("app") != "ztunnel"
        and wanted.items() <= labels.items()
    )
