"""Every collected item, declared once: a field of `Items` is the item's name, type and source.

From these rows follow the Snapshot's fields, what Evidence gives to the facts, the lists that a
capture reads, the ClusterRole, the closure of what checks read, and the catalogue's groups.  A new
Kubernetes kind is its type in `snapshot/` and one row here.
"""

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from meshgate.snapshot.ambient import AmbientReading, ZtunnelReading
from meshgate.snapshot.base import Base
from meshgate.snapshot.declared_pairs import PairAnswers
from meshgate.snapshot.gateway_api import (
    ApiGateway,
    BackendTlsPolicy,
    GatewayClass,
    ListenerSet,
    Route,
)
from meshgate.snapshot.hbone import TunnelProbes
from meshgate.snapshot.image_pulls import ImagePulls
from meshgate.snapshot.ingress import Ingress
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    DestinationRule,
    EnvoyFilter,
    Gateway,
    PeerAuthentication,
    ServiceEntry,
    VirtualService,
    WorkloadEntry,
)
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.istiod import IstiodMetrics, IstiodReading
from meshgate.snapshot.kubernetes import (
    Controller,
    Deployment,
    EndpointSlice,
    Event,
    Job,
    Namespace,
    NetworkPolicy,
    Pod,
    RootCertificate,
    Service,
)
from meshgate.snapshot.kubernetes_ingress import Ingress as KubernetesIngress
from meshgate.snapshot.kubernetes_ingress import IngressClass
from meshgate.snapshot.mcs import MCS_GROUP, MCS_VERSION, ServiceImport
from meshgate.snapshot.mesh_config import MeshConfig
from meshgate.snapshot.mtls import PortProbes
from meshgate.snapshot.new_pods import LimitRange, NewPods, ResourceQuota
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.request_authentication import RequestAuthentication
from meshgate.snapshot.retry_after import Burst, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.sources import (
    GATEWAY_API,
    GROUPS,
    NETWORKING,
    SECURITY,
    WEBHOOKS,
    Kind,
    Listed,
    Source,
)
from meshgate.snapshot.telemetry import Telemetry
from meshgate.snapshot.traffic_metrics import TrafficMetrics
from meshgate.snapshot.upgrade import (
    Definition,
    DisruptionBudget,
    IstioCrd,
    Node,
    Settings,
    Workload,
)
from meshgate.snapshot.wasm import WasmLoads, WasmPlugin
from meshgate.snapshot.webhooks import WebhookConfiguration
from meshgate.snapshot.wire import Admission, Signing


def _absent() -> Any:
    """Return the default of an item that is one object: None, for which Evidence raises."""
    return msgspec.field(default=None)


def _hbone(reader: str, *requires: str) -> Source:
    after = ("injector_configs",)
    return Source(f"hbone:{reader}", requires=("@wire", *requires), after=after, ambient=True)


class Items(Base, frozen=True):
    """The fields of a Snapshot that checks read, each with the row that says where it is from."""

    namespaces: Annotated[tuple[Namespace, ...], Listed("", "namespaces")] = ()
    pods: Annotated[tuple[Pod, ...], Listed("", "pods")] = ()
    deployments: Annotated[tuple[Deployment, ...], Listed("apps", "deployments")] = ()
    stateful_sets: Annotated[tuple[Controller, ...], Listed("apps", "statefulsets")] = ()
    daemon_sets: Annotated[tuple[Controller, ...], Listed("apps", "daemonsets")] = ()
    jobs: Annotated[tuple[Job, ...], Listed("batch", "jobs")] = ()
    # why controllers could not create pods
    creation_events: Annotated[
        tuple[Event, ...], Listed("", "events", only="reason=FailedCreate")
    ] = ()
    # why the kubelet could not start pods: among others, because the CNI plugin failed
    sandbox_events: Annotated[
        tuple[Event, ...],
        Listed("", "events", only="reason=FailedCreatePodSandBox", ambient=True),
    ] = ()
    services: Annotated[tuple[Service, ...], Listed("", "services")] = ()
    endpoint_slices: Annotated[
        tuple[EndpointSlice, ...], Listed("discovery.k8s.io", "endpointslices")
    ] = ()
    root_certificates: Annotated[
        tuple[RootCertificate, ...],
        Listed("", "configmaps", only="metadata.name=istio-ca-root-cert"),
    ] = ()
    disruption_budgets: Annotated[
        tuple[DisruptionBudget, ...], Listed("policy", "poddisruptionbudgets")
    ] = ()
    network_policies: Annotated[
        tuple[NetworkPolicy, ...], Listed("networking.k8s.io", "networkpolicies")
    ] = ()
    resource_quotas: Annotated[tuple[ResourceQuota, ...], Listed("", "resourcequotas")] = ()
    limit_ranges: Annotated[tuple[LimitRange, ...], Listed("", "limitranges")] = ()
    nodes: Annotated[tuple[Node, ...], Listed("", "nodes")] = ()
    definitions: Annotated[
        tuple[Definition, ...], Listed("apiextensions.k8s.io", "customresourcedefinitions")
    ] = ()
    mutating_webhooks: Annotated[
        tuple[WebhookConfiguration, ...], Listed(WEBHOOKS, "mutatingwebhookconfigurations")
    ] = ()
    validating_webhooks: Annotated[
        tuple[WebhookConfiguration, ...], Listed(WEBHOOKS, "validatingwebhookconfigurations")
    ] = ()

    envoy_filters: Annotated[
        tuple[EnvoyFilter, ...],
        Listed(NETWORKING, "envoyfilters", ("v1alpha3",), optional=True),
    ] = ()
    peer_authentications: Annotated[
        tuple[PeerAuthentication, ...],
        Listed(SECURITY, "peerauthentications", ("v1", "v1beta1"), optional=True),
    ] = ()
    authorization_policies: Annotated[
        tuple[AuthorizationPolicy, ...],
        Listed(SECURITY, "authorizationpolicies", ("v1", "v1beta1"), optional=True),
    ] = ()
    request_authentications: Annotated[
        tuple[RequestAuthentication, ...],
        Listed(SECURITY, "requestauthentications", ("v1", "v1beta1"), optional=True),
    ] = ()
    telemetries: Annotated[
        tuple[Telemetry, ...],
        Listed("telemetry.istio.io", "telemetries", ("v1", "v1alpha1"), optional=True),
    ] = ()
    gateways: Annotated[
        tuple[Gateway, ...],
        Listed(NETWORKING, "gateways", ("v1", "v1beta1", "v1alpha3"), optional=True),
    ] = ()
    virtual_services: Annotated[
        tuple[VirtualService, ...],
        Listed(NETWORKING, "virtualservices", ("v1", "v1beta1", "v1alpha3"), optional=True),
    ] = ()
    destination_rules: Annotated[
        tuple[DestinationRule, ...],
        Listed(NETWORKING, "destinationrules", ("v1", "v1beta1", "v1alpha3"), optional=True),
    ] = ()
    service_entries: Annotated[
        tuple[ServiceEntry, ...],
        Listed(NETWORKING, "serviceentries", ("v1", "v1beta1", "v1alpha3"), optional=True),
    ] = ()
    wasm_plugins: Annotated[
        tuple[WasmPlugin, ...],
        Listed("extensions.istio.io", "wasmplugins", ("v1alpha1",), optional=True),
    ] = ()
    workload_entries: Annotated[
        tuple[WorkloadEntry, ...],
        Listed(NETWORKING, "workloadentries", ("v1", "v1beta1", "v1alpha3"), optional=True),
    ] = ()
    # istiod ignores the newer versions unless its environment names one
    service_imports: Annotated[
        tuple[ServiceImport, ...],
        Listed(MCS_GROUP, "serviceimports", (MCS_VERSION, "v1beta1", "v1"), optional=True),
    ] = ()

    api_gateways: Annotated[
        tuple[ApiGateway, ...], Listed(GATEWAY_API, "gateways", ("v1", "v1beta1"), optional=True)
    ] = ()
    gateway_classes: Annotated[
        tuple[GatewayClass, ...],
        Listed(GATEWAY_API, "gatewayclasses", ("v1", "v1beta1"), optional=True),
    ] = ()
    listener_sets: Annotated[
        tuple[ListenerSet, ...], Listed(GATEWAY_API, "listenersets", optional=True)
    ] = ()
    http_routes: Annotated[
        tuple[Route, ...], Listed(GATEWAY_API, "httproutes", ("v1", "v1beta1"), optional=True)
    ] = ()
    grpc_routes: Annotated[
        tuple[Route, ...], Listed(GATEWAY_API, "grpcroutes", ("v1", "v1alpha2"), optional=True)
    ] = ()
    tls_routes: Annotated[
        tuple[Route, ...],
        Listed(GATEWAY_API, "tlsroutes", ("v1", "v1alpha3", "v1alpha2"), optional=True),
    ] = ()
    tcp_routes: Annotated[
        tuple[Route, ...], Listed(GATEWAY_API, "tcproutes", ("v1", "v1alpha2"), optional=True)
    ] = ()
    udp_routes: Annotated[
        tuple[Route, ...], Listed(GATEWAY_API, "udproutes", ("v1", "v1alpha2"), optional=True)
    ] = ()
    ingresses: Annotated[
        tuple[KubernetesIngress, ...], Listed("networking.k8s.io", "ingresses")
    ] = ()
    ingress_classes: Annotated[
        tuple[IngressClass, ...], Listed("networking.k8s.io", "ingressclasses")
    ] = ()
    # experimental bundles before 1.4 serve only alpha versions, which Istio 1.28 and later ignores
    backend_tls_policies: Annotated[
        tuple[BackendTlsPolicy, ...],
        Listed(GATEWAY_API, "backendtlspolicies", ("v1", "v1alpha3", "v1alpha2"), optional=True),
    ] = ()

    istiod: Annotated[
        tuple[IstiodReading, ...], Source("readers:read_istiod", requires=("pods",))
    ] = ()
    ambient_index: Annotated[
        tuple[AmbientReading, ...],
        Source("ambient:read_index", requires=("namespaces", "pods"), ambient=True),
    ] = ()
    ztunnels: Annotated[
        tuple[ZtunnelReading, ...],
        Source("ambient:read_ztunnels", requires=("namespaces", "pods"), ambient=True),
    ] = ()
    istiod_metrics: Annotated[
        tuple[IstiodMetrics, ...], Source("readers:read_metrics", requires=("pods",))
    ] = ()
    analysis: Annotated[Analysis, Source("readers:read_analysis")] = _absent()
    wasm_loads: Annotated[
        tuple[WasmLoads, ...],
        Source(
            "wasm:read",
            requires=("namespaces", "pods", "wasm_plugins"),
            after=("injector_configs",),
        ),
    ] = ()
    istio_crds: Annotated[tuple[IstioCrd, ...], Source("istio_crds:read")] = ()
    injector_configs: Annotated[
        tuple[InjectorConfig, ...], Source("injector_configs:read", requires=("pods",))
    ] = ()
    mesh_configs: Annotated[
        tuple[MeshConfig, ...], Source("mesh_config:read", requires=("pods",))
    ] = ()
    admission: Annotated[
        Admission,
        Source(
            "readers:read_admission",
            requires=("namespaces", "pods", "@webhooks"),
            after=("injector_configs",),
        ),
    ] = _absent()
    new_pods: Annotated[
        NewPods, Source("new_pods:read", requires=("namespaces", "pods", "@webhooks"))
    ] = _absent()
    signing: Annotated[
        Signing, Source("connections:read_signing", requires=("pods", "root_certificates"))
    ] = _absent()
    retry_filters: Annotated[
        RetryFilters,
        Source(
            "readers:read_retry_filters",
            requires=("namespaces", "pods", "istiod"),
            after=("injector_configs",),
        ),
    ] = _absent()
    bursts: Annotated[tuple[Burst, ...], Source("readers:read_bursts")] = ()
    port_probes: Annotated[
        PortProbes,
        Source("connections:read_port_probes", requires=("@wire",), after=("injector_configs",)),
    ] = _absent()
    ambient_probes: Annotated[TunnelProbes, _hbone("read_ambient_probes")] = _absent()
    waypoint_probes: Annotated[
        TunnelProbes, _hbone("read_waypoint_probes", "api_gateways", "gateway_classes")
    ] = _absent()
    pair_answers: Annotated[
        PairAnswers,
        Source(
            "connections:read_declared_pairs",
            requires=("@wire", "api_gateways", "gateway_classes"),
            after=("injector_configs",),
        ),
    ] = _absent()
    # after istiod, which would otherwise report two proxies that the list of pods does not have
    pair: Annotated[
        Pair,
        Source(
            "connections:read_pair",
            requires=("namespaces", "pods", "services", "istiod"),
            after=("retry_filters", "injector_configs"),
            cleans_up=True,
        ),
    ] = _absent()
    image_pulls: Annotated[
        ImagePulls, Source("readers:read_image_pulls", requires=("nodes",), cleans_up=True)
    ] = _absent()
    traffic_metrics: Annotated[
        TrafficMetrics,
        Source(
            "readers:read_traffic_metrics",
            requires=("namespaces", "pods"),
            after=("injector_configs",),
        ),
    ] = _absent()
    istioctl: Annotated[str, Source("readers:read_istioctl")] = ""
    precheck: Annotated[Analysis, Source("readers:read_precheck")] = _absent()
    settings: Annotated[tuple[Settings, ...], Source("readers:read_settings")] = ()
    workloads: Annotated[tuple[Workload, ...], Source("readers:read_workloads")] = ()
    ingress: Annotated[Ingress, Source("readers:read_ingress", requires=("@routing",))] = _absent()
    shadow: Annotated[
        Shadow, Source("readers:read_shadow", requires=("@running",), cleans_up=True)
    ] = _absent()
    offline_bundle: Annotated[
        OfflineBundle, Source("readers:read_offline_bundle", requires=("@running",))
    ] = _absent()


ISTIOD, INGRESS, SHADOW, OFFLINE_BUNDLE = "istiod", "ingress", "shadow", "offline_bundle"


def _rows() -> dict[str, tuple[Any, Listed | Source]]:
    hints = get_type_hints(Items, include_extras=True)
    return {name: get_args(hints[name])[:2] for name in Items.__struct_fields__}


def _kind(item: str, type_: Any, row: Listed) -> Kind:
    newest, *older = row.versions
    object_type = get_args(type_)[0]
    how = (row.optional, row.only, tuple(older))
    return Kind(item, row.group, newest, row.resource, object_type, *how)


KINDS = {
    item: _kind(item, type_, row)
    for item, (type_, row) in _rows().items()
    if isinstance(row, Listed)
}
ISTIO_KINDS = tuple(
    each for each in KINDS.values() if each.group == NETWORKING or each.group.endswith(".istio.io")
)
AMBIENT = frozenset(item for item, (_, row) in _rows().items() if row.ambient)
SOURCES = {item: row for item, (_, row) in _rows().items() if isinstance(row, Source)}
ITEMS = frozenset(Items.__struct_fields__)


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Return the items of these names, with every `@group` resolved.

    Raises ValueError for a name that is neither an item nor a group.
    """
    found: dict[str, None] = {}
    for name in names:
        if name.startswith("@") and name[1:] in GROUPS:
            found |= dict.fromkeys(expand(GROUPS[name[1:]]))
        elif name in ITEMS:
            found[name] = None
        else:
            raise ValueError(f"unknown item: {name}")
    return tuple(found)


def requires(item: str) -> tuple[str, ...]:
    """Return the items that must have been read in full before this one."""
    return expand(SOURCES[item].requires) if item in SOURCES else ()


def closure(items: Iterable[str]) -> frozenset[str]:
    """Return the items with all that they require; raise ValueError for an unknown name."""
    wanted: set[str] = set()
    new = set(expand(items))
    while new:
        wanted |= new
        new = {each for item in new for each in requires(item)} - wanted
    return frozenset(wanted)
