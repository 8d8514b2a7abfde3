"""Stage D: who is told "not now" is told when, by each EnvoyFilter that should see to that.

Runs after the workloads were restarted onto the new version.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("RA001")
def test_every_filter_is_applied(mesh: Mesh) -> None:
    """A patch that matches nothing is no error to Istio: its answers just lack the header."""
    unapplied = mesh.retry_after.missing or mesh.retry_after.unapplied

    assert not unapplied, listed(unapplied)


@pytest.mark.check("RA002")
def test_every_fixed_value_is_one(mesh: Mesh) -> None:
    """Clients ignore a Retry-After that they cannot read, and come again at once."""
    malformed = mesh.retry_after.malformed

    assert not malformed, listed(malformed)


@pytest.mark.check("RA003")
def test_every_declared_target_says_when(mesh: Mesh) -> None:
    """Only an answer shows that the filter that was configured does what it is there for."""
    unannounced = mesh.retry_after.unannounced

    assert not unannounced, listed(unannounced)


@pytest.mark.check("RA004")
def test_a_proxy_waits_as_it_is_told(mesh: Mesh) -> None:
    """A proxy that comes again at once makes an overload worse, in everybody's name."""
    ignoring_retry_after = mesh.retry_after.ignoring_retry_after

    assert not ignoring_retry_after, listed(ignoring_retry_after)


@pytest.mark.check("RA005")
def test_what_is_throttled_says_when(mesh: Mesh, warn: Warn) -> None:
    """What a filter really sends is seen on a pod that it takes for one of the workload's."""
    misleading = mesh.retry_after.misleading
    warn(mesh.retry_after.unspoken)

    assert not misleading, listed(misleading)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
