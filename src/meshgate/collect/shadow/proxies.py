"""Derive the node metadata that a pod's proxy sends to istiod; no proxy is contacted.

The pod's environment, arguments and annotations are used here only, and never stored.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from meshgate.collect.api import Api
from meshgate.semantics.node_agents import ZTUNNEL
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.base import Base
from meshgate.snapshot.sources import Kind

# How many proxies of a class are tried until one can be simulated.
TRIES = 3

# Labels that differ between revisions of a workload, and that no selector names.
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
    """One pod's proxy, as istiod identifies it.

    Attributes:
        name: the pod's name.
        namespace: the pod's namespace.
        labels: the pod's labels without those of its revision.
        id: the node id, `sidecar~IP~POD.NAMESPACE~DOMAIN`.
        cluster: the node's cluster, `WORKLOAD.NAMESPACE`.
        metadata: the node metadata.
        locality: `region`, `zone` and `subZone`, if known.
    """

    name: str
    namespace: str
    labels: dict[str, str]
    id: str
    cluster: str
    metadata: dict[str, Any]
    locality: dict[str, str]

    @property
    def key(self) -> str:
        """Return istiod's name of the proxy: `pod.namespace`."""
        return f"{self.name}.{self.namespace}"

    @property
    def likeness(self) -> str:
        """Return a text that two proxies share only if istiod treats them equally.

        It omits the pod's name and addresses, and annotations that are not Istio's.
        """
        own = {"ANNOTATIONS", "INSTANCE_IPS", "ISTIO_VERSION", "NAME", "NODE_NAME"}
        shared = {key: value for key, value in self.metadata.items() if key not in own}
        shared["ANNOTATIONS"] = {
            key: value
            for key, value in self.metadata["ANNOTATIONS"].items()
            if "istio.io/" in key and key != "sidecar.istio.io/status"
        }
        kind = self.id.partition("~")[0]
        return json.dumps([kind, self.namespace, shared, self.locality], sort_keys=True)


def read(api: Api, mesh: Mapping[str, Any], version: str) -> tuple[Proxy, ...]:
    """Return the Envoy of every running pod, with the metadata that it sends after the upgrade.

    ztunnel is not an Envoy: istiod sends it workloads and policies, and nothing that Envoy reads.

    Args:
        api: the cluster's API server.
        mesh: the target's mesh config.
        version: the target's version.

    Returns:
        One per pod with an Envoy that runs and has an address.

    Raises:
        ReadError: pods or nodes cannot be listed.
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
        if _role(container.args) != ZTUNNEL
    )


def _role(args: Sequence[str]) -> str:
    """Return the type of proxy in its arguments: sidecar, router, waypoint or ztunnel."""
    return next((word for word in args[1:2] if not word.startswith("-")), "sidecar")


def _proxy(
    pod: _Pod,
    container: _Container,
    node: Mapping[str, str],
    mesh: Mapping[str, Any],
    version: str,
) -> Proxy:
    """Return one pod's proxy.

    Args:
        pod: the pod.
        container: its container `istio-proxy`.
        node: the labels of its node.
        mesh: the target's mesh config.
        version: the target's version.
    """
    name, namespace = pod.metadata.name, pod.metadata.namespace
    labels = {key: value for key, value in pod.metadata.labels.items() if key not in _GENERATION}
    variables = {variable.name: variable.value for variable in container.env}
    metadata = {
        **_environment_metadata(variables),
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
        "~".join((_role(container.args), pod.status.pod_ip, f"{name}.{namespace}", names)),
        f"{workload}.{namespace}",
        metadata,
        _locality(labels, node),
    )


def _environment_metadata(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata in environment variables that have a literal value."""
    metadata: dict[str, Any] = {}
    for name, value in variables.items():
        if name.startswith("ISTIO_METAJSON_"):
            metadata.update(json.loads(value))
        elif name.startswith("ISTIO_META_") and value:
            metadata[name.removeprefix("ISTIO_META_")] = value
    return metadata


def _proxy_config(own: str, mesh: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mesh's `defaultConfig` overlaid with the pod's, merged as pilot-agent does."""
    merged = dict(mesh.get("defaultConfig") or {})
    for key, value in (json.loads(own) if own.strip() else {}).items():
        joined = key == "proxyMetadata" and isinstance(value, dict)
        merged[key] = {**(merged.get(key) or {}), **value} if joined else value
    return merged


def domain(args: Sequence[str]) -> str:
    """Return the DNS domain in the arguments of a proxy."""
    for word, following in zip(args, (*args[1:], ""), strict=True):
        if word == "--domain":
            return following
        if word.startswith("--domain="):
            return word.removeprefix("--domain=")
    return "$(POD_NAMESPACE).svc.cluster.local"


def _locality(labels: Mapping[str, str], node: Mapping[str, str]) -> dict[str, str]:
    """Return the locality in a pod's label `istio-locality`, else in its node's labels."""
    if own := labels.get("istio-locality"):
        return dict(zip(_PLACE, own.replace(".", "/").split("/"), strict=False))
    found = {
        part: next((node[label] for label in names if label in node), "")
        for part, names in _PLACE.items()
    }
    return {part: value for part, value in found.items() if value}


def alike(proxies: Iterable[Proxy]) -> list[list[Proxy]]:
    """Return the proxies in classes that istiod treats equally, each sorted by name."""
    classes: defaultdict[str, list[Proxy]] = defaultdict(list)
    for proxy in sorted(proxies, key=lambda proxy: (proxy.namespace, proxy.name)):
        classes[proxy.likeness].append(proxy)
    return list(classes.values())
