"""Stage B: istiod is up, of the right version, and every proxy follows it.

Runs right after istiod was synced, before the gateways and any workload are touched.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Warn, listed

pytestmark = pytest.mark.controlplane


@pytest.mark.check("CP001")
def test_istiod_is_rolled_out_on_the_expected_version(mesh: Mesh) -> None:
    """A rollout that hangs leaves two versions of istiod that answer proxies differently."""
    unfinished = mesh.control_plane.unfinished_rollouts

    assert not unfinished, listed(unfinished)


@pytest.mark.check("CP002")
def test_every_replica_is_ready_and_answers(mesh: Mesh) -> None:
    """A replica that does not answer still holds the proxies that are connected to it."""
    silent = mesh.control_plane.silent_replicas

    assert not silent, listed(silent)


@pytest.mark.check("CP003")
def test_every_proxy_is_connected(mesh: Mesh) -> None:
    """A proxy without istiod keeps its last configuration, and its certificate runs out."""
    disconnected = mesh.proxies.disconnected

    assert not disconnected, listed(disconnected)


@pytest.mark.check("CP004")
def test_no_proxy_rejects_its_configuration(mesh: Mesh) -> None:
    """A rejected push changes nothing until the pod restarts, which then never becomes Ready."""
    rejections = mesh.proxies.rejections

    assert not rejections, listed(rejections)


@pytest.mark.check("CP005")
def test_no_proxy_stays_stale(mesh: Mesh) -> None:
    """A proxy that stops answering routes by what was true when it did."""
    stale = mesh.proxies.stale

    assert not stale, listed(stale)


@pytest.mark.check("CP006")
def test_analyze_finds_no_error(mesh: Mesh, warn: Warn) -> None:
    """Configuration that istiod cannot honor fails where it is used, not where it is written."""
    warn(mesh.analysis.warnings)
    errors = mesh.analysis.errors

    assert not errors, listed(errors)


@pytest.mark.check("CP007")
def test_webhooks_are_whole(mesh: Mesh) -> None:
    """A webhook that cannot be called keeps every pod, or every Istio resource, from changing."""
    broken = mesh.admission.broken_webhooks

    assert not broken, listed(broken)


@pytest.mark.check("CP008")
def test_every_enrolled_namespace_is_injected(mesh: Mesh) -> None:
    """A pod without its sidecar runs, is outside the mesh, and is noticed by its peers only."""
    uninjected = mesh.admission.uninjected

    assert not uninjected, listed(uninjected)


@pytest.mark.check("CP009")
def test_invalid_resources_are_refused(mesh: Mesh) -> None:
    """What is let in invalid is ignored by istiod, or rejected by every proxy that it reaches."""
    unvalidated = mesh.admission.unvalidated

    assert not unvalidated, listed(unvalidated)


@pytest.mark.check("CP010")
def test_the_ca_signs(mesh: Mesh) -> None:
    """Without it no new pod gets an identity, and those of all others run out within a day."""
    unsigned = mesh.authority.unsigned

    assert not unsigned, listed(unsigned)


@pytest.mark.check("CP011")
def test_every_namespace_trusts_the_same_lasting_roots(mesh: Mesh, warn: Warn) -> None:
    """Workloads that trust different roots, or one that has ended, cannot talk to each other."""
    warn(mesh.authority.ageing)
    distrusted = mesh.authority.split_trust + mesh.authority.expiring

    assert not distrusted, listed(distrusted)


@pytest.mark.check("CP012")
def test_every_revision_that_is_asked_for_has_an_istiod(mesh: Mesh, warn: Warn) -> None:
    """A label or tag that leads to a revision that is gone shows when the next pod is created."""
    warn(mesh.revisions.lagging + mesh.revisions.contradicting)
    dangling = mesh.revisions.dangling

    assert not dangling, listed(dangling)


@pytest.mark.check("CP013")
def test_istiod_pushes_well_and_in_time(mesh: Mesh, warn: Warn) -> None:
    """What istiod cannot push, no proxy hears of, however well everything looks."""
    warn(mesh.numbers.slow)
    push_errors = mesh.numbers.push_errors

    assert not push_errors, listed(push_errors)


@pytest.mark.check("CP014")
def test_istiod_is_not_killed(mesh: Mesh, warn: Warn) -> None:
    """After each kill all proxies come back at once, and need more memory than before."""
    failing = mesh.numbers.failing

    # first: a replica that was killed may have no numbers to warn by
    assert not failing, listed(failing)
    warn(mesh.numbers.restarted)


@pytest.mark.check("CP015")
def test_nothing_conflicts(mesh: Mesh) -> None:
    """istiod keeps the older of two that conflict, tells nobody, and the younger has no effect."""
    conflicting = mesh.numbers.conflicting

    assert not conflicting, listed(conflicting)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
