"""Whether proxies could load the modules of WasmPlugins: their agents count it.

An agent that cannot fetch a module gives Envoy a filter that denies or allows everything in its
place, and accepts istiod's push: only its metrics show that.
"""

import re
from collections import Counter

from meshgate.collect import pod_metrics
from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import Transport
from meshgate.collect.readers import Context
from meshgate.deadline import concurrently
from meshgate.semantics.meshes import own_mesh
from meshgate.semantics.wasm import selects
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.wasm import WasmLoads

PORT, METRICS = 15020, "/stats/prometheus"
TIMEOUT = 10.0  # seconds for the metrics of one pod
WORKERS = 8

_RESULT = re.compile(
    r"^istio_agent_wasm_config_conversion_count(?:_total)?"
    r'\{[^}]*\bresult="(\w+)"[^}]*\} ([0-9.e+]+)',
    re.MULTILINE,
)


def read(context: Context, found: Items) -> tuple[WasmLoads, ...]:
    """Return what the agent of every pod counts that a WasmPlugin selects."""
    if not found.wasm_plugins:
        return ()
    own = own_mesh(found, context.expectations.istio_namespace)
    pods = [
        pod
        for pod in own.own(found.pods)
        if any(selects(each, pod, own.root_namespace) for each in found.wasm_plugins)
    ]

    def ask(pod: Pod) -> WasmLoads:
        return _ask(pod, context.transport)

    return tuple(concurrently(ask, pods, WORKERS))


def _ask(pod: Pod, transport: Transport) -> WasmLoads:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    try:
        text = pod_metrics.read(transport, pod, PORT, METRICS, TIMEOUT)
    except ReadError as error:
        return WasmLoads(pod=name, error=error.why)
    return WasmLoads(pod=name, results=results(text))


def results(metrics: str) -> dict[str, int]:
    """Return how often modules were loaded, by result, from an agent's metrics."""
    counts: Counter[str] = Counter()
    for result, count in _RESULT.findall(metrics):
        counts[result] += int(float(count))
    return dict(counts)
