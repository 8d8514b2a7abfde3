"""What every detection gets and returns."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from meshgate.facts.evidence import Evidence
from meshgate.semantics.releases import Rule
from meshgate.snapshot.kubernetes import Metadata, Pod
from meshgate.snapshot.upgrade import Settings


class Sign(NamedTuple):
    """Why a change affects a mesh: an object, what was seen of it, and its identity.

    Attributes:
        subject: `Kind namespace/name`.
        seen: what was seen, as a predicate: `sets METRIC_ROTATION_INTERVAL`.
        about: sorted pairs that distinguish two signs of the same object.
        owner: the workload of a Pod.
    """

    subject: str
    seen: str
    about: tuple[tuple[str, str], ...] = ()
    owner: str = ""


class Mesh(NamedTuple):
    """What a detection looks at: the evidence, and the istiods that have not opted out."""

    evidence: Evidence
    settings: tuple[Settings, ...]


Detection = Callable[[Mesh, Rule], Iterator[Sign]]


def named(kind: str, metadata: Metadata) -> str:
    """Return `Kind namespace/name`."""
    return f"{kind} {metadata.namespace}/{metadata.name}"


def ztunnels(pods: Iterable[Pod]) -> list[Pod]:
    """Return the pods of ztunnel."""
    return [each for each in pods if each.metadata.labels.get("app") == "ztunnel"]
