"""The listeners of the Gateway API's Gateways that Istio serves, and of their ListenerSets."""

from collections.abc import Iterator, Mapping

from meshgate.semantics.gateway_classes import UNMANAGED, controllers, parent_of
from meshgate.semantics.hosts import fully_qualified, service_name
from meshgate.semantics.listener_sets import is_added
from meshgate.semantics.listeners import TLS, Listener, admitted, cipher_suites, tls_mode
from meshgate.semantics.routing_config import RoutingConfig
from meshgate.semantics.workloads import GATEWAY_NAME, PROXY
from meshgate.snapshot.gateway_api import ApiGateway, ListenerSet
from meshgate.snapshot.gateway_api import Listener as ApiListener
from meshgate.snapshot.kubernetes import Metadata, PodSpec


def api_listeners(lists: RoutingConfig) -> Iterator[Listener]:
    """Yield the listeners of the Gateway API that Istio serves.

    A listener whose Gateway names several Services is yielded for each of them.
    """
    services = {_name(each.metadata): each for each in lists.services}
    for gateway in lists.api_gateways:
        if not _serves(lists, gateway):
            continue
        found = [_listener(lists, gateway, None, each) for each in gateway.spec.listeners]
        found += [
            _listener(lists, gateway, owner, each)
            for owner in _added(lists, gateway)
            for each in owner.spec.listeners
        ]
        for front in _named_services(gateway, lists.domain) or [""]:
            selector: Mapping[str, str] = {GATEWAY_NAME: gateway.metadata.name}
            if front:
                service = services.get(front)
                selector = (service.spec.selector if service else None) or {}
            for listener in found:
                yield listener._replace(
                    service=front,
                    selector=selector,
                    scope=front.partition("/")[0] if front else gateway.metadata.namespace,
                    others=_others(listener, found),
                )


def _serves(lists: RoutingConfig, gateway: ApiGateway) -> bool:
    """Return whether Istio is the controller of a Gateway.

    The GatewayClass says so, or without it the class's usual name.  A Gateway of an unknown class
    is Istio's if its pods run Istio's proxy.
    """
    name = gateway.spec.gateway_class_name
    known = controllers(lists.gateway_classes)
    if name in known:
        return known[name] in (lists.gateway_controller, UNMANAGED)
    labels = {GATEWAY_NAME: gateway.metadata.name}
    return any(
        has_proxy(deployment.spec.template.spec)
        for deployment in lists.deployments
        if deployment.metadata.namespace == gateway.metadata.namespace
        and labels.items() <= deployment.spec.template.metadata.labels.items()
    )


def has_proxy(spec: PodSpec) -> bool:
    """Return whether a pod's own template has Istio's proxy, as those of gateways have."""
    return any(each.name == PROXY for each in (*spec.containers, *spec.init_containers))


def _added(lists: RoutingConfig, gateway: ApiGateway) -> Iterator[ListenerSet]:
    """Yield the ListenerSets that add listeners to a Gateway."""
    own = (gateway.metadata.namespace, gateway.metadata.name)
    for each in lists.listener_sets:
        if parent_of(each) == own and is_added(gateway, each, lists.namespaces):
            yield each


def _named_services(gateway: ApiGateway, domain: str) -> list[str]:
    """Return the Services (`namespace/name`) of a gateway that was deployed by hand."""
    named = [
        service_name(fully_qualified(each.value, gateway.metadata.namespace, domain))
        for each in gateway.spec.addresses
        if each.type == "Hostname"
    ]
    return list(dict.fromkeys(named))


def _listener(
    lists: RoutingConfig, gateway: ApiGateway, added: ListenerSet | None, each: ApiListener
) -> Listener:
    """Return one listener, without what leads to its pods.

    Args:
        lists: all objects, for the namespaces that it accepts routes of.
        gateway: its Gateway.
        added: the ListenerSet that has it; None if the Gateway itself has.
        each: the listener.
    """
    kinds = each.allowed_routes.kinds if each.allowed_routes else ()
    return Listener(
        gateway.metadata.namespace,
        gateway.metadata.name,
        True,
        each.name,
        each.port,
        each.protocol,
        tls_mode(gateway, each),
        (each.hostname or "*",),
        False,
        "",
        {},
        "",
        ciphers=cipher_suites(each),
        mesh_least=TLS.get(lists.least_tls, ""),
        added_by=_name(added.metadata) if added else "",
        admits=admitted(each, (added or gateway).metadata.namespace, lists.namespaces),
        kinds=frozenset(kind.kind for kind in kinds),
    )


def _others(listener: Listener, all_of_gateway: list[Listener]) -> frozenset[str]:
    """Return the hosts of other listeners of the same port and protocol."""
    return frozenset(
        host
        for each in all_of_gateway
        if (each.port, each.protocol) == (listener.port, listener.protocol)
        for host in each.hosts
        if host not in ("*", *listener.hosts)
    )


def _name(metadata: Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}"
