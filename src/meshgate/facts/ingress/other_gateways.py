"""Gateways of the Gateway API that Istio does not serve: of other controllers, or of no class."""

from functools import cached_property

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.gateway_classes import OF_ENVOY, controllers
from meshgate.snapshot.gateway_api import ApiGateway
from meshgate.verdict import Finding, counted


class OtherGateways:
    """The Gateways that no check of Istio's gateways examines."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress
        self._evidence = ingress.evidence

    @property
    def without_class(self) -> list[Finding]:
        """Gateways whose GatewayClass does not exist and whose pods do not run Istio's proxy.

        istiod ignores them; the classes that it creates count without an object, as in istiod.
        """
        return [
            Finding(
                f"Gateway {each.metadata.namespace}/{each.metadata.name}",
                f"its GatewayClass {each.spec.gateway_class_name} does not exist: istiod ignores "
                "the Gateway",
                "an existing GatewayClass",
                "kubectl get gatewayclasses.gateway.networking.k8s.io",
                problem="no-gateway-class",
                about=(("class", each.spec.gateway_class_name),),
            )
            for each in self._unserved
            if each.spec.gateway_class_name not in self._controllers
        ]

    @property
    def note(self) -> str:
        """The Gateways of other controllers, which were not verified; empty without any.

        Istio has one of them: that of agentgateway, whose pods do not contain Envoy.
        """
        own = self._evidence.own_mesh.gateway_controller
        found = [
            f"{each.metadata.namespace}/{each.metadata.name} (class {each.spec.gateway_class_name})"
            for each in self._unserved
            if self._controllers.get(each.spec.gateway_class_name, own) not in (own, *OF_ENVOY)
        ]
        more = ", ..." if len(found) > 1 else ""
        number = counted(len(found), "Gateway")
        return f"not verified: {number} of other controllers: {min(found)}{more}" if found else ""

    @cached_property
    def _controllers(self) -> dict[str, str]:
        return controllers(self._evidence.gateway_classes)

    @cached_property
    def _unserved(self) -> list[ApiGateway]:
        listeners = self._ingress.all.listeners
        served = {(each.namespace, each.name) for each in listeners if each.api}
        return [
            each
            for each in self._evidence.api_gateways
            if (each.metadata.namespace, each.metadata.name) not in served
        ]
