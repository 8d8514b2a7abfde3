"""Stage D: EnvoyFilters about Retry-After are applied, and answers carry a valid value.

Runs after the workloads were restarted onto the new version.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("RA001")
def test_every_filter_is_applied(mesh: Mesh) -> None:
    """Istio reports no error for a patch that matches nothing: answers just lack the header."""
    unapplied = mesh.retry_after.missing or mesh.retry_after.unapplied

    assert not unapplied, listed(unapplied)


@pytest.mark.check("RA002")
def test_every_fixed_value_is_valid(mesh: Mesh) -> None:
    """Clients ignore a Retry-After that they cannot parse, and retry immediately."""
    malformed = mesh.retry_after.malformed

    assert not malformed, listed(malformed)


@pytest.mark.check("RA003")
def test_every_declared_target_sends_retry_after(mesh: Mesh) -> None:
    """Only an answer proves that the configured filter has the intended effect."""
    unannounced = mesh.retry_answers.unannounced

    assert not unannounced, listed(unannounced)


@pytest.mark.check("RA004")
def test_a_proxy_waits_before_it_retries(mesh: Mesh) -> None:
    """A proxy that retries immediately makes an overload worse for all clients."""
    ignoring_retry_after = mesh.retry_answers.ignoring_retry_after

    assert not ignoring_retry_after, listed(ignoring_retry_after)


@pytest.mark.check("RA005")
def test_a_throttled_answer_has_a_valid_retry_after(mesh: Mesh, warn: Warn) -> None:
    """A script's value is only known once a sidecar that the filter selects sends it."""
    misleading = mesh.retry_answers.misleading
    warn(mesh.retry_answers.unspoken)

    assert not misleading, listed(misleading)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
