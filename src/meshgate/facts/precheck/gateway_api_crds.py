"""The Gateway API's CRDs: whether istiod of the target reads what they serve."""

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.versions import Version
from meshgate.snapshot.upgrade import Definition
from meshgate.verdict import Finding, NotApplicable

GROUP = ".gateway.networking.k8s.io"

# What istiod watches, by the first Istio that does so (pkg/config/schema/gvr), newest first.  A CRD
# that serves another version alone is not read at all.
READ = (
    ("1.29", ("gatewayclasses", "gateways", "httproutes", "grpcroutes"), "v1"),
    ("1.28", ("backendtlspolicies", "grpcroutes"), "v1"),
    ("1.24", ("gatewayclasses", "gateways", "httproutes", "referencegrants"), "v1beta1"),
)
# pkg/kube/kclient/crdwatcher.go, minimumCRDVersions of 1.28 and 1.29: older ones are ignored
LEAST = {"grpcroutes": "1.1.0", "backendtlspolicies": "1.4.0"}


class GatewayApi:
    """The CRDs of gateway.networking.k8s.io."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @property
    def _definitions(self) -> dict[str, Definition]:
        found = {
            each.metadata.name.removesuffix(GROUP): each
            for each in self._evidence.definitions
            if each.metadata.name.endswith(GROUP)
        }
        if not found:
            raise NotApplicable("the Gateway API is not installed")
        return found

    @property
    def unread(self) -> list[Finding]:
        """CRDs of which the target reads no version that they serve."""
        found = []
        for name, each in self._definitions.items():
            needed = self._needed(name)
            served = [version.name for version in each.spec.versions if version.served]
            if needed and needed not in served:
                found.append(
                    Finding(
                        f"CustomResourceDefinition {each.metadata.name}",
                        f"serves {', '.join(served) or 'no version'}",
                        f"{needed}, which is what istiod {self._upgrade.target} reads",
                        "install the Gateway API's CRDs of a newer version before the upgrade",
                    )
                )
        return found

    def _needed(self, name: str) -> str:
        for since, names, version in READ:
            first = Version.parse(since)
            if first is not None and name in names and self._upgrade.target[:2] >= first[:2]:
                return version
        return ""

    @property
    def old(self) -> list[Finding]:
        """CRDs of bundles so old, or so unknown, that istiod ignores them."""
        return [
            Finding(
                f"CustomResourceDefinition {each.metadata.name}",
                f"is of the bundle {each.metadata.annotations.bundle or '(it does not say which)'}",
                f"{LEAST[name]} or newer: istiod ignores older ones",
                "install the Gateway API's CRDs of a newer version",
            )
            for name, each in self._definitions.items()
            if name in LEAST and self._upgrade.target[:2] >= (1, 28)
            if _older(each.metadata.annotations.bundle, LEAST[name])
        ]


def _older(bundle: str, least: str) -> bool:
    version, needed = Version.parse(bundle), Version.parse(least)
    return version is None or needed is None or version[:3] < needed[:3]
