"""Build the evidence of stage C in a line or two; healthy unless a test changes it."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.facts.mesh import Mesh
from meshgate.semantics.requests import planned_requests
from meshgate.semantics.topology import GatewayTopology, RoutingConfig
from meshgate.snapshot.gateway_api import (
    ApiGateway,
    BackendReference,
    GatewayStatus,
    ListenerStatus,
    ListenerTls,
    ObservedCondition,
    ParentReference,
    ParentStatus,
    Route,
    RouteMatch,
    RouteRule,
    RouteSpec,
    RouteStatus,
)
from meshgate.snapshot.gateway_api import GatewaySpec as ApiGatewaySpec
from meshgate.snapshot.gateway_api import Listener as ApiListener
from meshgate.snapshot.ingress import Exchange, Ingress, Request, Vantage
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
    VirtualService,
    VirtualServiceSpec,
)
from meshgate.snapshot.kubernetes import (
    Container,
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Metadata,
    Pod,
    PodSpec,
    PodTemplate,
    Service,
    ServicePort,
    ServiceSpec,
    TargetReference,
    TemplateMetadata,
)
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.wire import Certificate
from tests.support import builders
from tests.support.builders import AT, VERSION

NAMESPACE = "ways"
LABELS = {"istio": "front"}
HOST = "shop.example.com"
WEB = "web.shop.svc.cluster.local:80"


def gateway_pod(*, version: str = VERSION, labels: dict[str, str] | None = None, **of: Any) -> Pod:
    """A replica of the gateway."""
    made = builders.pod(
        "front-1",
        NAMESPACE,
        containers=[builders.running("istio-proxy")],
        labels=LABELS if labels is None else labels,
        **of,
    )
    image = f"example.test/istio/proxyv2:{version}"
    spec = PodSpec(containers=(Container(name="istio-proxy", image=image),))
    return Pod(metadata=made.metadata, spec=spec, status=made.status)


def gateway_deployment(
    replicas: int = 1,
    *,
    updated: int | None = None,
    labels: dict[str, str] | None = None,
    namespace: str = NAMESPACE,
) -> Deployment:
    """The gateway's Deployment."""
    there = replicas if updated is None else updated
    return Deployment(
        metadata=Metadata(name="front", namespace=namespace, generation=1),
        spec=DeploymentSpec(
            replicas=replicas,
            template=PodTemplate(metadata=TemplateMetadata(labels=labels or LABELS)),
        ),
        status=DeploymentStatus(
            observed_generation=1,
            replicas=replicas,
            updated_replicas=there,
            available_replicas=there,
        ),
    )


def service(*ports: int, **spec: Any) -> Service:
    """The Service in front of it."""
    return Service(
        metadata=Metadata(name="front", namespace=NAMESPACE),
        spec=ServiceSpec(
            **{
                "selector": LABELS,
                "cluster_ips": ("127.0.0.1",),
                "ports": tuple(
                    ServicePort(port=port, name=f"p{port}", target_port=port + 8000)
                    for port in ports or (80, 443)
                ),
                **spec,
            }
        ),
    )


def endpoints(*ports: int) -> EndpointSlice:
    """The gateway's one endpoint."""
    return EndpointSlice(
        metadata=Metadata(
            name="front-x", namespace=NAMESPACE, labels={"kubernetes.io/service-name": "front"}
        ),
        endpoints=(
            Endpoint(
                addresses=("127.0.0.1",), target_ref=TargetReference(kind="Pod", name="front-1")
            ),
        ),
        ports=tuple(EndpointPort(name=f"p{port}", port=port + 8000) for port in ports or (80, 443)),
    )


def server(
    port: int = 80, protocol: str = "HTTP", *hosts: str, mode: str = "", redirects: bool = False
) -> Server:
    """A server of Istio's Gateway."""
    tls = ServerTls(mode=mode, https_redirect=redirects, credential_name="a-cert" if mode else "")
    return Server(
        port=Port(number=port, protocol=protocol, name=f"{protocol.lower()}-{port}"),
        hosts=hosts or (HOST,),
        tls=tls if mode or redirects else None,
    )


def gateway(*servers: Server) -> Gateway:
    """Istio's Gateway: HTTP and HTTPS for one host."""
    return Gateway(
        metadata=Metadata(name="front", namespace=NAMESPACE),
        spec=GatewaySpec(
            selector=LABELS,
            servers=servers or (server(), server(443, "HTTPS", mode="SIMPLE")),
        ),
    )


def to(host: str = "web.shop.svc.cluster.local", subset: str = "") -> RouteDestination:
    """A destination on port 80."""
    return RouteDestination(
        destination=Destination(host=host, subset=subset, port=PortSelector(number=80))
    )


def rule(*matches: HttpMatch, name: str = "web", subset: str = "", **more: Any) -> HttpRoute:
    """One entry of a VirtualService."""
    return HttpRoute(**{"name": name, "match": matches, "route": (to(subset=subset),), **more})


def virtual_service(*rules: HttpRoute, hosts: Iterable[str] = (HOST,)) -> VirtualService:
    """A VirtualService at the gateway."""
    return VirtualService(
        metadata=Metadata(name="shop", namespace="shop"),
        spec=VirtualServiceSpec(
            hosts=tuple(hosts), gateways=(f"{NAMESPACE}/front",), http=rules or (rule(),)
        ),
    )


def condition(type: str, status: str = "True", **more: Any) -> ObservedCondition:
    """A condition about generation 1."""
    return ObservedCondition(
        **{"type": type, "status": status, "reason": "Because", "observed_generation": 1, **more}
    )


IN_EFFECT = (condition("Accepted"), condition("Programmed"), condition("ResolvedRefs"))


def api_gateway(
    *conditions: ObservedCondition,
    listener: ApiListener | None = None,
    listening: tuple[ObservedCondition, ...] = IN_EFFECT,
    attached: int = 1,
) -> ApiGateway:
    """The Gateway API's Gateway `api`, with one listener."""
    listener = listener or ApiListener(name="http", port=80, protocol="HTTP", hostname=HOST)
    return ApiGateway(
        metadata=Metadata(name="api", namespace=NAMESPACE, generation=1),
        spec=ApiGatewaySpec(gateway_class_name="istio", listeners=(listener,)),
        status=GatewayStatus(
            conditions=conditions or IN_EFFECT,
            listeners=(
                ListenerStatus(name=listener.name, attached_routes=attached, conditions=listening),
            ),
        ),
    )


PASSED = ApiListener(
    name="tls", port=443, protocol="TLS", hostname=HOST, tls=ListenerTls(mode="Passthrough")
)
API_LABELS = {"gateway.networking.k8s.io/gateway-name": "api"}


def api_route(
    *matches: RouteMatch, conditions: tuple[ObservedCondition, ...] = IN_EFFECT, **rule: Any
) -> Route:
    """A route of any kind at the Gateway `api`."""
    parent = ParentReference(name="api", namespace=NAMESPACE)
    backend = BackendReference(name="web", port=80)
    return Route(
        metadata=Metadata(name="web", namespace="shop", generation=1),
        spec=RouteSpec(
            parent_refs=(parent,),
            hostnames=(HOST,),
            rules=(RouteRule(matches=matches, backend_refs=(backend,), **rule),),
        ),
        status=RouteStatus(parents=(ParentStatus(parent_ref=parent, conditions=conditions),)),
    )


def certificate(*names: str, days: float = 90, age: float = 1) -> Certificate:
    """What a listener serves."""
    return Certificate(
        subject=f"CN={HOST}",
        not_before=AT - timedelta(days=age),
        not_after=AT + timedelta(days=days),
        sans=names or (HOST,),
    )


def answered(request: Request, **seen: Any) -> Exchange:
    """A request that went well."""
    well: dict[str, Any] = {"certificate": certificate(), "fingerprint": "f1", "alpn": "h2"}
    well |= {"tls_version": "TLSv1.3"}
    given = well if request.tls else {}
    if request.tls_version in ("TLSv1", "TLSv1.1"):
        alert = "TLSV1_ALERT_PROTOCOL_VERSION"
        given = {"stage": "handshake", "error": "refused", "alert": alert}
    elif request.tls_version:
        given |= {"tls_version": request.tls_version}
    elif request.tls == "MUTUAL" and not request.certificate:
        given |= {"stage": "request", "error": "refused", "alert": "TLSV13_CERTIFICATE_REQUIRED"}
    elif request.kind == "request":
        given |= {"status": request.expected or 200, "upstream": not request.expected}
    return Exchange(request=request, **{**given, **seen})


def topology(**lists: Any) -> GatewayTopology:
    """The ways in of a mesh that is well but for these lists."""
    held = {**HEALTHY, **lists}
    names = [name for name in RoutingConfig._fields if name != "slices"]
    otherwise: dict[str, Any] = RoutingConfig._field_defaults
    filled: dict[str, Any] = {name: held.get(name, otherwise.get(name, ())) for name in names}
    return GatewayTopology(RoutingConfig(**filled, slices=held["endpoint_slices"]))


def requests(identified: bool = False, /, **lists: Any) -> list[Request]:
    """All that would be sent from inside."""
    there = topology(**lists)
    return [
        planned_request.request(listener, "inside", entrypoint.subject)
        for listener in there.listeners
        for entrypoint in there.entrypoints(listener)
        for planned_request in planned_requests(there, listener, identified=identified)
    ]


def traffic(*exchanges: Exchange, **more: Any) -> Ingress:
    """What was sent, from inside alone."""
    outside = Vantage(name="outside", unused="there is no address")
    return Ingress(exchanges=exchanges, **{"vantages": (Vantage(name="inside"), outside), **more})


def well(**lists: Any) -> dict[str, Any]:
    """These lists, and traffic that they answer."""
    sent = traffic(*(answered(each) for each in requests(**lists)))
    return {**HEALTHY, "ingress": sent, **lists}


def snapshot(**changes: Any) -> Snapshot:
    """A mesh with one gateway that is well but for these changes."""
    lists = {name: value for name, value in changes.items() if name in HEALTHY}
    return builders.snapshot(**{**well(**lists), **changes})


def mesh(**changes: Any) -> Mesh:
    """The facts of that mesh."""
    return Mesh(snapshot(**changes))


def gateways(**changes: Any) -> IngressGateways:
    """What all facts about its gateways share."""
    return mesh(**changes).ingress


HEALTHY: dict[str, Any] = {
    "pods": (builders.istiod(), builders.sidecar(), gateway_pod()),
    "deployments": (builders.deployment(), gateway_deployment()),
    "services": (service(),),
    "endpoint_slices": (endpoints(),),
    "gateways": (gateway(),),
    "virtual_services": (virtual_service(),),
    "destination_rules": (),
    "api_gateways": (),
    "http_routes": (),
    "grpc_routes": (),
    "tls_routes": (),
}
