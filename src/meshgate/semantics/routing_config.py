"""What the gateways of one mesh are made of, as far as its istiod watches it."""

from collections.abc import Sequence
from typing import NamedTuple

from meshgate.semantics import kubernetes_ingress
from meshgate.semantics.gateway_classes import CONTROLLER
from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.semantics.listeners import FROM_INGRESS
from meshgate.semantics.meshes import OwnMesh
from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass, ListenerSet, Route
from meshgate.snapshot.istio import DestinationRule, Gateway, VirtualService
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Deployment, EndpointSlice, Namespace, Pod, Service


class RoutingConfig(NamedTuple):
    """What a GatewayTopology is made of (the items of the group `routing`).

    Attributes:
        domain: the cluster's.
        scoped: whether a Gateway selects only pods in its namespace.
        istio_namespace: istiod's, where it puts the Gateways that it derives from Ingresses.
        least_tls: tlsDefaults.minProtocolVersion of the mesh config.
        gateway_controller: the controllerName of GatewayClasses that istiod serves.
        default_export: where VirtualServices without exportTo are exported to; empty for all.
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
    namespaces: Sequence[Namespace] = ()
    domain: str = DEFAULT_DOMAIN
    scoped: bool = False
    istio_namespace: str = "istio-system"
    default_export: tuple[str, ...] = ()
    least_tls: str = ""
    gateway_controller: str = CONTROLLER

    def scope_of(self, gateway: Gateway) -> str:
        """Return the only namespace whose pods a Gateway selects; empty for all."""
        if not self.scoped:
            return ""
        if gateway.metadata.name.endswith(FROM_INGRESS):
            return self.istio_namespace
        return gateway.metadata.namespace

    @classmethod
    def of(cls, items: Items, own: OwnMesh) -> "RoutingConfig":
        """Return what the gateways of one mesh are made of, without another mesh's objects.

        Args:
            items: a capture, or the evidence that facts use.
            own: the mesh; istiod ignores all in namespaces that it does not watch.
        """
        names = {name: name for name in cls._fields} | {"slices": "endpoint_slices"}
        for setting in cls._fields[cls._fields.index("domain") :]:
            del names[setting]
        lists = {
            field: [each for each in getattr(items, item) if own.watches(each.metadata.namespace)]
            for field, item in names.items()
        }
        lists["pods"] = own.own(lists["pods"])
        classes = items.ingress_classes
        for ingress in items.ingresses:
            if own.watches(ingress.metadata.namespace) and kubernetes_ingress.served(
                ingress, classes, own.ingress_settings
            ):
                lists["gateways"].append(kubernetes_ingress.gateway(ingress, own.ingress_settings))
                lists["virtual_services"] += kubernetes_ingress.virtual_services(
                    ingress, lists["services"], own.cluster_domain
                )
        return cls(
            **lists,
            domain=own.cluster_domain,
            scoped=own.scoped_gateways,
            istio_namespace=own.istio_namespace,
            default_export=own.default_exports.virtual_services,
            least_tls=own.least_tls,
            gateway_controller=own.gateway_controller,
        )
