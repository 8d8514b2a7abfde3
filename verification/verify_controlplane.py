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
    """Configuration that istiod cannot honour fails where it is used, not where it is written."""
    warn(mesh.analysis.warnings)
    errors = mesh.analysis.errors

    assert not errors, listed(errors)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
