"""A mesh in ambient mode: one node, one app behind a waypoint, healthy unless a test changes it."""

from typing import Any

import msgspec

from meshgate.snapshot.ambient import (
    AmbientReading,
    AmbientService,
    AmbientWorkload,
    Hostname,
    WaypointAddress,
    ZtunnelReading,
)
from meshgate.snapshot.hbone import TunnelProbes
from meshgate.snapshot.istiod import IstiodReading, ProxySync
from meshgate.snapshot.kubernetes import (
    Annotations,
    Container,
    Controller,
    ControllerSpec,
    ControllerStatus,
    Event,
    InvolvedObject,
    Metadata,
    Owner,
    Pod,
    PodSpec,
    PodTemplate,
    TemplateMetadata,
)
from tests.support.builders import VERSION, istiod, mesh, pod, pushed, reading, running
from tests.support.webhook_builders import namespace

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
CAPTURED = Annotations(ambient="enabled")
SHOP = namespace("shop", **AMBIENT)
NODE = "node-1"
ADDRESS = "type.googleapis.com/istio.workload.Address"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CNI_LABELS = {"k8s-app": "istio-cni-node", "app.kubernetes.io/name": "istio-cni"}
ZTUNNEL_LABELS = {"app": "ztunnel", "app.kubernetes.io/name": "ztunnel"}


def on(node: str, found: Pod) -> Pod:
    """A pod, on a node."""
    return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, node_name=node))


def app(
    name: str = "web-1",
    namespace: str = "shop",
    *,
    annotations: Annotations = CAPTURED,
    node: str = NODE,
    ip: str = "10.0.0.9",
    **of_the_pod: Any,
) -> Pod:
    """A pod in ambient mode, which its CNI agent captured."""
    seen = {"containers": [running("app")], "annotations": annotations, "ip": ip, **of_the_pod}
    return on(node, pod(name, namespace, **seen))


def waypoint(name: str = "waypoint-1", namespace: str = "shop", **of_the_pod: Any) -> Pod:
    """A waypoint's pod."""
    labels = {
        "gateway.istio.io/managed": "istio.io-mesh-controller",
        "gateway.networking.k8s.io/gateway-name": "waypoint",
    }
    seen = {"annotations": Annotations(revision="default"), **of_the_pod}
    return pod(name, namespace, containers=[running("istio-proxy")], labels=labels, **seen)


def agent(name: str, node: str = NODE, *, image: str = "", **of_the_pod: Any) -> Pod:
    """A pod of one of the DaemonSets: `istio-cni-node-…` or `ztunnel-…`."""
    cni = name.startswith("istio-cni")
    container = "install-cni" if cni else "istio-proxy"
    seen: dict[str, Any] = {
        "containers": [running(container)],
        "labels": CNI_LABELS if cni else ZTUNNEL_LABELS,
        "owner": Owner(
            kind="DaemonSet", name="istio-cni-node" if cni else "ztunnel", controller=True
        ),
        **of_the_pod,
    }
    found = on(node, pod(name, "istio-system", **seen))
    image = image or f"docker.io/istio/{'install-cni' if cni else 'ztunnel'}:{VERSION}"
    containers = tuple(msgspec.structs.replace(each, image=image) for each in found.spec.containers)
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, containers=containers)
    )


def daemon_set(
    name: str, version: str = VERSION, wanted: int = 1, available: int = 1
) -> Controller:
    """`istio-cni-node` or `ztunnel`, rolled out."""
    cni = name.startswith("istio-cni")
    labels = CNI_LABELS if cni else ZTUNNEL_LABELS
    image = f"docker.io/istio/{'install-cni' if cni else 'ztunnel'}:{version}"
    return Controller(
        metadata=Metadata(name=name, namespace="istio-system", labels=labels),
        spec=ControllerSpec(
            template=PodTemplate(
                metadata=TemplateMetadata(labels=labels),
                spec=PodSpec(containers=(Container(name="agent", image=image),)),
            )
        ),
        status=ControllerStatus(
            desired_number_scheduled=wanted,
            current_number_scheduled=wanted,
            updated_number_scheduled=wanted,
            number_available=available,
        ),
    )


def sync(proxy: str, kind: str, *, version: str = VERSION, error: str = "") -> ProxySync:
    """A ztunnel or waypoint that is connected to istiod."""
    type_url = ADDRESS if kind == "ztunnel" else LISTENER
    return ProxySync(
        proxy=proxy,
        proxy_type=kind,
        istio_version=version,
        cluster_id="Kubernetes",
        resources={type_url: pushed(error=error)},
    )


def connected(*more: ProxySync, ztunnel: str = VERSION) -> IstiodReading:
    """What the replica of istiod reports: the ztunnel and the waypoint."""
    return reading(
        proxies=[
            sync("ztunnel-1.istio-system", "ztunnel", version=ztunnel),
            sync("waypoint-1.shop", "waypoint"),
            *more,
        ]
    )


WAYPOINT = WaypointAddress(
    hostname=Hostname(namespace="shop", hostname="waypoint.shop.svc.cluster.local")
)


def workload(name: str = "web-1", namespace: str = "shop", **seen: Any) -> AmbientWorkload:
    """What istiod sends to ztunnels about a pod."""
    known = {
        "uid": f"Kubernetes//Pod/{namespace}/{name}",
        "name": name,
        "namespace": namespace,
        "cluster_id": "Kubernetes",
        "tunnel_protocol": "HBONE",
    }
    return AmbientWorkload(**{**known, **seen})


def index(*workloads: AmbientWorkload, **seen: Any) -> AmbientReading:
    """What a replica of istiod sends to ztunnels."""
    services = (AmbientService(name="web", namespace="shop", waypoint=WAYPOINT),)
    known = {"pod": "istiod-1", "workloads": workloads or (workload(),), "services": services}
    return AmbientReading(**{**known, **seen})


def sandbox_event(name: str, message: str, namespace: str = "shop") -> Event:
    """An event of the kubelet: it could not set up a pod's network."""
    return Event(
        metadata=Metadata(name=f"{name}.1", namespace=namespace),
        involved_object=InvolvedObject(kind="Pod", namespace=namespace, name=name),
        message=message,
    )


CNI_AGENT, ZTUNNEL = agent("istio-cni-node-1"), agent("ztunnel-1")
DAEMON_SETS = (daemon_set("istio-cni-node"), daemon_set("ztunnel"))
PODS = (istiod(), CNI_AGENT, ZTUNNEL, waypoint(), app())

HEALTHY: dict[str, Any] = {
    "namespaces": (SHOP, namespace("istio-system")),
    "pods": PODS,
    "daemon_sets": DAEMON_SETS,
    "istiod": (connected(),),
    "ambient_index": (index(),),
    "ztunnels": (ZtunnelReading(pod="istio-system/ztunnel-1", version=VERSION, active=1),),
    "ambient_probes": TunnelProbes(),
}


def ambient_mesh(**changes: Any) -> Any:
    """The facts of a healthy mesh in ambient mode but for these changes."""
    return mesh(**{**HEALTHY, **changes})
