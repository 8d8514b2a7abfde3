"""CRDs that the target's istiod watches, such as those of the Gateway API."""

from functools import cached_property
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.releases import ALPHA_GATEWAY_API, Crd, ledger, minor
from meshgate.snapshot.upgrade import Definition
from meshgate.verdict import Finding, NotApplicable

# The items of a snapshot that hold the objects of a CRD, where meshgate reads them.
OBJECTS = {
    "tlsroutes.gateway.networking.k8s.io": "tls_routes",
    "tcproutes.gateway.networking.k8s.io": "tcp_routes",
    "udproutes.gateway.networking.k8s.io": "udp_routes",
    "listenersets.gateway.networking.k8s.io": "listener_sets",
    "grpcroutes.gateway.networking.k8s.io": "grpc_routes",
    "httproutes.gateway.networking.k8s.io": "http_routes",
    "gateways.gateway.networking.k8s.io": "api_gateways",
}


class _Watched(NamedTuple):
    definition: Definition
    crd: Crd

    @property
    def name(self) -> str:
        return self.definition.metadata.name

    @property
    def bundle(self) -> str:
        return self.definition.metadata.annotations.bundle

    @property
    def served(self) -> list[str]:
        return [each.name for each in self.definition.spec.versions if each.served]


class GatewayApi:
    """The CRDs outside Istio's charts that the cluster has and the target's istiod watches."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def watched(self) -> list[_Watched]:
        """The installed CRDs that it watches; raises NotApplicable if there are none."""
        self._upgrade.need_known_target()
        release = ledger()[minor(self._upgrade.target.version)]
        installed = [
            _Watched(each, crd)
            for each in self._evidence.definitions
            if (crd := release.crd.get(each.metadata.name))
        ]
        found = [each for each in installed if not each.crd.alpha or self._alpha]
        if not found:
            raise NotApplicable(
                f"the cluster has none of the {len(release.crd)} CRDs (Gateway API and others) "
                f"that istiod {self._upgrade.target} watches"
            )
        return found

    @cached_property
    def _alpha(self) -> bool:
        """Whether an istiod watches the alpha kinds of the Gateway API."""
        return any(
            each.variables.get(ALPHA_GATEWAY_API) == "true" for each in self._evidence.settings
        )

    @property
    def unread(self) -> list[Finding]:
        """CRDs that would block the target's istiod, or whose objects it would drop."""
        return [*self._blocking(), *self._ignored(in_use=True)]

    @property
    def old(self) -> list[Finding]:
        """CRDs that the target's istiod ignores and that are not known to be in use."""
        return self._ignored(in_use=False)

    def _blocking(self) -> list[Finding]:
        """CRDs that serve other versions than the one istiod waits for."""
        target = self._upgrade.target
        return [
            Finding(
                f"CustomResourceDefinition {each.name}",
                f"serves {', '.join(each.served) or 'no version'}, and istiod {target} watches "
                f"{each.crd.version}: istiod never becomes ready",
                f"{each.crd.version} is served",
                self._unblock(each),
                problem="crd-version-not-served",
                about=(("version", each.crd.version),),
            )
            for each in self.watched
            if each.crd.version not in each.served
            and not each.crd.ignored(each.bundle, self._upgrade.newest_patch)
        ]

    def _unblock(self, each: _Watched) -> str:
        if each.crd.alpha:
            return (
                f"set {ALPHA_GATEWAY_API}=false on istiod, or install a Gateway API bundle whose "
                f"{each.name} serves {each.crd.version}"
            )
        return f"install a Gateway API bundle whose {each.name} serves {each.crd.version}"

    def _ignored(self, *, in_use: bool) -> list[Finding]:
        """CRDs whose bundle istiod of the target does not accept.

        Args:
            in_use: return those that the running istiod reads and that may have objects, or
                else the others.
        """
        return [
            Finding(
                f"CustomResourceDefinition {each.name}",
                f"{why}: istiod {self._upgrade.target} ignores all its objects",
                accepted_bundle(each.crd),
                f"install a Gateway API bundle with {accepted_bundle(each.crd)} before the upgrade",
                problem="crd-ignored",
                about=(("version", each.crd.version),),
            )
            for each in self.watched
            if (why := each.crd.ignored(each.bundle, self._upgrade.newest_patch))
            and self._loses(each) is in_use
        ]

    def _loses(self, each: _Watched) -> bool:
        """Whether the running istiod reads objects of this CRD, or may do so."""
        running, objects = self._upgrade.running.values(), self._objects
        releases = [(ledger().get(minor(version)), version) for version in running]
        read = any(
            release is not None
            and (crd := release.crd.get(each.name))
            and (not crd.alpha or self._alpha)
            and crd.version in each.served
            and not crd.ignored(each.bundle, version)
            for release, version in releases
        )
        return read and objects.get(each.name, True)

    @cached_property
    def _objects(self) -> dict[str, bool]:
        """Whether objects exist, by CRD, for the kinds that meshgate reads."""
        return {name: bool(count) for name, count in counted_objects(self._evidence).items()}


def counted_objects(evidence: Evidence) -> dict[str, int]:
    """Return how many objects exist, by CRD, for the kinds that meshgate reads."""
    return {name: len(getattr(evidence, item)) for name, item in OBJECTS.items()}


def accepted_bundle(crd: Crd) -> str:
    """Return which bundle versions istiod accepts for a CRD with a limit."""
    if crd.minimum:
        return f"bundle version {crd.minimum} or newer"
    return f"bundle version {crd.maximum} or older"
