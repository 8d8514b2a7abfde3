"""The stable interface for custom checks: `from meshgate.api import Finding, Mesh, listed`.

Names in `__all__`, their parameters, and the items and fields of `mesh.evidence` stay as they are
within a minor version's successors: something that is removed or renamed raises a
DeprecationWarning for at least two minor releases first, and the changelog names it.  Other modules
of meshgate, and the facts (`mesh.proxies` and the others), may change with every release.
"""

from msgspec.structs import replace

from meshgate.facts.evidence import Evidence
from meshgate.facts.mesh import Mesh
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load
from meshgate.verdict import Basis, CouldNotVerify, Finding, NotApplicable, Warn, listed

__all__ = [
    "Basis",
    "CouldNotVerify",
    "Evidence",
    "Finding",
    "Mesh",
    "NotApplicable",
    "Snapshot",
    "Warn",
    "listed",
    "load",
    "replace",
]
