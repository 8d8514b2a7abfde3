"""Stage B: istiod is upgraded and healthy, and every proxy is connected to it.

Runs after istiod was synced, before gateways and workloads are restarted.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.semantics.node_agents import CNI, ZTUNNEL
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.controlplane


@pytest.mark.check("CP001")
def test_istiod_is_rolled_out_on_the_expected_version(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A rollout that hangs leaves two versions of istiod, which configure proxies differently."""
    unfinished = mesh.control_plane.unfinished_rollouts
    basis(len(mesh.control_plane.deployments), "Deployment")

    warn(mesh.control_plane.kept)

    assert not unfinished, listed(unfinished)


@pytest.mark.check("CP002")
def test_every_replica_is_ready_and_answers(mesh: Mesh, basis: Basis) -> None:
    """A replica that does not answer still holds the proxies that are connected to it."""
    silent = mesh.control_plane.silent_replicas
    basis(len(mesh.control_plane.replicas), "istiod replica")

    assert not silent, listed(silent)


@pytest.mark.check("CP003")
def test_every_proxy_is_connected(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A proxy without istiod keeps its last configuration until its certificate expires."""
    warn(mesh.proxies.on_lost_nodes)
    disconnected = mesh.proxies.disconnected
    basis(len(mesh.proxies.promised), "proxy")

    assert not disconnected, listed(disconnected)


@pytest.mark.check("CP004")
def test_no_proxy_rejects_its_configuration(mesh: Mesh, basis: Basis) -> None:
    """A rejected push has no effect; after a restart the pod never becomes Ready."""
    rejections = mesh.proxies.rejections
    basis(len(mesh.proxies.promised), "proxy")

    assert not rejections, listed(rejections)


@pytest.mark.check("CP005")
def test_no_proxy_stays_stale(mesh: Mesh, basis: Basis) -> None:
    """A proxy that stops answering routes by outdated configuration."""
    stale = mesh.proxies.stale
    basis(len(mesh.proxies.promised), "proxy")

    assert not stale, listed(stale)


@pytest.mark.check("CP006")
def test_analyze_reports_no_error(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Configuration that istiod cannot apply fails where it is used, not where it is written."""
    warn(mesh.analysis.warnings)
    errors = mesh.analysis.errors
    basis(mesh.analysis.namespaces, "namespace")

    assert not errors, listed(errors)


@pytest.mark.check("CP007")
def test_webhooks_can_be_called(mesh: Mesh, basis: Basis) -> None:
    """A webhook that cannot be called blocks the creation of pods or changes to Istio resources."""
    broken = mesh.admission.broken_webhooks
    basis(len(mesh.admission.webhooks.all), "webhook")

    assert not broken, listed(broken)


@pytest.mark.check("CP008")
def test_new_pods_are_injected(mesh: Mesh, basis: Basis) -> None:
    """A pod without its sidecar runs outside the mesh, and only its peers notice."""
    uninjected = mesh.admission.uninjected
    basis(len(mesh.admission.samples), "sample pod")

    assert not uninjected, listed(uninjected)


@pytest.mark.check("CP009")
def test_invalid_resources_are_refused(mesh: Mesh, basis: Basis) -> None:
    """istiod ignores an invalid resource, or every proxy that receives it rejects it."""
    unvalidated = mesh.admission.unvalidated
    basis(len(mesh.admission.webhooks.validators), "validating webhook")

    assert not unvalidated, listed(unvalidated)


@pytest.mark.check("CP010")
def test_the_ca_signs(mesh: Mesh, basis: Basis) -> None:
    """Without a CA no new pod gets an identity, and all others expire within a day."""
    unsigned = mesh.authority.unsigned
    basis(mesh.authority.signatures, "istiod replica")

    assert not unsigned, listed(unsigned)


@pytest.mark.check("CP011")
def test_every_namespace_trusts_the_same_roots(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Workloads that trust different roots, or an expired one, cannot connect to each other."""
    warn(mesh.authority.ageing)
    distrusted = mesh.authority.split_trust + mesh.authority.expiring
    basis(len(mesh.authority.namespaces), "namespace")
    basis(mesh.authority.issuers, "CA certificate")

    assert not distrusted, listed(distrusted)


@pytest.mark.check("CP012")
def test_every_revision_in_use_has_an_istiod(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A label or tag of a removed revision fails when the next pod is created."""
    warn(mesh.revisions.lagging + mesh.revisions.contradicting)
    warn(mesh.revisions.labels.unread_patches)
    dangling = mesh.revisions.labels.unread + mesh.revisions.dangling
    basis(mesh.revisions.selecting + len(mesh.revisions.labels.objects), "object")

    assert not dangling, listed(dangling)


@pytest.mark.check("CP013")
def test_istiod_pushes_without_errors_and_on_time(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Proxies do not learn what istiod cannot push, although everything looks healthy."""
    warn(mesh.numbers.slow)
    push_errors = mesh.numbers.push_errors
    basis(len(mesh.control_plane.replicas), "istiod replica")

    assert not push_errors, listed(push_errors)


@pytest.mark.check("CP014")
def test_istiod_is_not_killed(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """After each kill all proxies reconnect at once, and need more memory than before."""
    failing = mesh.numbers.failing

    warn(mesh.numbers.restarted)
    basis(len(mesh.control_plane.replicas), "istiod replica")

    assert not failing, listed(failing)


@pytest.mark.check("CP015")
def test_no_configuration_conflicts(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """istiod keeps the older of two conflicting objects and silently omits the newer one."""
    warn(mesh.numbers.possibly_conflicting)
    conflicting = mesh.numbers.conflicting
    basis(len(mesh.control_plane.replicas), "istiod replica")

    assert not conflicting, listed(conflicting)


@pytest.mark.check("CP016")
def test_node_agents_are_rolled_out_and_supported(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Without its CNI plugin or ztunnel a node starts no new pod, or starts it outside the mesh."""
    broken = mesh.node_agents.broken
    warn(mesh.node_agents.behind)
    basis(len(mesh.node_agents.daemon_sets), "DaemonSet")
    basis(len(mesh.node_agents.ztunnels), "ztunnel pod")

    assert not broken, listed(broken)


@pytest.mark.check("CP017")
def test_istiod_uses_its_mesh_config(mesh: Mesh, basis: Basis) -> None:
    """One field of the wrong type makes istiod ignore all settings of the mesh."""
    basis(len(mesh.mesh_configs.all), "mesh config")
    unused = mesh.mesh_configs.unused

    assert not unused, listed(unused)


@pytest.mark.check("CP018")
def test_new_pods_would_be_accepted(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """What the injector adds can break the rules of a namespace: then a restart gets no pod."""
    basis(len(mesh.new_pods.all), "workload")
    warn(mesh.new_pods.refused_later)
    refused = mesh.new_pods.refused

    assert not refused, listed(refused)


@pytest.mark.check("CP019")
def test_injection_did_not_change(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A restart changes more than the proxy's version when the injector's output changed."""
    losses = mesh.injection_changes.losses
    warn(mesh.injection_changes.changes)
    basis(len(mesh.injection_changes.pairs), "workload")

    assert not losses, listed(losses)


@pytest.mark.check("CP020")
def test_istiod_reads_every_remote_cluster(mesh: Mesh, basis: Basis) -> None:
    """The services of a cluster that istiod has not read have no endpoints in the others."""
    unsynced = mesh.mesh_configs.unsynced
    basis(len(mesh.mesh_configs.remote_clusters), "remote cluster")

    assert not unsynced, listed(unsynced)


@pytest.mark.check("CP021")
def test_every_extension_provider_exists(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A CUSTOM policy without its provider denies every request that it matches."""
    missing = mesh.mesh_configs.missing_providers
    warn(mesh.mesh_configs.missing_telemetry_providers)
    basis(len(mesh.mesh_configs.named_providers), "provider")

    assert not missing, listed(missing)


@pytest.mark.check("CP022")
def test_crds_are_not_older_than_istiod(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """The API server drops fields that a CRD does not have, and nothing reports it."""
    basis(len(mesh.istio_crds.all), "CustomResourceDefinition")
    outdated = mesh.istio_crds.outdated

    warn(mesh.istio_crds.missing)

    assert not outdated, listed(outdated)


@pytest.mark.check("CP023")
def test_proxies_load_the_modules_of_wasm_plugins(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """In place of a module that cannot be fetched the proxy denies, or allows, every request."""
    basis(len(mesh.wasm_modules.all), "WasmPlugin")
    failed = mesh.wasm_modules.failed

    warn(mesh.wasm_modules.partly_failed)

    assert not failed, listed(failed)


@pytest.mark.check("CP028")
def test_no_request_was_lost_while_istiod_was_replaced(
    mesh: Mesh, warn: Warn, basis: Basis
) -> None:
    """istiod's rollout also replaces the gateways of the Gateway API, without a restart."""
    warn(mesh.watched.remarks)
    lost = mesh.watched.lost
    basis(mesh.watched.requests, "request")
    basis(mesh.watched.connections, "long-lived connection")

    assert not lost, listed(lost)


@pytest.mark.check("CP029")
def test_a_rollback_is_possible(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A failed upgrade is undone only while the previous release can run again."""
    obstacles = mesh.rollback.obstacles
    warn(mesh.rollback.losses)
    basis(1, "previous release")
    basis(len(mesh.rollback.watched), "CRD")

    assert not obstacles, listed(obstacles)


@pytest.mark.check("CP030")
def test_the_previous_release_accepts_what_exists(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Objects that use features of the new release are rejected or ignored by the old one."""
    rejected = mesh.rollback.rejected
    warn(mesh.rollback.changed)
    basis(mesh.rollback.proxies, "proxy")

    assert not rejected, listed(rejected)


@pytest.mark.check("CP025")
def test_istiod_knows_the_pods_in_ambient_mode(mesh: Mesh, basis: Basis) -> None:
    """Clients do as istiod says: plaintext without HBONE, or past a waypoint and its policies."""
    wrong = mesh.ambient_index.wrong
    basis(len(mesh.ambient_index.replicas), "istiod replica")

    assert not wrong, listed(wrong)


@pytest.mark.check("CP026")
def test_ztunnels_and_waypoints_are_connected(mesh: Mesh, basis: Basis) -> None:
    """A ztunnel that lost istiod does not learn of new pods: connections to them fail."""
    disconnected = mesh.ambient_proxies.disconnected
    basis(len(mesh.ambient_proxies.all), "ambient proxy")

    assert not disconnected, listed(disconnected)


@pytest.mark.check("CP027")
def test_pods_in_ambient_mode_are_captured(mesh: Mesh, basis: Basis) -> None:
    """Policies do not protect a pod that bypasses ztunnel; without an agent no new pod starts."""
    nodes = mesh.ambient_nodes
    problems = nodes.missing(CNI) + nodes.missing(ZTUNNEL) + nodes.unserved
    basis(nodes.count, "pod")

    assert not problems, listed(problems)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
