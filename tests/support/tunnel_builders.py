"""A mesh with one pod in ambient mode and one waypoint: healthy unless a test changes it."""

from typing import Any

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.gateway_api import ApiGateway, GatewaySpec
from meshgate.snapshot.hbone import Tunnel, TunnelProbe, TunnelProbes
from meshgate.snapshot.kubernetes import (
    Annotations,
    Metadata,
    Namespace,
    Pod,
    Service,
    ServicePort,
    ServiceSpec,
)
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from tests.support.builders import HTTP, mesh, pod, running
from tests.support.mtls_builders import US, leaf, peer

CATALOG = "spiffe://cluster.local/ns/library/sa/default"
REFUSED = Tunnel(end="refused", identity=CATALOG, error="tlsv13 alert certificate required")
OPEN = Tunnel(end="open", connect=200, identity=CATALOG, status=200)


def ambient_pod(name: str = "catalog-1", **changes: Any) -> Pod:
    """A captured pod with one HTTP port."""
    of_the_pod = {
        "containers": [running("app")],
        "ip": "10.0.0.9",
        "ports": [HTTP],
        "labels": {"app": "catalog"},
        "annotations": Annotations(ambient="enabled"),
    }
    return pod(name, "library", **{**of_the_pod, **changes})


def tunnel_probe(**changes: Any) -> TunnelProbe:
    """A port that admits only the mesh."""
    seen = {
        "pod": "library/catalog-1",
        "authority": "10.0.0.9:8080",
        "port": 8080,
        "anonymous": REFUSED,
        "foreign": REFUSED,
        "mesh": OPEN,
        "chain": (leaf(CATALOG),),
    }
    return TunnelProbe(**{**seen, **changes})


def plaintext(end: str = "refused", **changes: Any) -> Pair:
    """A pod outside the mesh, and how its connection in plaintext ended."""
    target = "library/catalog-1:8080"
    call = PeerCall(peer="outside-0", kind="plaintext", target=target, end=end)
    pair = {"namespace": "probes", "outside": (Peer(name="outside-0"),), "calls": (call,)}
    return Pair(**{**pair, **changes})


def ambient_mesh(*probes: TunnelProbe, **changes: Any) -> Mesh:
    """The pod, under STRICT, with what was seen of it."""
    seen = {
        "pods": (ambient_pod(),),
        "namespaces": (Namespace(metadata=Metadata(name="library", namespace="")),),
        "peer_authentications": (peer(),),
        "ambient_probes": TunnelProbes(identity=US, probes=probes or (tunnel_probe(),)),
        "pair": plaintext(),
    }
    return mesh(**{**seen, **changes})


# --- waypoints ----------------------------------------------------------------------------------

WAYPOINT = "spiffe://cluster.local/ns/library/sa/default"


def waypoint_gateway(**labels: str) -> ApiGateway:
    """A Gateway that is a waypoint."""
    metadata = Metadata(name="waypoint", namespace="library", labels=labels)
    return ApiGateway(metadata=metadata, spec=GatewaySpec(gateway_class_name="istio-waypoint"))


def waypoint_pod(**changes: Any) -> Pod:
    """The pod that istiod deploys for it."""
    labels = {
        "gateway.networking.k8s.io/gateway-name": "waypoint",
        "gateway.istio.io/managed": "istio.io-mesh-controller",
    }
    of_the_pod = {"containers": [running("istio-proxy")], "ip": "10.0.0.8", "labels": labels}
    return pod("waypoint-1", "library", **{**of_the_pod, **changes})


def behind(name: str = "catalog", **labels: str) -> Service:
    """A Service that uses the waypoint."""
    return Service(
        metadata=Metadata(
            name=name, namespace="library", labels={"istio.io/use-waypoint": "waypoint", **labels}
        ),
        spec=ServiceSpec(
            ports=(ServicePort(port=80, name="http", target_port=8080),),
            selector={"app": name},
            cluster_ips=("10.96.0.9",),
        ),
    )


def waypoint_probe(**changes: Any) -> TunnelProbe:
    """A request through the waypoint to that Service."""
    seen = {
        "pod": "library/waypoint-1",
        "authority": "10.96.0.9:80",
        "port": 80,
        "service": "library/catalog",
        "chain": (leaf(WAYPOINT),),
    }
    return tunnel_probe(**{**seen, **changes})


def waypoint_mesh(*probes: TunnelProbe, **changes: Any) -> Mesh:
    """The waypoint with the Service behind it, and what was seen of it."""
    seen = {
        "pods": (waypoint_pod(),),
        "namespaces": (Namespace(metadata=Metadata(name="library", namespace="")),),
        "api_gateways": (waypoint_gateway(),),
        "services": (behind(),),
        "waypoint_probes": TunnelProbes(identity=US, probes=probes or (waypoint_probe(),)),
    }
    return mesh(**{**seen, **changes})
