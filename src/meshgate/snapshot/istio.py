"""Istio's own resources, as far as facts use them."""

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.conditions import AuthorizationCondition
from meshgate.snapshot.kubernetes import Metadata


class Present(Base, frozen=True):
    """Something of which only that it is there is of interest."""


class WorkloadSelector(Base, frozen=True):
    labels: dict[str, str] = {}


class ProxyMatch(Base, frozen=True):
    proxy_version: str = ""


class PatchMatch(Base, frozen=True):
    proxy: ProxyMatch | None = None


class PatchValue(Base, frozen=True):
    name: str = ""
    typed_config: Present | None = msgspec.field(default=None, name="typed_config")
    config_discovery: Present | None = msgspec.field(default=None, name="config_discovery")


class Patch(Base, frozen=True):
    operation: str = ""
    value: PatchValue | None = None


class ConfigPatch(Base, frozen=True):
    """One patch of an EnvoyFilter: its match, and the name of what it adds."""

    apply_to: str = ""
    match: PatchMatch | None = None
    patch: Patch = Patch()


class EnvoyFilterSpec(Base, frozen=True):
    workload_selector: WorkloadSelector | None = None
    config_patches: tuple[ConfigPatch, ...] = ()


class EnvoyFilter(Base, frozen=True):
    metadata: Metadata
    spec: EnvoyFilterSpec = EnvoyFilterSpec()


class Port(Base, frozen=True):
    number: int = 0
    protocol: str = ""
    name: str = ""


class ServerTls(Base, frozen=True):
    mode: str = ""
    https_redirect: bool = False
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    min_protocol_version: str = ""
    max_protocol_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class Server(Base, frozen=True):
    port: Port = Port()
    hosts: tuple[str, ...] = ()
    tls: ServerTls | None = None


class GatewaySpec(Base, frozen=True):
    selector: dict[str, str] = {}
    servers: tuple[Server, ...] = ()


class Gateway(Base, frozen=True):
    metadata: Metadata
    spec: GatewaySpec = GatewaySpec()


class StringMatch(Base, frozen=True):
    """One of the three; none of them means only that it is there."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HttpMatch(Base, frozen=True):
    uri: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    port: int = 0
    gateways: tuple[str, ...] = ()
    scheme: StringMatch | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    without_headers: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False


class PortSelector(Base, frozen=True):
    number: int = 0


class Destination(Base, frozen=True):
    host: str
    subset: str = ""
    port: PortSelector | None = None


class Mirrored(Base, frozen=True):
    """Where requests are mirrored to; older snapshots lack the host."""

    host: str = ""
    subset: str = ""


class MirrorPolicy(Base, frozen=True):
    destination: Mirrored = Mirrored()


class RouteDestination(Base, frozen=True):
    """A destination; the weight is unset where it is the only one."""

    destination: Destination
    weight: int | None = None


class Redirect(Base, frozen=True):
    redirect_code: int = 301


class DirectResponse(Base, frozen=True):
    status: int = 0


class Delegate(Base, frozen=True):
    """The VirtualService that has the routes; the namespace is the delegating one's if empty."""

    name: str = ""
    namespace: str = ""


class Percentage(Base, frozen=True):
    value: float = 0.0


class Abort(Base, frozen=True):
    """An error returned on purpose, for no request without a percentage; status 0 for gRPC."""

    http_status: int = 0
    percentage: Percentage | None = None


class Fault(Base, frozen=True):
    abort: Abort | None = None


class HttpRoute(Base, frozen=True):
    """One entry of a VirtualService's `http`."""

    name: str = ""
    match: tuple[HttpMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    mirror: Mirrored | None = None
    mirrors: tuple[MirrorPolicy, ...] = ()
    delegate: Delegate | None = None
    fault: Fault | None = None


class TlsMatch(Base, frozen=True):
    sni_hosts: tuple[str, ...] = ()
    port: int = 0
    gateways: tuple[str, ...] = ()
    source_labels: dict[str, str] = {}
    source_namespace: str = ""


class TlsRoute(Base, frozen=True):
    """One entry of a VirtualService's `tls`."""

    match: tuple[TlsMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class TcpMatch(Base, frozen=True):
    port: int = 0
    gateways: tuple[str, ...] = ()
    source_labels: dict[str, str] = {}
    source_namespace: str = ""


class TcpRoute(Base, frozen=True):
    """One entry of a VirtualService's `tcp`."""

    match: tuple[TcpMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Base, frozen=True):
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Base, frozen=True):
    metadata: Metadata
    spec: VirtualServiceSpec = VirtualServiceSpec()


class MutualTls(Base, frozen=True):
    mode: str = ""


class PeerSelector(Base, frozen=True):
    match_labels: dict[str, str] = {}


class PeerAuthenticationSpec(Base, frozen=True):
    selector: PeerSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[int, MutualTls] = {}


class PeerAuthentication(Base, frozen=True):
    metadata: Metadata
    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class ClientTls(Base, frozen=True):
    mode: str = ""


class RetryBudget(Base, frozen=True):
    percent: float | None = None


class OutlierDetection(Base, frozen=True):
    min_health_percent: int | None = None


class PortTraffic(Base, frozen=True):
    port: PortSelector = PortSelector()
    tls: ClientTls | None = None
    connection_pool: Present | None = None
    outlier_detection: OutlierDetection | None = None


class TrafficPolicy(Base, frozen=True):
    connection_pool: Present | None = None
    retry_budget: RetryBudget | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: tuple[PortTraffic, ...] = ()


class Subset(Base, frozen=True):
    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Base, frozen=True):
    host: str = ""
    subsets: tuple[Subset, ...] = ()
    traffic_policy: TrafficPolicy | None = None
    export_to: tuple[str, ...] = ()
    workload_selector: PeerSelector | None = None


class DestinationRule(Base, frozen=True):
    metadata: Metadata
    spec: DestinationRuleSpec = DestinationRuleSpec()


class WorkloadEntrySpec(Base, frozen=True):
    """Also an endpoint of a ServiceEntry."""

    labels: dict[str, str] = {}


class WorkloadEntry(Base, frozen=True):  # a machine outside the cluster that is in the mesh
    metadata: Metadata
    spec: WorkloadEntrySpec = WorkloadEntrySpec()


class AuthorizationSource(Base, frozen=True):
    """Who calls; a field that is not set asks for nothing."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class AuthorizationFrom(Base, frozen=True):
    source: AuthorizationSource = AuthorizationSource()


class AuthorizationOperation(Base, frozen=True):
    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class AuthorizationTo(Base, frozen=True):
    operation: AuthorizationOperation = AuthorizationOperation()


class AuthorizationRule(Base, frozen=True):
    from_: tuple[AuthorizationFrom, ...] = msgspec.field(default=(), name="from")
    to: tuple[AuthorizationTo, ...] = ()
    when: tuple[AuthorizationCondition, ...] = ()


class TargetRef(Base, frozen=True):
    kind: str = ""
    name: str = ""


class ExtensionProvider(Base, frozen=True):
    """The provider of the mesh config that a CUSTOM policy delegates to."""

    name: str = ""


class AuthorizationPolicySpec(Base, frozen=True):
    selector: PeerSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    action: str = "ALLOW"
    rules: tuple[AuthorizationRule, ...] = ()
    provider: ExtensionProvider | None = None


class AuthorizationPolicy(Base, frozen=True):
    metadata: Metadata
    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class ServiceEntryPort(Base, frozen=True):
    number: int
    protocol: str = ""


class ServiceEntrySpec(Base, frozen=True):
    hosts: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    addresses: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    resolution: str = ""
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: WorkloadSelector | None = None


class ServiceEntry(Base, frozen=True):
    metadata: Metadata
    spec: ServiceEntrySpec = ServiceEntrySpec()
