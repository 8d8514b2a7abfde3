"""Istio's DaemonSets: the CNI plugin and ztunnel, which run on every node."""

from collections.abc import Mapping

from meshgate.semantics.versions import Version
from meshgate.snapshot.kubernetes import Controller

CNI, ZTUNNEL = "istio-cni", "ztunnel"

# The names of the DaemonSets in Istio's charts.
DAEMON_SETS = {CNI: "istio-cni-node", ZTUNNEL: "ztunnel"}

# The labels of either, in Istio's charts of different ages.
LABELS = {
    ("app.kubernetes.io/name", "istio-cni"): CNI,
    ("k8s-app", "istio-cni-node"): CNI,
    ("app.kubernetes.io/name", "ztunnel"): ZTUNNEL,
    ("app", "ztunnel"): ZTUNNEL,
}

# How many minor versions either may be behind istiod.
SKEW = 1


def kind_of(labels: Mapping[str, str]) -> str:
    """Return which of the two an object with these labels is; empty for anything else."""
    return next((kind for row, kind in LABELS.items() if labels.get(row[0]) == row[1]), "")


def version_of(each: Controller) -> Version | None:
    """Return a DaemonSet's version: by its image's tag, else by its version label."""
    images = [container.image for container in each.spec.template.spec.containers]
    labeled = each.metadata.labels.get("app.kubernetes.io/version", "")
    found = (Version.of_image(image) for image in (*images, f":{labeled}"))
    return next((version for version in found if version), None)


def is_supported(agent: Version, istiod: Version) -> bool:
    """Whether istiod of one version supports an agent of the other."""
    return agent.major == istiod.major and abs(istiod.minor - agent.minor) <= SKEW
