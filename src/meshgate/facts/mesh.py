"""The mesh in a snapshot: the one argument of a check."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property

from meshgate.facts.ambient.agents import AmbientAgents
from meshgate.facts.ambient.istiod_index import IstiodIndex
from meshgate.facts.ambient.nodes import AmbientNodes
from meshgate.facts.ambient.proxies import AmbientProxies
from meshgate.facts.controlplane.admission import AdmissionControl
from meshgate.facts.controlplane.analyze import AnalyzeMessages
from meshgate.facts.controlplane.certificate_authority import Authority
from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.injection_changes import InjectionChanges
from meshgate.facts.controlplane.istio_crds import IstioCrds
from meshgate.facts.controlplane.mesh_configs import MeshConfigs
from meshgate.facts.controlplane.metrics import Numbers
from meshgate.facts.controlplane.new_pods import NewPods
from meshgate.facts.controlplane.node_agents import NodeAgents
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.controlplane.revisions import Revisions
from meshgate.facts.controlplane.wasm import WasmModules
from meshgate.facts.dataplane.ambient import AmbientPorts
from meshgate.facts.dataplane.ambient_policies import AmbientPolicies
from meshgate.facts.dataplane.authorization import Authorization
from meshgate.facts.dataplane.caller_comparison import CallerComparison
from meshgate.facts.dataplane.certificates import SidecarCertificates
from meshgate.facts.dataplane.declared_pairs import DeclaredPairs
from meshgate.facts.dataplane.destination_rules import DestinationRules
from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.dataplane.probe_pair import ProbePair
from meshgate.facts.dataplane.retry_after import RetryAfter
from meshgate.facts.dataplane.retry_answers import RetryAnswers
from meshgate.facts.dataplane.sidecars import Sidecars
from meshgate.facts.dataplane.traffic_metrics import Traffic
from meshgate.facts.dataplane.workload_pods import WorkloadPods
from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.certificates import ServedCertificates
from meshgate.facts.ingress.comparison import TrafficComparison
from meshgate.facts.ingress.conditions import GatewayConditions
from meshgate.facts.ingress.connections import GatewayConnections
from meshgate.facts.ingress.declared_requests import DeclaredAnswers
from meshgate.facts.ingress.entrypoints import GatewayEntrypoints
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.facts.ingress.other_gateways import OtherGateways
from meshgate.facts.ingress.rollout import GatewayRollout
from meshgate.facts.ingress.routes import RouteAnswers
from meshgate.facts.ingress.tls_versions import TlsVersions
from meshgate.facts.ingress.waypoints import Waypoints
from meshgate.facts.overview import ControlPlaneSummary, control_plane_summary
from meshgate.facts.precheck.capacity import Capacity
from meshgate.facts.precheck.envoy_filters import EnvoyFilters
from meshgate.facts.precheck.gateway_api_crds import GatewayApi
from meshgate.facts.precheck.image_pulls import ImagePulls
from meshgate.facts.precheck.istioctl_precheck import Precheck
from meshgate.facts.precheck.ownership import Ownership
from meshgate.facts.precheck.proxy_skew import ProxySkew
from meshgate.facts.precheck.registries import Registries
from meshgate.facts.precheck.release_changes import Changes
from meshgate.facts.precheck.restart import Restart
from meshgate.facts.precheck.rollback import Rollback
from meshgate.facts.precheck.shadow_upgrade import ShadowUpgrade
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.facts.unverified import Unverified
from meshgate.facts.watch.interop import Interoperation
from meshgate.facts.watch.losses import Watched
from meshgate.semantics import baselines
from meshgate.semantics.planned import summary
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import CouldNotVerify, NotApplicable


class Mesh:
    """Entry to all facts; a fact whose evidence is missing raises CouldNotVerify."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.evidence = Evidence(snapshot)

    def __repr__(self) -> str:
        return f"<Mesh {self.evidence.snapshot.source}>"

    @cached_property
    def control_plane(self) -> ControlPlane:
        """Istiod's Deployments and replicas."""
        return self.evidence.facts(ControlPlane)

    @cached_property
    def numbers(self) -> Numbers:
        """Istiod's metrics."""
        return Numbers(self.evidence)

    @cached_property
    def mesh_configs(self) -> MeshConfigs:
        """The mesh configs, and what istiod uses of them."""
        return MeshConfigs(self.evidence)

    @cached_property
    def istio_crds(self) -> IstioCrds:
        """Istio's own CRDs."""
        return IstioCrds(self.evidence)

    @cached_property
    def wasm_modules(self) -> WasmModules:
        """The modules of WasmPlugins."""
        return WasmModules(self.evidence)

    @cached_property
    def new_pods(self) -> NewPods:
        """The pods that a restart would create."""
        return NewPods(self.evidence)

    @cached_property
    def injection_changes(self) -> InjectionChanges:
        """What the injector adds to pods, compared with the baseline."""
        return InjectionChanges(self.evidence)

    @cached_property
    def node_agents(self) -> NodeAgents:
        """The CNI plugin and ztunnel."""
        return NodeAgents(self.evidence)

    @cached_property
    def ambient_agents(self) -> AmbientAgents:
        """The CNI agents and ztunnels after their upgrade."""
        return AmbientAgents(self.evidence)

    @cached_property
    def ambient_index(self) -> IstiodIndex:
        """What istiod sends to ztunnels."""
        return IstiodIndex(self.evidence)

    @cached_property
    def ambient_nodes(self) -> AmbientNodes:
        """The nodes with pods in ambient mode, and their agents."""
        return AmbientNodes(self.evidence)

    @cached_property
    def ambient_proxies(self) -> AmbientProxies:
        """Ztunnels and waypoints, and the istiods that they are connected to."""
        return AmbientProxies(self.evidence)

    @cached_property
    def proxies(self) -> Proxies:
        """Every proxy, by its pod and by what istiod reports."""
        return self.evidence.facts(Proxies)

    @cached_property
    def analysis(self) -> AnalyzeMessages:
        """The messages of `istioctl analyze`."""
        return AnalyzeMessages(self.evidence)

    @cached_property
    def admission(self) -> AdmissionControl:
        """Istio's webhooks."""
        return AdmissionControl(self.evidence)

    @cached_property
    def authority(self) -> Authority:
        """Istiod as certificate authority."""
        return Authority(self.evidence)

    @cached_property
    def retry_after(self) -> RetryAfter:
        """EnvoyFilters about Retry-After, and the configuration of their proxies."""
        return RetryAfter(self.evidence)

    @cached_property
    def retry_answers(self) -> RetryAnswers:
        """Retry-After in the answers to the probes."""
        return RetryAnswers(self.evidence)

    @cached_property
    def ingress(self) -> IngressGateways:
        """The gateways, and the requests sent through them."""
        return IngressGateways(self.evidence)

    @cached_property
    def gateway_rollout(self) -> GatewayRollout:
        """The gateways' Deployments, pods and versions."""
        return GatewayRollout(self.ingress)

    @cached_property
    def gateway_entrypoints(self) -> GatewayEntrypoints:
        """The Services in front of the gateways."""
        return GatewayEntrypoints(self.ingress)

    @cached_property
    def gateway_conditions(self) -> GatewayConditions:
        """The conditions of the Gateway API's objects."""
        return GatewayConditions(self.ingress)

    @cached_property
    def gateway_connections(self) -> GatewayConnections:
        """Connections and TLS handshakes with the gateways."""
        return GatewayConnections(self.ingress)

    @cached_property
    def served_certificates(self) -> ServedCertificates:
        """The certificates that the gateways serve."""
        return ServedCertificates(self.ingress)

    @cached_property
    def route_answers(self) -> RouteAnswers:
        """What came back for every route."""
        return RouteAnswers(self.ingress)

    @cached_property
    def traffic_comparison(self) -> TrafficComparison:
        """What answered before the upgrade, compared with now."""
        return TrafficComparison(self.ingress)

    @cached_property
    def control_plane_summary(self) -> ControlPlaneSummary:
        """The versions and revisions of the control plane, for the reports."""
        return control_plane_summary(self.evidence)

    @cached_property
    def declared(self) -> DeclaredAnswers:
        """The declared requests and their expected responses."""
        return DeclaredAnswers(self.ingress)

    @cached_property
    def tls_versions(self) -> TlsVersions:
        """The TLS versions that the gateways accept."""
        return TlsVersions(self.ingress)

    @cached_property
    def watched(self) -> Watched:
        """The requests sent while the mesh was upgraded."""
        return Watched(self.evidence, self.ingress)

    @cached_property
    def interoperation(self) -> Interoperation:
        """Calls between pods with old and new proxies."""
        return Interoperation(self.watched)

    @cached_property
    def revisions(self) -> Revisions:
        """Revisions and tags, and what uses them."""
        return self.evidence.facts(Revisions)

    @cached_property
    def sidecars(self) -> Sidecars:
        """Which pods have a sidecar, its version, and its istiod."""
        return Sidecars(self.evidence)

    @cached_property
    def workload_pods(self) -> WorkloadPods:
        """The pods that workloads ask for and have."""
        return WorkloadPods(self.evidence)

    @cached_property
    def wire(self) -> MtlsProbes:
        """How the workloads' ports answer connections."""
        return MtlsProbes(self.evidence)

    @cached_property
    def certificates(self) -> SidecarCertificates:
        """The certificates that sidecars serve."""
        return SidecarCertificates(self.evidence, self.wire)

    @cached_property
    def destination_rules(self) -> DestinationRules:
        """The TLS modes that DestinationRules set for clients."""
        return DestinationRules(self.evidence)

    @cached_property
    def authorization(self) -> Authorization:
        """What AuthorizationPolicies say of the verifier, and how ports answer it."""
        return Authorization(self.evidence, self.wire)

    @cached_property
    def ambient_ports(self) -> AmbientPorts:
        """How the ports of pods in ambient mode answer connections through HBONE."""
        return AmbientPorts(self.evidence)

    @cached_property
    def ambient_policies(self) -> AmbientPolicies:
        """What policies say of connections to pods in ambient mode, and what is admitted."""
        return AmbientPolicies(self.evidence, self.ambient_ports)

    @cached_property
    def waypoints(self) -> Waypoints:
        """The waypoints, and the requests sent through them."""
        return Waypoints(self.evidence, self.gateway_rollout)

    @cached_property
    def caller_comparison(self) -> CallerComparison:
        """What ports answered to the verifier before the upgrade, compared with now."""
        return CallerComparison(self.evidence, self.wire)

    @cached_property
    def declared_pairs(self) -> DeclaredPairs:
        """The declared pairs, and how their requests were answered."""
        return DeclaredPairs(self.evidence)

    @cached_property
    def traffic(self) -> Traffic:
        """Errors, durations and alerts, compared with those before the upgrade."""
        return Traffic(self.evidence)

    @cached_property
    def probe_pair(self) -> ProbePair:
        """The probe pair: two new pods, and what they can reach."""
        return ProbePair(self.evidence)

    @cached_property
    def precheck(self) -> Precheck:
        """The messages of `istioctl x precheck`."""
        return Precheck(self.evidence)

    @cached_property
    def registries(self) -> Registries:
        """Images in registries that shut down."""
        return Registries(self.evidence)

    @cached_property
    def proxy_skew(self) -> ProxySkew:
        """The versions of the proxies, compared with the target."""
        return ProxySkew(self.evidence)

    @cached_property
    def upgrade(self) -> Upgrade:
        """The current and the target version, and whether that path is supported."""
        return Upgrade(self.evidence)

    @cached_property
    def changes(self) -> Changes:
        """What the releases on the path change, and which objects that affects."""
        return Changes(self.evidence)

    @cached_property
    def envoy_filters(self) -> EnvoyFilters:
        """EnvoyFilters, for proxies of the target version."""
        return EnvoyFilters(self.evidence)

    @cached_property
    def gateway_api(self) -> GatewayApi:
        """The Gateway API CRDs."""
        return GatewayApi(self.evidence)

    @cached_property
    def ownership(self) -> Ownership:
        """Other managers of the fields that the upgrade sets."""
        return Ownership(self.evidence)

    @cached_property
    def restart(self) -> Restart:
        """Pods that the restart of the workloads would skip or break."""
        return Restart(self.evidence)

    @cached_property
    def capacity(self) -> Capacity:
        """Room on the nodes for the restart of the workloads."""
        return Capacity(self.evidence)

    @cached_property
    def image_pulls(self) -> ImagePulls:
        """Images of the target that nodes cannot pull."""
        return ImagePulls(self.evidence)

    @cached_property
    def rollback(self) -> Rollback:
        """Whether the previous release could run again."""
        return Rollback(self.evidence)

    @cached_property
    def shadow(self) -> ShadowUpgrade:
        """The simulated upgrade."""
        return ShadowUpgrade(self.evidence)


def notes_about(mesh: Mesh, reads: Iterable[str]) -> tuple[str, ...]:
    """Return remarks about the evidence of these checks that are not findings."""
    snapshot = mesh.evidence.snapshot
    seen = frozenset(reads) & frozenset(snapshot.read)
    found = [baselines.note(snapshot)]
    for item in ("precheck", "analysis", "new_pods"):
        # what is missing is the result of the check that reads it
        with suppress(CouldNotVerify, NotApplicable):
            found += [getattr(mesh, item).left_out] if item in seen else []
    with suppress(CouldNotVerify):
        found.append(Unverified(mesh.evidence).note)
    if {"api_gateways", "gateway_classes", "ingress"} <= seen:
        with suppress(CouldNotVerify):
            found.append(OtherGateways(mesh.ingress).note)
    sent = summary(snapshot.ingress) if "ingress" in reads else ()
    watch = snapshot.expectations.watch
    return (*(each for each in found if each), *sent, *((watch.words,) if watch else ()))
