"""Stage A: nothing prevents the upgrade that is about to be applied.

Runs before anything is applied.  The target is `--target-version`, else the version of istioctl.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.precheck


@pytest.mark.check("PC001")
def test_istioctl_precheck_finds_nothing(mesh: Mesh, warn: Warn) -> None:
    """Istio's own check knows what its release does not tolerate."""
    warn(mesh.precheck.warnings)
    errors = mesh.precheck.errors

    assert not errors, listed(errors)


@pytest.mark.check("PC002")
def test_upgrade_is_one_step_forward(mesh: Mesh, warn: Warn) -> None:
    """Istio tests and supports upgrades by one minor version."""
    warn(mesh.upgrade.rollbacks + mesh.upgrade.lost_fixes)
    steps = mesh.upgrade.wrong_steps

    assert not steps, listed(steps)


@pytest.mark.check("PC003")
def test_the_target_supports_this_kubernetes(mesh: Mesh, warn: Warn) -> None:
    """istiod on an unsupported Kubernetes version fails in unexpected places."""
    warn(mesh.upgrade.ended)
    unsupported = mesh.upgrade.unsupported_kubernetes

    assert not unsupported, listed(unsupported)


@pytest.mark.check("PC004")
def test_every_proxy_is_within_the_skew(mesh: Mesh, warn: Warn) -> None:
    """A proxy that is too old may not understand what the new istiod sends."""
    warn(mesh.proxy_skew.ahead_for_now)
    skewed = mesh.proxy_skew.out_of_skew

    assert not skewed, listed(skewed)


@pytest.mark.check("PC005")
def test_nothing_is_in_use_that_was_removed(mesh: Mesh, warn: Warn) -> None:
    """istiod ignores removed settings without an error."""
    warn(mesh.changes.turned)
    removed = mesh.changes.removed

    assert not removed, listed(removed)


@pytest.mark.check("PC006")
def test_every_envoy_filter_still_applies(mesh: Mesh, warn: Warn) -> None:
    """A filter for one version silently stops applying when its pods restart on another."""
    warn(mesh.envoy_filters.fragile)
    lost = mesh.envoy_filters.lost

    assert not lost, listed(lost)


@pytest.mark.check("PC007")
def test_the_gateway_api_is_what_the_target_reads(mesh: Mesh, warn: Warn) -> None:
    """istiod waits forever for a CRD version that is not served, and ignores old bundles."""
    warn(mesh.gateway_api.old)
    unread = mesh.gateway_api.unread

    assert not unread, listed(unread)


@pytest.mark.check("PC008")
def test_nothing_is_claimed_twice(mesh: Mesh, warn: Warn) -> None:
    """Two owners of a namespace, tag or field overwrite each other with every sync."""
    warn(mesh.ownership.ambiguous + mesh.ownership.contested)
    conflicts = mesh.ownership.conflicts

    assert not conflicts, listed(conflicts)


@pytest.mark.check("PC009")
def test_every_pod_would_come_back_into_the_mesh(mesh: Mesh, warn: Warn) -> None:
    """A pod that loses its sidecar at a restart keeps running outside the mesh."""
    warn(mesh.restart.unreached + mesh.restart.guarded)
    lost = mesh.restart.lost

    assert not lost, listed(lost)


@pytest.mark.check("PC010")
def test_no_image_comes_from_a_registry_that_shuts_down(mesh: Mesh) -> None:
    """A pod whose image cannot be pulled cannot start on another node."""
    affected = mesh.registries.affected

    assert not affected, listed(affected)


@pytest.mark.check("PC011")
def test_the_next_istiod_can_parse_the_mesh_config(mesh: Mesh, basis: Basis) -> None:
    """A running istiod keeps what it has; the one that the upgrade starts has only defaults."""
    basis(len(mesh.mesh_configs.all), "mesh config")
    unused = mesh.mesh_configs.unused

    assert not unused, listed(unused)


@pytest.mark.check("PC012")
def test_new_pods_would_be_accepted(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A workload whose pods cannot be created is lost by the restart after the upgrade."""
    basis(len(mesh.new_pods.all), "workload")
    warn(mesh.new_pods.refused_later)
    refused = mesh.new_pods.refused

    assert not refused, listed(refused)


@pytest.mark.check("PC101")
def test_the_targets_envoy_takes_what_its_istiod_would_send(mesh: Mesh) -> None:
    """A sidecar that rejects its configuration is found before a pod restarts with it."""
    refused = mesh.shadow.refused

    assert not refused, listed(refused)


@pytest.mark.check("PC102")
def test_nothing_that_a_proxy_has_would_be_gone(mesh: Mesh, warn: Warn) -> None:
    """A filter, route or rule that silently disappears is found before the upgrade."""
    warn(mesh.shadow.changed)
    gone = mesh.shadow.gone

    assert not gone, listed(gone)


@pytest.mark.check("PC103")
def test_every_enrolled_namespace_would_be_injected(mesh: Mesh, warn: Warn) -> None:
    """The target's injector otherwise acts on a pod only when the pod restarts."""
    warn(mesh.shadow.reshaped)
    left_out = mesh.shadow.left_out

    assert not left_out, listed(left_out)


@pytest.mark.check("PC104")
def test_no_workload_loses_its_pods_to_the_new_injector(mesh: Mesh) -> None:
    """A pod that the new injector rejects is missing only when its workload restarts."""
    rejected = mesh.shadow.rejected

    assert not rejected, listed(rejected)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
