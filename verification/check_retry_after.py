"""Stage D: EnvoyFilters about Retry-After are applied, and answers carry a valid value.

Runs after the workloads were restarted onto the new version.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("RA001")
def test_every_filter_is_applied(mesh: Mesh, basis: Basis) -> None:
    """Istio reports no error for a patch that matches nothing: answers just lack the header."""
    unapplied = mesh.retry_after.missing or mesh.retry_after.unapplied
    basis(mesh.retry_after.count, "EnvoyFilter")

    assert not unapplied, listed(unapplied)


@pytest.mark.check("RA002")
def test_every_fixed_value_is_valid(mesh: Mesh, basis: Basis) -> None:
    """Clients ignore a Retry-After that they cannot parse, and retry immediately."""
    malformed = mesh.retry_after.malformed
    basis(len(mesh.retry_after.values), "value")

    assert not malformed, listed(malformed)


@pytest.mark.check("RA003")
def test_every_declared_target_sends_retry_after(mesh: Mesh, basis: Basis) -> None:
    """Only an answer proves that the configured filter has the intended effect."""
    unannounced = mesh.retry_answers.unannounced
    basis(len(mesh.retry_answers.bursts), "target")

    assert not unannounced, listed(unannounced)


@pytest.mark.check("RA004")
def test_a_proxy_waits_before_it_retries(mesh: Mesh, basis: Basis) -> None:
    """A proxy that retries immediately makes an overload worse for all clients."""
    ignoring_retry_after = mesh.retry_answers.ignoring_retry_after
    basis(len(mesh.retry_answers.retried), "call")

    assert not ignoring_retry_after, listed(ignoring_retry_after)


@pytest.mark.check("RA005")
def test_a_throttled_answer_has_a_valid_retry_after(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A script's value is only known once a sidecar that the filter selects sends it."""
    misleading = mesh.retry_answers.misleading
    warn(mesh.retry_answers.unspoken)
    basis(mesh.retry_answers.answered, "pod")

    assert not misleading, listed(misleading)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
