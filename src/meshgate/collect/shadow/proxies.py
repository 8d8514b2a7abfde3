"""How a pod's proxy introduces itself to istiod, derived from the pod: no proxy is asked.

What it is made of (environment, arguments, annotations) is used here and kept nowhere.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from meshgate.collect.kubernetes import Api
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Kind

# how many of a class are asked for until one of them answers
TRIES = 3

# each generation of a workload's pods has its own, and no selector names them
_GENERATION = frozenset({"controller-revision-hash", "pod-template-hash"})

_PLACE = {
    "region": ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    "zone": ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    "subZone": ("topology.istio.io/subzone",),
}


class _Variable(Base, frozen=True):
    name: str
    value: str = ""


class _Port(Base, frozen=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class _Container(Base, frozen=True):
    name: str
    args: tuple[str, ...] = ()
    env: tuple[_Variable, ...] = ()
    ports: tuple[_Port, ...] = ()


class _Metadata(Base, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class _Spec(Base, frozen=True):
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] = ()
    node_name: str = ""
    service_account_name: str = ""


class _Address(Base, frozen=True):
    ip: str = ""


class _Status(Base, frozen=True):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[_Address, ...] = msgspec.field(default=(), name="podIPs")


class _Pod(Base, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Node(Base, frozen=True):
    metadata: _Metadata


class Proxy(msgspec.Struct, frozen=True):
    """One pod's proxy, as far as istiod reads what it says of itself."""

    name: str
    namespace: str
    labels: dict[str, str]
    id: str
    cluster: str
    metadata: dict[str, Any]
    locality: dict[str, str]

    @property
    def key(self) -> str:
        """As istiod calls it: `pod.namespace`."""
        return f"{self.name}.{self.namespace}"

    @property
    def likeness(self) -> str:
        """The same for two proxies only if nothing tells them apart that istiod reads.

        Left out are the pod's own name and addresses, and annotations that are not Istio's.
        """
        own = {"ANNOTATIONS", "INSTANCE_IPS", "ISTIO_VERSION", "NAME", "NODE_NAME"}
        told = {key: value for key, value in self.metadata.items() if key not in own}
        told["ANNOTATIONS"] = {
            key: value
            for key, value in self.metadata["ANNOTATIONS"].items()
            if "istio.io/" in key and key != "sidecar.istio.io/status"
        }
        kind = self.id.partition("~")[0]
        return json.dumps([kind, self.namespace, told, self.locality], sort_keys=True)


def read(api: Api, mesh: Mapping[str, Any], version: str) -> tuple[Proxy, ...]:
    """Every running pod's proxy as it would introduce itself at `version`; raises Unreadable.

    Args:
        mesh: the target's mesh config.
    """
    nodes = {
        node.metadata.name: node.metadata.labels
        for node in api.objects(Kind("nodes", "", "v1", "nodes", _Node))
    }
    pods = api.objects(Kind("pods", "", "v1", "pods", _Pod))
    return tuple(
        _proxy(pod, container, nodes.get(pod.spec.node_name, {}), mesh, version)
        for pod in pods
        if pod.status.phase == "Running" and pod.status.pod_ip
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        if container.name == PROXY and container.args[:1] == ("proxy",)
    )


def _proxy(
    pod: _Pod,
    container: _Container,
    node: Mapping[str, str],
    mesh: Mapping[str, Any],
    version: str,
) -> Proxy:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    labels = {key: value for key, value in pod.metadata.labels.items() if key not in _GENERATION}
    variables = {variable.name: variable.value for variable in container.env}
    role = next((word for word in container.args[1:2] if not word.startswith("-")), "sidecar")
    metadata = {
        **_told(variables),
        "ANNOTATIONS": pod.metadata.annotations,
        "INSTANCE_IPS": ",".join(each.ip for each in pod.status.pod_ips) or pod.status.pod_ip,
        "ISTIO_VERSION": version,
        "LABELS": labels,
        "NAME": name,
        "NAMESPACE": namespace,
        "NODE_NAME": pod.spec.node_name,
        "PROXY_CONFIG": _proxy_config(variables.get("PROXY_CONFIG", ""), mesh),
        "SERVICE_ACCOUNT": pod.spec.service_account_name or "default",
    }
    names = domain(container.args).replace("$(POD_NAMESPACE)", namespace)
    workload = metadata.get("WORKLOAD_NAME") or labels.get("app", PROXY)
    return Proxy(
        name,
        namespace,
        labels,
        "~".join((role, pod.status.pod_ip, f"{name}.{namespace}", names)),
        f"{workload}.{namespace}",
        metadata,
        _locality(labels, node),
    )


def _told(variables: Mapping[str, str]) -> dict[str, Any]:
    """The metadata that the environment gives; a variable that refers to a field has none here."""
    told: dict[str, Any] = {}
    for name, value in variables.items():
        if name.startswith("ISTIO_METAJSON_"):
            told.update(json.loads(value))
        elif name.startswith("ISTIO_META_") and value:
            told[name.removeprefix("ISTIO_META_")] = value
    return told


def _proxy_config(own: str, mesh: Mapping[str, Any]) -> dict[str, Any]:
    """The mesh's default with what the pod was given over it, as pilot-agent joins them."""
    merged = dict(mesh.get("defaultConfig") or {})
    for key, value in (json.loads(own) if own.strip() else {}).items():
        joined = key == "proxyMetadata" and isinstance(value, dict)
        merged[key] = {**(merged.get(key) or {}), **value} if joined else value
    return merged


def domain(args: Sequence[str]) -> str:
    """The domain of its names."""
    for word, following in zip(args, (*args[1:], ""), strict=True):
        if word == "--domain":
            return following
        if word.startswith("--domain="):
            return word.removeprefix("--domain=")
    return "$(POD_NAMESPACE).svc.cluster.local"


def _locality(labels: Mapping[str, str], node: Mapping[str, str]) -> dict[str, str]:
    if own := labels.get("istio-locality"):
        return dict(zip(_PLACE, own.replace(".", "/").split("/"), strict=False))
    found = {
        part: next((node[label] for label in names if label in node), "")
        for part, names in _PLACE.items()
    }
    return {part: value for part, value in found.items() if value}


def alike(proxies: Iterable[Proxy]) -> list[list[Proxy]]:
    """The proxies in classes whose members istiod cannot tell apart, each sorted by name."""
    classes: defaultdict[str, list[Proxy]] = defaultdict(list)
    for proxy in sorted(proxies, key=lambda proxy: (proxy.namespace, proxy.name)):
        classes[proxy.likeness].append(proxy)
    return list(classes.values())
