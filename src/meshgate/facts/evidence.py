"""Access to a Snapshot that never mistakes *not seen* for *nothing there*."""

from meshgate.snapshot.gateway_api import ApiGateway, Route
from meshgate.snapshot.ingress import Ingress
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
    DisruptionBudget,
    EndpointSlice,
    Namespace,
    NetworkPolicy,
    Pod,
    RootCertificate,
    Service,
    WebhookConfiguration,
)
from meshgate.snapshot.model import Expectations, Gap, Snapshot
from meshgate.snapshot.mtls import Contacts
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.retry_after import Burst, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.upgrade import (
    Definition,
    Node,
    Settings,
    Workload,
)
from meshgate.snapshot.wire import Admission, Signing
from meshgate.verdict import CouldNotVerify


class Evidence:
    """The items of a Snapshot; asking for one that was not read in full raises CouldNotVerify."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._gaps: dict[str, Gap] = {gap.item: gap for gap in snapshot.gaps}

    @property
    def expectations(self) -> Expectations:
        return self.snapshot.expectations

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        self.need("namespaces")
        return self.snapshot.namespaces

    @property
    def pods(self) -> tuple[Pod, ...]:
        self.need("pods")
        return self.snapshot.pods

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        self.need("deployments")
        return self.snapshot.deployments

    @property
    def envoy_filters(self) -> tuple[EnvoyFilter, ...]:
        self.need("envoy_filters")
        return self.snapshot.envoy_filters

    @property
    def istiod(self) -> tuple[IstiodReading, ...]:
        self.need("istiod")
        return self.snapshot.istiod

    @property
    def istiod_numbers(self) -> tuple[IstiodMetrics, ...]:
        self.need("istiod_numbers")
        return self.snapshot.istiod_numbers

    @property
    def analysis(self) -> Analysis:
        self.need("analysis")
        if self.snapshot.analysis is None:
            raise CouldNotVerify("the analysis is missing from the snapshot", "capture it again")
        return self.snapshot.analysis

    @property
    def mutating_webhooks(self) -> tuple[WebhookConfiguration, ...]:
        self.need("mutating_webhooks")
        return self.snapshot.mutating_webhooks

    @property
    def validating_webhooks(self) -> tuple[WebhookConfiguration, ...]:
        self.need("validating_webhooks")
        return self.snapshot.validating_webhooks

    @property
    def services(self) -> tuple[Service, ...]:
        self.need("services")
        return self.snapshot.services

    @property
    def endpoint_slices(self) -> tuple[EndpointSlice, ...]:
        self.need("endpoint_slices")
        return self.snapshot.endpoint_slices

    @property
    def root_certificates(self) -> tuple[RootCertificate, ...]:
        self.need("root_certificates")
        return self.snapshot.root_certificates

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        self.need("gateways")
        return self.snapshot.gateways

    @property
    def virtual_services(self) -> tuple[VirtualService, ...]:
        self.need("virtual_services")
        return self.snapshot.virtual_services

    @property
    def destination_rules(self) -> tuple[DestinationRule, ...]:
        self.need("destination_rules")
        return self.snapshot.destination_rules

    @property
    def api_gateways(self) -> tuple[ApiGateway, ...]:
        self.need("api_gateways")
        return self.snapshot.api_gateways

    @property
    def http_routes(self) -> tuple[Route, ...]:
        self.need("http_routes")
        return self.snapshot.http_routes

    @property
    def grpc_routes(self) -> tuple[Route, ...]:
        self.need("grpc_routes")
        return self.snapshot.grpc_routes

    @property
    def tls_routes(self) -> tuple[Route, ...]:
        self.need("tls_routes")
        return self.snapshot.tls_routes

    @property
    def admission(self) -> Admission:
        self.need("admission")
        if self.snapshot.admission is None:
            raise CouldNotVerify("the webhooks' answers are missing", "capture it again")
        return self.snapshot.admission

    @property
    def signing(self) -> Signing:
        self.need("signing")
        if self.snapshot.signing is None:
            raise CouldNotVerify("the CA's answers are missing", "capture it again")
        return self.snapshot.signing

    @property
    def retry_filters(self) -> RetryFilters:
        self.need("retry_filters")
        if self.snapshot.retry_filters is None:
            raise CouldNotVerify("what is about Retry-After is missing", "capture it again")
        return self.snapshot.retry_filters

    @property
    def bursts(self) -> tuple[Burst, ...]:
        self.need("bursts")
        return self.snapshot.bursts

    @property
    def stateful_sets(self) -> tuple[Controller, ...]:
        self.need("stateful_sets")
        return self.snapshot.stateful_sets

    @property
    def daemon_sets(self) -> tuple[Controller, ...]:
        self.need("daemon_sets")
        return self.snapshot.daemon_sets

    @property
    def istioctl(self) -> str:
        self.need("istioctl")
        return self.snapshot.istioctl

    @property
    def precheck(self) -> Analysis:
        self.need("precheck")
        if self.snapshot.precheck is None:
            raise CouldNotVerify("the precheck is missing from the snapshot", "capture it again")
        return self.snapshot.precheck

    @property
    def settings(self) -> tuple[Settings, ...]:
        self.need("settings")
        return self.snapshot.settings

    @property
    def workloads(self) -> tuple[Workload, ...]:
        self.need("workloads")
        return self.snapshot.workloads

    @property
    def disruption_budgets(self) -> tuple[DisruptionBudget, ...]:
        self.need("disruption_budgets")
        return self.snapshot.disruption_budgets

    @property
    def network_policies(self) -> tuple[NetworkPolicy, ...]:
        self.need("network_policies")
        return self.snapshot.network_policies

    @property
    def peer_authentications(self) -> tuple[PeerAuthentication, ...]:
        self.need("peer_authentications")
        return self.snapshot.peer_authentications

    @property
    def authorization_policies(self) -> tuple[AuthorizationPolicy, ...]:
        self.need("authorization_policies")
        return self.snapshot.authorization_policies

    @property
    def nodes(self) -> tuple[Node, ...]:
        self.need("nodes")
        return self.snapshot.nodes

    @property
    def definitions(self) -> tuple[Definition, ...]:
        self.need("definitions")
        return self.snapshot.definitions

    @property
    def workload_entries(self) -> tuple[WorkloadEntry, ...]:
        self.need("workload_entries")
        return self.snapshot.workload_entries

    @property
    def contacts(self) -> Contacts:
        self.need("contacts")
        if self.snapshot.contacts is None:
            raise CouldNotVerify("what the workloads' ports did is missing", "capture it again")
        return self.snapshot.contacts

    @property
    def pair(self) -> Pair:
        self.need("pair")
        if self.snapshot.pair is None:
            raise CouldNotVerify("what the probe pair saw is missing", "capture it again")
        return self.snapshot.pair

    @property
    def service_entries(self) -> tuple[ServiceEntry, ...]:
        self.need("service_entries")
        return self.snapshot.service_entries

    @property
    def ingress(self) -> Ingress:
        self.need("ingress")
        if self.snapshot.ingress is None:
            raise CouldNotVerify("the traffic through the gateways is missing", "capture it again")
        return self.snapshot.ingress

    @property
    def shadow(self) -> Shadow:
        self.need("shadow")
        if self.snapshot.shadow is None:
            raise CouldNotVerify("the upgrade in the shadow is missing", "capture it again")
        return self.snapshot.shadow

    def need(self, item: str) -> None:
        """Raises CouldNotVerify, with the gap's own words, unless this item was read in full."""
        if gap := self._gaps.get(item):
            raise CouldNotVerify(gap.why, gap.remedy, transient=gap.transient)
        if item not in self.snapshot.read:
            raise CouldNotVerify(
                f"this snapshot holds no {item.replace('_', ' ')}",
                "capture it again for this stage (`meshgate capture FILE`)",
            )
