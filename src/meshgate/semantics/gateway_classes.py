"""GatewayClasses: which controller serves a Gateway of the Gateway API, and which routes."""

from collections.abc import Iterable

from meshgate.snapshot.gateway_api import ApiGateway, GatewayClass, ListenerSet, Route
from meshgate.snapshot.kubernetes import Metadata

# The prefix of the names of Istio's controllers.
ISTIO = "istio.io/"
# Istio's controllers whose Gateways let clients in; an istiod may have another name for the first.
CONTROLLER, UNMANAGED = "istio.io/gateway-controller", "istio.io/unmanaged-gateway"
WAYPOINT_CONTROLLER = "istio.io/mesh-controller"
EAST_WEST_CONTROLLER = "istio.io/eastwest-controller"
# Istio's other controllers whose Gateways run Envoy.
OF_ENVOY = (UNMANAGED, WAYPOINT_CONTROLLER, EAST_WEST_CONTROLLER)

# The classes that istiod creates, where a snapshot does not contain them.
_USUAL = {
    "istio": CONTROLLER,
    "istio-remote": UNMANAGED,
    "istio-waypoint": WAYPOINT_CONTROLLER,
    "istio-east-west": EAST_WEST_CONTROLLER,
}

# The kinds of parents whose routes istiod serves in sidecars and waypoints, without a Gateway.
_OF_THE_MESH = ("Service", "ServiceEntry")


def controllers(classes: Iterable[GatewayClass]) -> dict[str, str]:
    """Return the controller of each class by the class's name."""
    return _USUAL | {each.metadata.name: each.spec.controller_name for each in classes}


def is_istios(name: str, controller: str) -> bool:
    """Return whether a controllerName is one of this mesh's istiod.

    Args:
        name: the name.
        controller: the name that istiod has for the controller of Gateways that let clients in.
    """
    return name == controller or (name.startswith(ISTIO) and name != CONTROLLER)


class IstioRoutes:
    """The Gateways whose controller is Istio's, and the routes that are attached to them.

    Args:
        gateways: all Gateways of the Gateway API.
        classes: all GatewayClasses.
        listener_sets: all ListenerSets.
        controller: the controllerName that istiod has for Gateways that let clients in.
    """

    def __init__(
        self,
        gateways: Iterable[ApiGateway],
        classes: Iterable[GatewayClass],
        listener_sets: Iterable[ListenerSet],
        controller: str = CONTROLLER,
    ) -> None:
        known = controllers(classes)
        self.gateways = [
            each
            for each in gateways
            if is_istios(known.get(each.spec.gateway_class_name, ""), controller)
        ]
        self._parents = {("Gateway", *_names(each.metadata)) for each in self.gateways}
        for each in listener_sets:
            owner = parent_of(each)
            if ("Gateway", *owner) in self._parents:
                self._parents.add(("ListenerSet", *_names(each.metadata)))

    def has(self, route: Route) -> bool:
        """Return whether one of a route's parents is Istio's, or an object of the mesh."""
        return any(
            each.kind in _OF_THE_MESH
            or (each.kind, each.namespace or route.metadata.namespace, each.name) in self._parents
            for each in route.spec.parent_refs
        )


def parent_of(listeners: ListenerSet) -> tuple[str, str]:
    """Return the namespace and name of a ListenerSet's Gateway; empty if its parent is none."""
    parent = listeners.spec.parent_ref
    if parent is None or parent.kind != "Gateway":
        return "", ""
    return parent.namespace or listeners.metadata.namespace, parent.name


def _names(metadata: Metadata) -> tuple[str, str]:
    return metadata.namespace, metadata.name
