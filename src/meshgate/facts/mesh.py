"""The mesh as a Snapshot shows it: the one object that a claim is given."""

from functools import cached_property

from meshgate.facts.controlplane.admission import AdmissionControl
from meshgate.facts.controlplane.analyze import AnalyzeMessages
from meshgate.facts.controlplane.certificate_authority import Authority
from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.metrics import Numbers
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.controlplane.revisions import Revisions
from meshgate.facts.dataplane.authorization import Authorization
from meshgate.facts.dataplane.destination_rules import DestinationRules
from meshgate.facts.dataplane.mtls import MtlsProbes
from meshgate.facts.dataplane.probe_pair import ProbePair
from meshgate.facts.dataplane.retry_after import RetryAfter
from meshgate.facts.dataplane.sidecars import Sidecars
from meshgate.facts.evidence import Evidence
from meshgate.facts.ingress.declared_requests import DeclaredAnswers
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.facts.ingress.tls_versions import TlsVersions
from meshgate.facts.ingress.watch import Watched
from meshgate.facts.overview import ControlPlaneSummary, control_plane_summary
from meshgate.facts.precheck.envoy_filters import EnvoyFilters
from meshgate.facts.precheck.gateway_api_crds import GatewayApi
from meshgate.facts.precheck.istioctl_precheck import Precheck
from meshgate.facts.precheck.ownership import Ownership
from meshgate.facts.precheck.registries import Registries
from meshgate.facts.precheck.release_changes import Changes
from meshgate.facts.precheck.restart import Restart
from meshgate.facts.precheck.shadow_upgrade import ShadowUpgrade
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.snapshot.model import Snapshot


class Mesh:
    """Entry to all facts; asking for one whose evidence is missing raises CouldNotVerify."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.evidence = Evidence(snapshot)

    def __repr__(self) -> str:
        return f"<Mesh {self.evidence.snapshot.source}>"

    @cached_property
    def control_plane(self) -> ControlPlane:
        """istiod: its Deployments and replicas."""
        return ControlPlane(self.evidence)

    @cached_property
    def numbers(self) -> Numbers:
        """What istiod counts of itself."""
        return Numbers(self.evidence)

    @cached_property
    def proxies(self) -> Proxies:
        """Every proxy that the pods promise and that istiod's replicas know."""
        return Proxies(self.evidence)

    @cached_property
    def analysis(self) -> AnalyzeMessages:
        """What `istioctl analyze` says."""
        return AnalyzeMessages(self.evidence)

    @cached_property
    def admission(self) -> AdmissionControl:
        """Istio's webhooks."""
        return AdmissionControl(self.evidence)

    @cached_property
    def authority(self) -> Authority:
        """istiod as certificate authority."""
        return Authority(self.evidence)

    @cached_property
    def retry_after(self) -> RetryAfter:
        """EnvoyFilters that are about Retry-After, and the answers that carry it."""
        return RetryAfter(self.evidence)

    @cached_property
    def ingress(self) -> IngressGateways:
        """The gateways, and what was sent through them."""
        return IngressGateways(self.evidence)

    @cached_property
    def control_plane_summary(self) -> ControlPlaneSummary:
        """The control planes that every verdict is about."""
        return control_plane_summary(self.evidence)

    @cached_property
    def declared(self) -> DeclaredAnswers:
        """Answers that somebody declared."""
        return DeclaredAnswers(self.evidence, self.ingress)

    @cached_property
    def tls_versions(self) -> TlsVersions:
        """Which versions of TLS the gateways take."""
        return TlsVersions(self.ingress)

    @cached_property
    def watched(self) -> Watched:
        """What was sent while the gateways were replaced."""
        return Watched(self.evidence, self.ingress)

    @cached_property
    def revisions(self) -> Revisions:
        """Revisions and tags, and who belongs to them."""
        return Revisions(self.evidence)

    @cached_property
    def sidecars(self) -> Sidecars:
        """Who has a sidecar, of which version."""
        return Sidecars(self.evidence)

    @cached_property
    def wire(self) -> MtlsProbes:
        """What the workloads' ports did when they were connected to."""
        return MtlsProbes(self.evidence)

    @cached_property
    def destination_rules(self) -> DestinationRules:
        """What clients are told to speak."""
        return DestinationRules(self.evidence)

    @cached_property
    def authorization(self) -> Authorization:
        """What a stranger may."""
        return Authorization(self.evidence)

    @cached_property
    def probe_pair(self) -> ProbePair:
        """Two new pods, and what they reach."""
        return ProbePair(self.evidence)

    @cached_property
    def precheck(self) -> Precheck:
        """What `istioctl x precheck` says."""
        return Precheck(self.evidence)

    @cached_property
    def registries(self) -> Registries:
        """Images in registries that shut down."""
        return Registries(self.evidence)

    @cached_property
    def upgrade(self) -> Upgrade:
        """From what to what, and whether that is supported."""
        return Upgrade(self.evidence)

    @cached_property
    def changes(self) -> Changes:
        """What the releases on the way change, and who is concerned."""
        return Changes(self.evidence)

    @cached_property
    def envoy_filters(self) -> EnvoyFilters:
        """EnvoyFilters, on the proxies of the target."""
        return EnvoyFilters(self.evidence)

    @cached_property
    def gateway_api(self) -> GatewayApi:
        """The Gateway API's CRDs."""
        return GatewayApi(self.evidence)

    @cached_property
    def ownership(self) -> Ownership:
        """Who else wants what the upgrade is about to set."""
        return Ownership(self.evidence)

    @cached_property
    def restart(self) -> Restart:
        """What the restart of the workloads will and will not reach."""
        return Restart(self.evidence)

    @cached_property
    def shadow(self) -> ShadowUpgrade:
        """The upgrade as it was tried with nothing applied."""
        return ShadowUpgrade(self.evidence)
