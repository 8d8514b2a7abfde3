"""Snapshots of earlier schemas, converted when they are loaded.  Pure functions of decoded JSON."""

from collections.abc import Callable
from typing import Any

from meshgate.snapshot.items import expand
from meshgate.snapshot.sources import GROUPS

Body = dict[str, Any]

# items of schema 1 by their present name
_ITEMS = {
    "istiod_numbers": "istiod_metrics",
    "contacts": "port_probes",
    "rehearsal": "offline_bundle",
}
_FIELDS = {
    "istiodNumbers": "istiodMetrics",
    "contacts": "portProbes",
    "rehearsal": "offlineBundle",
}
_SKIPPED = {
    "signing": "notAsked",
    "portProbes": "notAsked",
    "pair": "notAsked",
    "shadow": "notTried",
}


def _from_1(body: Body) -> Body:
    body = _renamed(body, _FIELDS)
    for field, before in _SKIPPED.items():
        if field in body:
            body[field] = _renamed(body[field], {before: "skippedReason"})
    if "portProbes" in body:
        body["portProbes"] = _renamed(body["portProbes"], {"contacts": "probes"})
    body["gaps"] = [
        _renamed({**gap, "item": _ITEMS.get(gap["item"], gap["item"])}, {"heals": "transient"})
        for gap in body.get("gaps", ())
    ]
    read = [_ITEMS.get(item, item) for item in body.get("read", ())]
    if "tls_routes" in read:
        # meshgate 0.1 did not know the other kinds of routing: its verdicts rest on none of them
        read += set(expand(GROUPS["routing"])) - set(read) - {gap["item"] for gap in body["gaps"]}
    if "pods" in read:
        # nor istiod's own configuration
        read.append("injector_configs")
    if "mutating_webhooks" in read:
        # nor the mesh config, and who names its providers
        read += ["mesh_configs", "telemetries", "istio_crds", "wasm_plugins", "wasm_loads"]
    if "workloads" in read or "admission" in read:
        # nor the pods that a restart would create
        read += ["new_pods", "resource_quotas", "limit_ranges"]
        body["newPods"] = {"skippedReason": "meshgate 0.1 recorded this snapshot without them"}
    if "stateful_sets" in read:
        # nor Jobs and Events
        read += ["jobs", "creation_events"]
    if "definitions" in read:
        # nor policies for backends
        read.append("backend_tls_policies")
    if "istiod_metrics" in read:
        # nor who asks istiod for key sets
        read.append("request_authentications")
    body["read"] = sorted(set(read))
    return body


# What checks read of later schemas beside these items: their verdicts rested on none of them.
_WITH_LATER = {
    "ingress": {"mesh_configs", "definitions"},
    "ambient_index": {"service_entries"},
    "settings": {"gateway_classes", "listener_sets"},
    "analysis": {
        "telemetries",
        "mesh_configs",
        "authorization_policies",
        "request_authentications",
        "workload_entries",
        "service_imports",
    },
}


def _from_2(body: Body) -> Body:
    read = set(body.get("read", ()))
    if "gateway_classes" in read:
        # Kubernetes Ingress was not known: the verdicts of this schema do not include it
        read |= {"ingresses", "ingress_classes"}
    if "mesh_configs" in read:
        # nor were the age of Istio's CRDs, and WasmPlugins
        read |= {"istio_crds", "wasm_plugins", "wasm_loads"}
    if "port_probes" in read:
        # nor declared pairs and metrics of Prometheus
        read |= {"pair_answers", "traffic_metrics"}
    if "new_pods" in read:
        # nor the capacity of nodes and pulled images
        read |= {"nodes", "image_pulls"}
    for item, others in _WITH_LATER.items():
        if item in read:
            read |= others
    return {**body, "read": sorted(read)}


def _renamed(value: Body, names: dict[str, str]) -> Body:
    return {names.get(key, key): each for key, each in value.items()}


# by the schema that each one converts from
MIGRATIONS: dict[int, Callable[[Body], Body]] = {1: _from_1, 2: _from_2}
