"""The Gateway API's resources, as far as facts use them."""

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Metadata


class ObservedCondition(Base, frozen=True):
    """A condition, and which generation of its object it speaks of."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class ListenerTls(Base, frozen=True):
    """`options` may set Istio's mode, such as `gateway.istio.io/tls-terminate-mode: MUTUAL`."""

    mode: str = "Terminate"
    options: dict[str, str] = {}


class RouteNamespaces(Base, frozen=True):
    """Namespaces whose routes may be attached: `Same`, `All`, or those of the selector."""

    from_: str = msgspec.field(default="Same", name="from")
    selector: LabelSelector | None = None


class RouteKind(Base, frozen=True):
    kind: str


class AllowedRoutes(Base, frozen=True):
    """The routes that a listener accepts; without kinds those of its protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteKind, ...] = ()


class Listener(Base, frozen=True):
    """A listener; the API server always sets `allowed_routes`, which older snapshots lack."""

    name: str
    port: int
    protocol: str
    hostname: str = ""
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(Base, frozen=True):
    """A Hostname names the Service of a gateway that Istio does not deploy itself."""

    type: str = "IPAddress"
    value: str = ""


class FrontendValidation(Base, frozen=True):
    """Whether clients must show a certificate: `AllowValidOnly` (the default) or not."""

    mode: str = ""


class FrontendTls(Base, frozen=True):
    validation: FrontendValidation | None = None


class PortFrontendTls(Base, frozen=True):
    port: int = 0
    tls: FrontendTls = FrontendTls()


class Frontend(Base, frozen=True):
    default: FrontendTls = FrontendTls()
    per_port: tuple[PortFrontendTls, ...] = ()


class GatewayTls(Base, frozen=True):
    """TLS of a whole Gateway, towards its clients."""

    frontend: Frontend | None = None


class ListenerNamespaces(Base, frozen=True):
    """Namespaces whose ListenerSets may be attached: `None`, `Same`, `All`, or the selector's."""

    from_: str = msgspec.field(default="None", name="from")
    selector: LabelSelector | None = None


class AllowedListeners(Base, frozen=True):
    namespaces: ListenerNamespaces = ListenerNamespaces()


class GatewaySpec(Base, frozen=True):
    gateway_class_name: str = ""
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[GatewayAddress, ...] = ()
    allowed_listeners: AllowedListeners = AllowedListeners()
    tls: GatewayTls | None = None


class GatewayClassSpec(Base, frozen=True):
    controller_name: str = ""


class GatewayClass(Base, frozen=True):
    metadata: Metadata
    spec: GatewayClassSpec = GatewayClassSpec()


class ListenerStatus(Base, frozen=True):
    name: str
    attached_routes: int = 0
    conditions: tuple[ObservedCondition, ...] = ()


class GatewayStatus(Base, frozen=True):
    conditions: tuple[ObservedCondition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()


class ApiGateway(Base, frozen=True):
    """A Gateway of the Gateway API; Istio's own of the same name is `istio.Gateway`."""

    metadata: Metadata
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class ListenerSetParent(Base, frozen=True):
    """The Gateway that a ListenerSet adds its listeners to."""

    name: str
    namespace: str = ""
    kind: str = "Gateway"
    group: str = "gateway.networking.k8s.io"


class ListenerSetSpec(Base, frozen=True):
    parent_ref: ListenerSetParent | None = None
    listeners: tuple[Listener, ...] = ()


class ListenerSet(Base, frozen=True):
    """Listeners that are added to a Gateway (standard channel from bundle 1.5 on)."""

    metadata: Metadata
    spec: ListenerSetSpec = ListenerSetSpec()
    status: GatewayStatus = GatewayStatus()


class ParentReference(Base, frozen=True):
    name: str
    namespace: str = ""
    kind: str = "Gateway"
    section_name: str = ""
    port: int = 0


class BackendReference(Base, frozen=True):
    name: str
    namespace: str = ""
    kind: str = "Service"
    port: int = 0
    weight: int = 1


class PathMatch(Base, frozen=True):
    type: str = "PathPrefix"
    value: str = "/"


class ValueMatch(Base, frozen=True):
    """A header or a query parameter."""

    name: str
    value: str
    type: str = "Exact"


class MethodMatch(Base, frozen=True):
    """A gRPC method."""

    type: str = "Exact"
    service: str = ""
    method: str = ""


class RouteMatch(Base, frozen=True):
    """One match of an HTTPRoute or a GRPCRoute: `method` is a word of HTTP, or a gRPC method."""

    path: PathMatch = PathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query_params: tuple[ValueMatch, ...] = ()
    method: str | MethodMatch = ""


class RedirectFilter(Base, frozen=True):
    scheme: str = ""
    hostname: str = ""
    status_code: int = 302


class RouteFilter(Base, frozen=True):
    type: str = ""
    request_redirect: RedirectFilter | None = None


class RouteRule(Base, frozen=True):
    matches: tuple[RouteMatch, ...] = ()
    filters: tuple[RouteFilter, ...] = ()
    backend_refs: tuple[BackendReference, ...] = ()


class RouteSpec(Base, frozen=True):
    parent_refs: tuple[ParentReference, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = ()


class ParentStatus(Base, frozen=True):
    parent_ref: ParentReference
    controller_name: str = ""
    conditions: tuple[ObservedCondition, ...] = ()


class RouteStatus(Base, frozen=True):
    parents: tuple[ParentStatus, ...] = ()


class Route(Base, frozen=True):
    """An HTTPRoute, GRPCRoute, TLSRoute, TCPRoute or UDPRoute: facts use the same fields."""

    metadata: Metadata
    spec: RouteSpec = RouteSpec()
    status: RouteStatus = RouteStatus()


class PolicyTarget(Base, frozen=True):
    """What a policy is attached to: a Service or a ServiceEntry, perhaps one port of it."""

    name: str
    kind: str = "Service"
    section_name: str = ""


class BackendTlsPolicySpec(Base, frozen=True):
    target_refs: tuple[PolicyTarget, ...] = ()


class AncestorStatus(Base, frozen=True):
    """What one controller says of a policy, for one of the objects that it affects."""

    controller_name: str = ""
    conditions: tuple[ObservedCondition, ...] = ()


class PolicyStatus(Base, frozen=True):
    ancestors: tuple[AncestorStatus, ...] = ()


class BackendTlsPolicy(Base, frozen=True):
    metadata: Metadata
    spec: BackendTlsPolicySpec = BackendTlsPolicySpec()
    status: PolicyStatus = PolicyStatus()
