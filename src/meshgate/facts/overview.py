"""A summary of the mesh for reports: istiod's replicas, and the states of the proxies."""

from collections import Counter
from typing import NamedTuple

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.controlplane.revisions import Revisions
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.versions import Version
from meshgate.snapshot.istiod import IstiodReading, ProxySync
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import CouldNotVerify, NotApplicable

# The states of a proxy, best first.
STATES = ("in sync", "push unanswered", "rejected", "not connected")


class Replica(NamedTuple):
    """One replica of istiod: its version, and how many proxies are connected to it.

    `state` is `Ready`, or why it is not; a replica that is not Ready may have no version.
    """

    pod: str
    version: str
    proxies: int
    state: str = "Ready"


class Overview(NamedTuple):
    """`proxies`: by the version that they run, how many are in each of STATES."""

    replicas: tuple[Replica, ...]
    proxies: dict[str, Counter[str]]


class ControlPlaneSummary(NamedTuple):
    """The versions and revisions of the istiods that were found, each joined by commas."""

    versions: str
    revisions: str


def control_plane_summary(evidence: Evidence) -> ControlPlaneSummary:
    """Return the versions and revisions of the control plane; empty where they are unknown."""
    try:
        versions = {_version(each.version) for each in evidence.facts(ControlPlane).answers}
    except (CouldNotVerify, NotApplicable):
        versions = set()
    try:
        revisions = evidence.facts(Revisions).is_active
    except (CouldNotVerify, NotApplicable):
        revisions = frozenset()
    return ControlPlaneSummary(", ".join(sorted(versions)), ", ".join(sorted(revisions)))


def overview(evidence: Evidence) -> Overview | None:
    """Return the summary; None if istiod or the pods could not be read."""
    try:
        plane = evidence.facts(ControlPlane)
        answers = {each.pod: each for each in plane.answers}
        replicas = [_replica(pod, answers.get(pod.metadata.name)) for pod in plane.replicas]
        proxies = evidence.facts(Proxies)
        connected, promised = proxies.connected, proxies.promised
    except (CouldNotVerify, NotApplicable):
        return None
    counts: dict[str, Counter[str]] = {}
    for proxy in connected.values():
        counts.setdefault(_version(proxy.istio_version), Counter())[_state(proxy)] += 1
    if missing := promised.keys() - connected.keys():
        counts["unknown"] = Counter({"not connected": len(missing)})
    return Overview(tuple(replicas), dict(sorted(counts.items())))


def _replica(pod: Pod, reading: IstiodReading | None) -> Replica:
    state = "Ready" if pods.ready(pod) else pods.reason_not_ready(pod)
    if reading is None:
        return Replica(pod.metadata.name, "", 0, state)
    return Replica(pod.metadata.name, _version(reading.version), len(reading.proxies), state)


def _version(text: str) -> str:
    return str(Version.parse(text) or "unknown")


def _state(proxy: ProxySync) -> str:
    states = proxy.resources.values()
    if any(state.last_error for state in states):
        return "rejected"
    if any(state.sent and state.sent != state.acked for state in states):
        return "push unanswered"
    return "in sync"
