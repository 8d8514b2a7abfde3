"""The arguments of a check."""

import pytest

from meshgate.catalogue import checks
from meshgate.facts.mesh import Mesh
from meshgate.snapshot.model import Snapshot
from meshgate.verdict import Basis, Finding, Warn

MESH = pytest.StashKey[Mesh]()
BASIS = pytest.StashKey[Basis]()
WARNINGS = pytest.StashKey[list[Finding]]()


def mesh_of(config: pytest.Config, snapshot: Snapshot) -> Mesh:
    """Return the facts about a capture; settling and the run compute them once.

    Custom checks may change what they receive, so with them the run does not use what settling
    computed.
    """
    known = config.stash.get(MESH, None)
    custom = any(row.folder for row in checks().values())
    if custom or known is None or known.evidence.snapshot is not snapshot:
        config.stash[MESH] = Mesh(snapshot)
    return config.stash[MESH]


@pytest.fixture(scope="session")
def mesh(pytestconfig: pytest.Config) -> Mesh:
    """Return the mesh, as this run's one capture shows it; None in a run that only sets up."""
    if pytestconfig.getoption("setuponly", False):
        return None  # type: ignore[return-value]
    return pytestconfig.stash[MESH]


@pytest.fixture
def warn(request: pytest.FixtureRequest) -> Warn:
    """Report findings that do not close the gate."""
    collected = request.node.stash.setdefault(WARNINGS, [])
    return collected.extend  # type: ignore[no-any-return]


@pytest.fixture
def basis(request: pytest.FixtureRequest) -> Basis:
    """Count the objects that a check is based on: `basis(14, "pod")`."""
    return request.node.stash.setdefault(BASIS, Basis())  # type: ignore[no-any-return]
