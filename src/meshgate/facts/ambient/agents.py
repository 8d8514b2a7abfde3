"""The CNI plugin and ztunnel before and after their upgrade."""

from meshgate.facts.ambient.nodes import AmbientNodes
from meshgate.facts.ambient.proxies import AmbientProxies
from meshgate.facts.cni_failures import cni_failures
from meshgate.facts.controlplane.node_agents import NodeAgents, subject_of, version_of_set
from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.node_agents import CNI, DAEMON_SETS, ZTUNNEL, kind_of
from meshgate.semantics.versions import Version
from meshgate.snapshot.kubernetes import Controller
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class AmbientAgents:
    """The DaemonSets of the CNI plugin and of ztunnel."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)
        self._nodes = AmbientNodes(evidence)
        self._agents = NodeAgents(evidence)
        self._proxies = AmbientProxies(evidence)

    def lacking(self, kind: str) -> list[Finding]:
        """Return the nodes without a Ready agent, and DaemonSets that are not at the target.

        A ztunnel must be connected to istiod too.

        Args:
            kind: CNI or ZTUNNEL.

        Returns:
            The findings.

        Raises:
            NotApplicable: there is no such DaemonSet, and no pod is in ambient mode.
            CouldNotVerify: there is none, but its pods are Ready on every node.
        """
        missing = self._nodes.missing(kind)
        if not missing and not self._agents.of(kind):
            name = DAEMON_SETS[kind]
            if not self._nodes.count:
                raise NotApplicable(f"there is no DaemonSet {name}, and no pod is in ambient mode")
            raise CouldNotVerify(
                f"there is no DaemonSet {name}: the version of its pods is unknown",
                f"install {name} by Istio's chart",
            )
        found = [*missing, *self._agents.not_at_target(kind)]
        return [*found, *self._proxies.disconnected_ztunnels] if kind == ZTUNNEL else found

    def count(self, *kinds: str) -> int:
        """Return the number of DaemonSets of these kinds."""
        return sum(len(self._agents.of(kind)) for kind in kinds)

    # --- before the upgrade ---------------------------------------------------------------------

    @property
    def _sets(self) -> list[Controller]:
        """Both kinds of DaemonSets; raise NotApplicable if there are none."""
        found = [*self._agents.of(CNI), *self._agents.of(ZTUNNEL)]
        if not found:
            raise NotApplicable("there is no istio-cni or ztunnel DaemonSet")
        return found

    @property
    def unsupported(self) -> list[Finding]:
        """DaemonSets of a version that istiod of the target does not support."""
        wanted, found = self._upgrade.target, list[Finding]()
        for each in self._sets:
            version = version_of_set(each)
            behind = wanted.version.minor - version.minor
            if behind > self._upgrade.skew:
                words = f"is of version {version}, {behind} minor versions behind the target"
                found.append(_skewed(each, version, words, f"{wanted}"))
            elif behind < 0:
                words = f"is of version {version}, newer than the target"
                found.append(_skewed(each, version, words, f"at most {wanted}"))
        return found

    @property
    def out_of_order(self) -> list[Finding]:
        """DaemonSets that were upgraded before istiod, and ztunnel before the CNI plugin."""
        istiod = max(self._upgrade.running.values(), default=None)
        cni = min(map(version_of_set, self._agents.of(CNI)), default=None)
        found = []
        for each in self._sets:
            version = version_of_set(each)
            before = {"istiod": istiod}
            if kind_of(each.metadata.labels) == ZTUNNEL:
                before["istio-cni"] = cni
            found += [
                _skewed(each, version, f"is of version {version}, newer than {name} {other}", "")
                for name, other in before.items()
                if other and version > other
            ]
        return found

    @property
    def obstacles(self) -> list[Finding]:
        """What is wrong with the agents, and with pods that need them, before the upgrade."""
        missing = [*self._nodes.missing(CNI), *self._nodes.missing(ZTUNNEL)]
        # outside ambient mode; the plugin may still be configured without its DaemonSet
        stuck = list(cni_failures(self._evidence, self._evidence.pods))
        if not self._nodes.count and not stuck and not self._sets:
            return []
        unserved = self._nodes.unserved if self._nodes.count else []
        return [*self._agents.unfinished, *missing, *unserved, *stuck]


def _skewed(each: Controller, version: Version, seen: str, expected: str) -> Finding:
    return Finding(
        subject_of(each),
        seen,
        expected,
        "Upgrade istiod, then istio-cni, then ztunnel, one minor version at a time.",
        problem="agent-skew",
        about=(("version", str(version)),),
    )
