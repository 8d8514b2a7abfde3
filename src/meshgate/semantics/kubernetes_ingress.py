"""Kubernetes Ingress objects as istiod translates them: into Gateways and VirtualServices.

As in pilot/pkg/config/kube/ingress, which did not change from 1.28 to 1.31.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshgate.semantics.hosts import fully_qualified
from meshgate.semantics.listeners import FROM_INGRESS
from meshgate.snapshot.istio import (
    Destination,
    Gateway,
    GatewaySpec,
    HttpMatch,
    HttpRoute,
    Port,
    PortSelector,
    RouteDestination,
    Server,
    ServerTls,
    StringMatch,
    VirtualService,
    VirtualServiceSpec,
)
from meshgate.snapshot.kubernetes import Metadata, Service
from meshgate.snapshot.kubernetes_ingress import BackendService, Ingress, IngressClass, IngressPath

CONTROLLER = "istio.io/ingress-controller"

# paths that istiod takes for no path at all
_EVERYTHING = ("", "*", "/*", ".*")


class IngressSettings(NamedTuple):
    """The mesh config's settings for Kubernetes Ingress.

    Attributes:
        mode: `OFF`, `STRICT` (only Ingresses of Istio's class) or `DEFAULT` (also those of none).
        annotation: the value of the annotation kubernetes.io/ingress.class that is Istio's.
        selector: the value of the label `istio` of the gateway's pods.
    """

    mode: str = "STRICT"
    annotation: str = "istio"
    selector: str = "ingressgateway"


def served(ingress: Ingress, classes: Iterable[IngressClass], settings: IngressSettings) -> bool:
    """Return whether istiod serves an Ingress (shouldProcessIngressWithClass).

    Args:
        ingress: the Ingress.
        classes: all IngressClasses.
        settings: of the mesh config.

    Returns:
        Whether its class is Istio's.
    """
    annotated = ingress.metadata.annotations.ingress_class
    if annotated is not None:
        return settings.mode != "OFF" and annotated == settings.annotation
    named = next((e for e in classes if e.metadata.name == ingress.spec.ingress_class_name), None)
    if named is not None:
        return named.spec.controller == CONTROLLER
    return settings.mode == "DEFAULT"


def gateway(ingress: Ingress, settings: IngressSettings) -> Gateway:
    """Return the Gateway that istiod derives: port 80 for all hosts, port 443 for each Secret."""
    metadata = ingress.metadata
    secured = [
        Server(
            port=Port(number=443, protocol="HTTPS", name=f"https-{number}"),
            hosts=tls.hosts or ("*",),
            tls=ServerTls(mode="SIMPLE", credential_name=tls.secret_name),
        )
        for number, tls in enumerate(ingress.spec.tls)
        if tls.secret_name
    ]
    plain = Server(port=Port(number=80, protocol="HTTP", name="http"), hosts=("*",))
    return Gateway(
        metadata=_derived(metadata),
        spec=GatewaySpec(selector={"istio": settings.selector}, servers=(*secured, plain)),
    )


def virtual_services(
    ingress: Ingress, services: Iterable[Service], domain: str
) -> Iterator[VirtualService]:
    """Return the VirtualServices that istiod derives, one for each host.

    Args:
        ingress: the Ingress.
        services: all Services, for ports that are named.
        domain: the cluster's.

    Yields:
        VirtualServices whose routes have their path as their name.
    """
    metadata = _derived(ingress.metadata)
    by_host: dict[str, list[HttpRoute]] = {}
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            route = _route(path, metadata.namespace, services, domain)
            by_host.setdefault(rule.host or "*", []).extend([route] if route else [])
    for host, routes in by_host.items():
        yield VirtualService(
            metadata=metadata,
            spec=VirtualServiceSpec(
                hosts=(host,),
                gateways=(f"{metadata.namespace}/{metadata.name}",),
                http=tuple(sorted(routes, key=precedence)),
            ),
        )


def precedence(route: HttpRoute) -> tuple[int, bool]:
    """Return the key that orders the routes of Ingresses: the longest path first, exact first."""
    uri = route.match[0].uri if route.match else None
    if uri is None:
        return 1, True
    path = uri.exact if uri.exact is not None else uri.prefix or ""
    return -len(path), uri.exact is None


def _derived(metadata: Metadata) -> Metadata:
    return msgspec.structs.replace(metadata, name=metadata.name + FROM_INGRESS)


def _route(
    path: IngressPath, namespace: str, services: Iterable[Service], domain: str
) -> HttpRoute | None:
    """Return the route of a path; None where istiod ignores it for its backend."""
    backend = path.backend.service
    port = _port(backend, namespace, services) if backend else 0
    if backend is None or not port:
        return None
    uri = _uri(path)
    host = fully_qualified(backend.name, namespace, domain)
    return HttpRoute(
        name=path.path or "*",
        match=(HttpMatch(uri=uri),) if uri else (),
        route=(
            RouteDestination(destination=Destination(host=host, port=PortSelector(number=port))),
        ),
    )


def _port(backend: BackendService, namespace: str, services: Iterable[Service]) -> int:
    if backend.port.number:
        return backend.port.number
    return next(
        (
            port.port
            for service in services
            if (service.metadata.namespace, service.metadata.name) == (namespace, backend.name)
            for port in service.spec.ports
            if port.name == backend.port.name
        ),
        0,
    )


def _uri(path: IngressPath) -> StringMatch | None:
    text = path.path
    if path.path_type == "Exact":
        return StringMatch(exact=text)
    if path.path_type == "Prefix":
        return StringMatch(prefix=text)
    if text in _EVERYTHING:
        return None
    for suffix in (".*", "/*"):
        if text.endswith(suffix):
            return StringMatch(prefix=text.removesuffix(suffix))
    return StringMatch(exact=text)
