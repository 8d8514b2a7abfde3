"""Stage D: every workload runs with its new sidecar, and its ports enforce mTLS as configured.

Runs after the workloads were restarted.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("DP001")
def test_every_pod_that_should_have_a_sidecar_has_one(mesh: Mesh, warn: Warn) -> None:
    """A pod without a sidecar is outside the mesh: STRICT servers refuse it."""
    warn(mesh.sidecars.opted_out)
    missing = mesh.sidecars.missing

    assert not missing, listed(missing)


@pytest.mark.check("DP002")
def test_every_sidecar_has_the_expected_version(mesh: Mesh, warn: Warn) -> None:
    """A sidecar that was not restarted may be only one minor version behind istiod."""
    outdated = mesh.sidecars.outdated
    warn(mesh.sidecars.outdated_jobs)

    assert not outdated, listed(outdated)


@pytest.mark.check("DP003")
def test_every_sidecar_is_connected_to_the_expected_istiod(mesh: Mesh) -> None:
    """A sidecar of the old istiod loses its configuration source when that one is removed."""
    wrong_istiod = mesh.sidecars.wrong_istiod

    assert not wrong_istiod, listed(wrong_istiod)


@pytest.mark.check("DP004")
def test_every_port_follows_its_mtls_policy(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A policy does not protect traffic that bypasses the sidecar, and no log reports it."""
    disagreements = mesh.wire.disagreements
    warn(mesh.wire.lax + mesh.wire.unseen)
    basis(len(mesh.wire.pairs), "port")

    assert not disagreements, listed(disagreements)


@pytest.mark.check("DP005")
def test_every_sidecar_serves_its_own_valid_certificate(
    mesh: Mesh, warn: Warn, basis: Basis
) -> None:
    """Peers refuse a certificate that is expired, untrusted or of another identity."""
    warn(mesh.certificates.ageing + mesh.wire.unseen)
    bad = mesh.certificates.bad
    basis(len(mesh.wire.pairs), "port")

    assert not bad, listed(bad)


@pytest.mark.check("DP006")
def test_no_destination_rule_breaks_mtls(mesh: Mesh) -> None:
    """A tls block replaces auto-mTLS: if the server refuses that mode, its clients get 503."""
    breaking = mesh.destination_rules.breaking

    assert not breaking, listed(breaking)


@pytest.mark.check("DP007")
def test_unauthorized_identities_are_denied(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A policy that is not enforced admits everyone; one that denies all stops the workload."""
    policy_violations = mesh.authorization.policy_violations
    warn(mesh.authorization.denied_by_default + mesh.authorization.denied_on_tcp)
    basis(len(mesh.wire.pairs), "port")

    assert not policy_violations, listed(policy_violations)


@pytest.mark.check("DP008")
def test_a_new_pod_gets_its_sidecar(mesh: Mesh, warn: Warn) -> None:
    """Every pod that is created from now on depends on the injector as it is now."""
    warn(mesh.probe_pair.unknown_versions)
    uninjected = mesh.probe_pair.uninjected

    assert not uninjected, listed(uninjected)


@pytest.mark.check("DP009")
def test_new_pods_reach_each_other(mesh: Mesh, warn: Warn) -> None:
    """Sidecar to sidecar is how applications communicate: it needs both ends and istiod."""
    broken = mesh.probe_pair.broken
    warn(mesh.probe_pair.unreached)

    assert not broken, listed(broken)


@pytest.mark.check("DP010")
def test_every_workload_has_its_pods(mesh: Mesh) -> None:
    """After a restart whose pods cannot be created, no pod is left to look unhealthy."""
    without_pods = mesh.workload_pods.missing

    assert not without_pods, listed(without_pods)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
