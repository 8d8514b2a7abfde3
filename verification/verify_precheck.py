"""Stage A: nothing prevents the upgrade that is about to be applied.

Runs before anything is applied.  The target is `--target-version`, else the version of istioctl.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.semantics.node_agents import CNI, ZTUNNEL
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.precheck


@pytest.mark.check("PC001")
def test_istioctl_precheck_finds_nothing(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Istio's own check knows what its release does not tolerate."""
    warn(mesh.precheck.warnings)
    errors = mesh.precheck.errors
    basis(mesh.precheck.namespaces, "namespace")

    assert not errors, listed(errors)


@pytest.mark.check("PC002")
def test_upgrade_is_one_step_forward(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Istio tests and supports upgrades by one minor version."""
    warn(mesh.upgrade.rollbacks + mesh.upgrade.lost_fixes)
    steps = mesh.upgrade.wrong_steps
    basis(len(mesh.upgrade.running), "istiod")

    assert not steps, listed(steps)


@pytest.mark.check("PC003")
def test_the_target_supports_this_kubernetes(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """istiod on an unsupported Kubernetes version fails in unexpected places."""
    warn(mesh.upgrade.ended)
    unsupported = mesh.upgrade.unsupported_kubernetes
    basis(1, "cluster")

    assert not unsupported, listed(unsupported)


@pytest.mark.check("PC004")
def test_every_proxy_is_within_the_skew(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A proxy that is too old may not understand what the new istiod sends."""
    warn(mesh.proxy_skew.ahead_for_now)
    skewed = mesh.proxy_skew.out_of_skew
    basis(len(mesh.proxy_skew.versions), "proxy")

    assert not skewed, listed(skewed)


@pytest.mark.check("PC005")
def test_nothing_is_in_use_that_was_removed(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """istiod ignores removed settings without an error."""
    warn(mesh.changes.turned)
    removed = mesh.changes.removed
    basis(len(mesh.upgrade.running), "istiod")
    basis(len(mesh.changes.ahead), "known change")

    assert not removed, listed(removed)


@pytest.mark.check("PC006")
def test_every_envoy_filter_still_applies(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A filter for one version silently stops applying when its pods restart on another."""
    warn(mesh.envoy_filters.fragile)
    lost = mesh.envoy_filters.lost
    basis(len(mesh.envoy_filters.all), "EnvoyFilter")

    assert not lost, listed(lost)


@pytest.mark.check("PC007")
def test_the_gateway_api_is_what_the_target_reads(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """istiod waits forever for a CRD version that is not served, and ignores old bundles."""
    warn(mesh.gateway_api.old)
    unread = mesh.gateway_api.unread
    basis(len(mesh.gateway_api.watched), "CRD")

    assert not unread, listed(unread)


@pytest.mark.check("PC008")
def test_nothing_is_claimed_twice(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Two owners of a namespace, tag or field overwrite each other with every sync."""
    warn(mesh.ownership.ambiguous + mesh.ownership.contested)
    conflicts = mesh.ownership.conflicts
    basis(len(mesh.ownership.webhooks.all), "webhook")

    assert not conflicts, listed(conflicts)


@pytest.mark.check("PC009")
def test_every_pod_would_come_back_into_the_mesh(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A pod that loses its sidecar at a restart keeps running outside the mesh."""
    warn(mesh.restart.unreached + mesh.restart.stuck + mesh.restart.guarded)
    lost = mesh.restart.lost
    basis(len(mesh.restart.proxied), "pod")

    assert not lost, listed(lost)


@pytest.mark.check("PC010")
def test_no_image_comes_from_a_registry_that_shuts_down(mesh: Mesh, basis: Basis) -> None:
    """A pod whose image cannot be pulled cannot start on another node."""
    affected = mesh.registries.affected
    basis(mesh.registries.pods, "pod")
    basis(mesh.registries.workloads, "workload")

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


@pytest.mark.check("PC015")
def test_the_target_supports_every_node_agent(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """An agent that is too old does not understand what the new istiod sends to its node."""
    warn(mesh.ambient_agents.out_of_order)
    unsupported = mesh.ambient_agents.unsupported
    basis(mesh.ambient_agents.count(CNI, ZTUNNEL), "DaemonSet")

    assert not unsupported, listed(unsupported)


@pytest.mark.check("PC016")
def test_node_agents_are_complete(mesh: Mesh, basis: Basis) -> None:
    """What is broken before the upgrade stays broken, and then looks like its fault."""
    obstacles = mesh.ambient_agents.obstacles
    basis(mesh.ambient_agents.count(CNI, ZTUNNEL), "DaemonSet")

    assert not obstacles, listed(obstacles)


@pytest.mark.check("PC017")
def test_a_rollback_would_be_possible(mesh: Mesh, basis: Basis) -> None:
    """An upgrade without a way back needs another plan, before it starts."""
    foreseen = mesh.rollback.foreseen
    basis(1, "previous release")
    basis(len(mesh.rollback.watched), "CRD")

    assert not foreseen, listed(foreseen)


@pytest.mark.check("PC018")
def test_the_nodes_have_room_for_the_restart(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A rolling restart waits for a pod that no node has room for, until its time is over."""
    basis(len(mesh.capacity.surging), "workload")
    stuck = mesh.capacity.stuck
    warn(mesh.capacity.tight)

    assert not stuck, listed(stuck)


@pytest.mark.check("PC019")
def test_every_node_can_pull_the_images(mesh: Mesh, basis: Basis) -> None:
    """A node without the image keeps every pod of the restart waiting that lands on it."""
    basis(len(mesh.image_pulls.all), "pull")
    refused = mesh.image_pulls.refused

    assert not refused, listed(refused)


@pytest.mark.check("PC101")
def test_the_targets_envoy_takes_what_its_istiod_would_send(mesh: Mesh, basis: Basis) -> None:
    """A sidecar that rejects its configuration is found before a pod restarts with it."""
    refused = mesh.shadow.refused
    basis(mesh.shadow.proxies, "proxy")

    assert not refused, listed(refused)


@pytest.mark.check("PC102")
def test_nothing_that_a_proxy_has_would_be_gone(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A filter, route or rule that silently disappears is found before the upgrade."""
    warn(mesh.shadow.changed)
    gone = mesh.shadow.gone
    basis(mesh.shadow.proxies, "proxy")

    assert not gone, listed(gone)


@pytest.mark.check("PC103")
def test_every_enrolled_namespace_would_be_injected(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """The target's injector otherwise acts on a pod only when the pod restarts."""
    warn(mesh.shadow.reshaped)
    left_out = mesh.shadow.left_out
    basis(mesh.shadow.namespaces, "namespace")

    assert not left_out, listed(left_out)


@pytest.mark.check("PC104")
def test_no_workload_loses_its_pods_to_the_new_injector(mesh: Mesh, basis: Basis) -> None:
    """A pod that the new injector rejects is missing only when its workload restarts."""
    rejected = mesh.shadow.rejected
    basis(mesh.shadow.templates, "workload")

    assert not rejected, listed(rejected)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
