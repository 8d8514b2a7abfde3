"""Which istiod reads an object: the label istio.io/rev names the only revision that does.

The label is compared with the revision's name: a revision tag selects no istiod here
(LabelsInRevision, pkg/config in Istio).
"""

from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.kubernetes import Metadata, Pod

LABEL = "istio.io/rev"


def read_together(one: Metadata, other: Metadata) -> bool:
    """Return whether an istiod can read both objects: their labels name no two revisions."""
    labels = {each.labels[LABEL] for each in (one, other) if LABEL in each.labels}
    return len(labels) < 2


def applies_to(config: Metadata, pod: Pod) -> bool:
    """Return whether the istiod of a pod's revision reads an object of Istio's configuration.

    Also if nothing says which revision the pod belongs to, as in ambient mode.
    """
    wanted, revision = config.labels.get(LABEL), injected_revision(pod)
    return wanted is None or not revision or wanted == revision
