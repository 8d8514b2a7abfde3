"""What the gateways of one mesh are made of, as far as its istiod watches it."""

from collections.abc import Sequence
from typing import NamedTuple

from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.semantics.meshes import OwnMesh
from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass, ListenerSet, Route
from meshgate.snapshot.istio import DestinationRule, Gateway, VirtualService
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Deployment, EndpointSlice, Pod, Service


class RoutingConfig(NamedTuple):
    """What a GatewayTopology is made of (the items of the group `routing`).

    Attributes:
        domain: the cluster's.
        scoped: whether a Gateway selects only pods in its namespace.
    """

    services: Sequence[Service]
    slices: Sequence[EndpointSlice]
    pods: Sequence[Pod]
    deployments: Sequence[Deployment]
    gateways: Sequence[Gateway]
    virtual_services: Sequence[VirtualService]
    destination_rules: Sequence[DestinationRule]
    api_gateways: Sequence[ApiGateway]
    http_routes: Sequence[Route]
    grpc_routes: Sequence[Route]
    tls_routes: Sequence[Route]
    tcp_routes: Sequence[Route] = ()
    udp_routes: Sequence[Route] = ()
    listener_sets: Sequence[ListenerSet] = ()
    gateway_classes: Sequence[GatewayClass] = ()
    domain: str = DEFAULT_DOMAIN
    scoped: bool = False

    @classmethod
    def of(cls, items: Items, own: OwnMesh) -> "RoutingConfig":
        """Return what the gateways of one mesh are made of, without another mesh's objects.

        Args:
            items: a capture, or the evidence that facts use.
            own: the mesh; istiod ignores all in namespaces that it does not watch.
        """
        names = {name: name for name in cls._fields} | {"slices": "endpoint_slices"}
        del names["domain"], names["scoped"]
        lists = {
            field: [each for each in getattr(items, item) if own.watches(each.metadata.namespace)]
            for field, item in names.items()
        }
        lists["pods"] = own.own(lists["pods"])
        return cls(**lists, domain=own.cluster_domain, scoped=own.scoped_gateways)
