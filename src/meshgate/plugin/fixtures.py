"""The arguments of a check."""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.verdict import Basis, Finding, Warn

MESH = pytest.StashKey[Mesh]()
BASIS = pytest.StashKey[Basis]()
WARNINGS = pytest.StashKey[list[Finding]]()


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
