"""Ambient mode: every node has its CNI agent and its ztunnel, and they serve its pods.

Runs after istio-cni was synced (AM001, AM002), and again after ztunnel was (all).
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.semantics.node_agents import CNI, ZTUNNEL
from meshgate.verdict import Basis, listed

pytestmark = pytest.mark.ambient


@pytest.mark.check("AM001")
def test_every_node_has_its_cni_agent(mesh: Mesh, basis: Basis) -> None:
    """On a node without it no new pod starts, or it starts outside the mesh."""
    lacking = mesh.ambient_agents.lacking(CNI)
    basis(mesh.ambient_agents.count(CNI), "DaemonSet")

    assert not lacking, listed(lacking)


@pytest.mark.check("AM002")
def test_every_pod_is_captured(mesh: Mesh, basis: Basis) -> None:
    """An agent that was replaced may lose pods: they stay Ready and answer plaintext."""
    unserved = mesh.ambient_nodes.unserved
    basis(mesh.ambient_nodes.count, "pod")

    assert not unserved, listed(unserved)


@pytest.mark.check("AM003")
def test_every_node_has_its_ztunnel(mesh: Mesh, basis: Basis) -> None:
    """Without its ztunnel all connections to and from the pods of a node fail."""
    lacking = mesh.ambient_agents.lacking(ZTUNNEL)
    basis(mesh.ambient_agents.count(ZTUNNEL), "DaemonSet")

    assert not lacking, listed(lacking)


@pytest.mark.check("AM004")
def test_every_ztunnel_serves_its_pods(mesh: Mesh, basis: Basis) -> None:
    """A new ztunnel gets its pods from the CNI agent: those it did not get have no traffic."""
    differing = mesh.ambient_nodes.differing
    basis(mesh.ambient_nodes.count, "pod")

    assert not differing, listed(differing)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
