"""Stage D: every workload has its new sidecar, and takes mTLS as its policy says, on the wire.

Runs right after the workloads were restarted.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("DP001")
def test_every_pod_that_should_have_a_sidecar_has_one(mesh: Mesh, warn: Warn) -> None:
    """A pod without one is outside the mesh: STRICT servers refuse it, and nothing protects it."""
    warn(mesh.sidecars.opted_out)
    missing = mesh.sidecars.missing

    assert not missing, listed(missing)


@pytest.mark.check("DP002")
def test_every_sidecar_is_of_the_expected_version(mesh: Mesh) -> None:
    """What was not restarted stays behind, and its version may lag only one minor."""
    outdated = mesh.sidecars.outdated

    assert not outdated, listed(outdated)


@pytest.mark.check("DP003")
def test_every_sidecar_follows_the_expected_istiod(mesh: Mesh) -> None:
    """One that follows nobody, or the old istiod, is cut off when that one is removed."""
    wrong_istiod = mesh.sidecars.wrong_istiod

    assert not wrong_istiod, listed(wrong_istiod)


@pytest.mark.check("DP004")
def test_every_port_takes_what_its_policy_says(mesh: Mesh, warn: Warn) -> None:
    """A policy protects nothing that goes past the sidecar, and no log tells of it."""
    disagreements = mesh.wire.disagreements
    warn(mesh.wire.lax + mesh.wire.unseen)

    assert not disagreements, listed(disagreements)


@pytest.mark.check("DP005")
def test_every_sidecar_serves_a_good_certificate(mesh: Mesh, warn: Warn) -> None:
    """Peers refuse a certificate that is another's, that they cannot trust, or that has ended."""
    warn(mesh.wire.ageing_certificates)
    bad = mesh.wire.bad_certificates

    assert not bad, listed(bad)


@pytest.mark.check("DP006")
def test_no_destination_rule_breaks_mtls(mesh: Mesh) -> None:
    """A tls block in one replaces what the mesh would speak by itself: its clients get 503."""
    breaking = mesh.destination_rules.breaking

    assert not breaking, listed(breaking)


@pytest.mark.check("DP007")
def test_a_stranger_is_denied_where_policies_say_so(mesh: Mesh) -> None:
    """A policy that is not enforced lets anybody in, one that denies all stops the workload."""
    policy_violations = mesh.authorization.policy_violations

    assert not policy_violations, listed(policy_violations)


@pytest.mark.check("DP008")
def test_a_new_pod_is_given_its_sidecar(mesh: Mesh, warn: Warn) -> None:
    """What is restarted tonight, or scales up tomorrow, is as good as the injector is now."""
    warn(mesh.probe_pair.unknown_versions)
    uninjected = mesh.probe_pair.uninjected

    assert not uninjected, listed(uninjected)


@pytest.mark.check("DP009")
def test_new_pods_reach_each_other(mesh: Mesh, warn: Warn) -> None:
    """Sidecar to sidecar is what applications do: it takes both ends, and istiod between them."""
    broken = mesh.probe_pair.broken
    warn(mesh.probe_pair.unreached)

    assert not broken, listed(broken)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
