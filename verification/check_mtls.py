"""Stage D: every workload runs with its new sidecar, and its ports enforce mTLS as configured.

Runs after the workloads were restarted.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.dataplane


@pytest.mark.check("DP001")
def test_every_pod_that_should_have_a_sidecar_has_one(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A pod without a sidecar is outside the mesh: STRICT servers refuse it."""
    warn(mesh.sidecars.opted_out)
    missing = mesh.sidecars.missing
    basis(mesh.sidecars.selected, "pod")

    assert not missing, listed(missing)


@pytest.mark.check("DP002")
def test_every_sidecar_has_the_expected_version(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A sidecar that was not restarted may be only one minor version behind istiod."""
    outdated = mesh.sidecars.outdated
    warn(mesh.sidecars.outdated_jobs)
    basis(len(mesh.sidecars.upgraded), "proxy")

    assert not outdated, listed(outdated)


@pytest.mark.check("DP003")
def test_every_sidecar_is_connected_to_the_expected_istiod(
    mesh: Mesh, warn: Warn, basis: Basis
) -> None:
    """A sidecar of the old istiod loses its configuration source when that one is removed."""
    warn(mesh.proxies.on_lost_nodes)
    wrong_istiod = mesh.sidecars.wrong_istiod
    basis(len(mesh.sidecars.with_sidecar), "sidecar")

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
def test_no_destination_rule_breaks_mtls(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A tls block replaces auto-mTLS: if the server refuses that mode, its clients get 503."""
    breaking = mesh.destination_rules.breaking
    warn(mesh.destination_rules.limited)
    basis(mesh.destination_rules.count, "DestinationRule")
    basis(len(mesh.destination_rules.without_auto_mtls), "client without auto-mTLS")

    assert not breaking, listed(breaking)


@pytest.mark.check("DP007")
def test_unauthorized_identities_are_denied(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A policy that is not enforced admits everyone; one that denies all stops the workload."""
    policy_violations = mesh.authorization.policy_violations
    warn(mesh.authorization.denied_by_default + mesh.authorization.limited_on_tcp)
    basis(len(mesh.wire.pairs), "port")

    assert not policy_violations, listed(policy_violations)


@pytest.mark.check("DP008")
def test_a_new_pod_gets_its_sidecar(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Every pod that is created from now on depends on the injector as it is now."""
    warn(mesh.probe_pair.unknown_versions)
    uninjected = mesh.probe_pair.uninjected
    basis(len(mesh.probe_pair.peers), "new pod")

    assert not uninjected, listed(uninjected)


@pytest.mark.check("DP009")
def test_new_pods_reach_each_other(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Sidecar to sidecar is how applications communicate: it needs both ends and istiod."""
    broken = mesh.probe_pair.broken
    warn(mesh.probe_pair.unreached)
    basis(len(mesh.probe_pair.calls), "call")

    assert not broken, listed(broken)


@pytest.mark.check("DP010")
def test_every_workload_has_its_pods(mesh: Mesh, basis: Basis) -> None:
    """After a restart whose pods cannot be created, no pod is left to look unhealthy."""
    without_pods = mesh.workload_pods.missing
    basis(mesh.workload_pods.count, "workload")

    assert not without_pods, listed(without_pods)


@pytest.mark.check("DP011")
def test_callers_are_admitted_as_before(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A policy that rejects its legitimate callers stops the workload, and no proxy reports it."""
    rejecting = mesh.caller_comparison.rejecting
    warn(mesh.caller_comparison.admitting)
    basis(len(mesh.caller_comparison.pairs), "port")

    assert not rejecting, listed(rejecting)


@pytest.mark.check("DP012")
def test_every_ambient_pod_serves_hbone(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A pod that ztunnel does not serve is unreachable for its peers, or bypasses mTLS."""
    broken = mesh.ambient_ports.broken
    warn(mesh.ambient_ports.closed + mesh.ambient_ports.unseen)
    basis(len(mesh.ambient_ports.pairs), "port")

    assert not broken, listed(broken)


@pytest.mark.check("DP013")
def test_plaintext_to_ambient_pods_follows_their_policies(mesh: Mesh, basis: Basis) -> None:
    """A pod that bypasses ztunnel looks captured, and accepts plaintext under STRICT."""
    wrong = mesh.ambient_policies.plaintext
    basis(len(mesh.ambient_policies.plaintext_ports), "port")

    assert not wrong, listed(wrong)


@pytest.mark.check("DP014")
def test_ztunnel_enforces_authorization_policies(mesh: Mesh, basis: Basis) -> None:
    """A policy that no ztunnel enforces admits everyone."""
    policy_violations = mesh.ambient_policies.policy_violations
    basis(len(mesh.ambient_ports.pairs), "port")

    assert not policy_violations, listed(policy_violations)


@pytest.mark.check("DP015")
def test_no_request_was_lost_during_the_upgrade(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A mesh that is healthy after its upgrade may have lost requests during it."""
    warn(mesh.watched.remarks)
    lost = mesh.watched.lost
    basis(mesh.watched.requests, "request")
    basis(mesh.watched.connections, "long-lived connection")

    assert not lost, listed(lost)


@pytest.mark.check("DP016")
def test_old_and_new_proxies_call_each_other(mesh: Mesh, basis: Basis) -> None:
    """Until the last restart, pods of both versions call each other, which no other check tests."""
    broken = mesh.interoperation.broken
    basis(len(mesh.interoperation.directions), "direction")

    assert not broken, listed(broken)


@pytest.mark.check("DP017")
def test_every_declared_caller_is_allowed_or_denied(mesh: Mesh, basis: Basis) -> None:
    """A client that loses its access, or one that gains it, is what owners notice first."""
    mismatched = mesh.declared_pairs.mismatched
    basis(mesh.declared_pairs.count, "declared request")

    assert not mismatched, listed(mismatched)


@pytest.mark.check("DP018")
def test_no_workload_is_worse_than_before(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Correct configuration is half of the proof: the requests of real clients are the other."""
    basis(len(mesh.traffic.compared), "workload")
    warn(mesh.traffic.not_compared)
    worse = mesh.traffic.worse

    assert not worse, listed(worse)


@pytest.mark.check("DP019")
def test_no_alert_is_new(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """An alert that fired before says nothing of the upgrade; a new one does."""
    new_alerts = mesh.traffic.new_alerts
    warn(mesh.traffic.old_alerts)
    warn(mesh.traffic.unproven_rules)
    alerts, workloads = mesh.traffic.observed
    basis(alerts, "alert")
    basis(workloads, "workload")

    assert not new_alerts, listed(new_alerts)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
