"""Stage C: the gateways work, and requests from outside reach their backends.

Runs after the gateways were restarted, before anything east-west is touched.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Basis, Warn, listed

pytestmark = pytest.mark.ingress


@pytest.mark.check("IG001")
def test_every_gateway_is_complete_and_of_the_expected_version(
    mesh: Mesh, warn: Warn, basis: Basis
) -> None:
    """A gateway that was not restarted keeps its old proxy, until support for that ends."""
    warn(mesh.proxies.on_lost_nodes)
    unfinished = mesh.gateway_rollout.unfinished
    basis(len(mesh.ingress.all.listeners), "listener")
    basis(len(mesh.ingress.unselected), "other gateway pod")

    assert not unfinished, listed(unfinished)


@pytest.mark.check("IG002")
def test_every_listener_is_served(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A listener without a Service port, or a Service without endpoints, refuses every client."""
    warn(mesh.gateway_entrypoints.addressless)
    unserved = mesh.gateway_entrypoints.unserved
    basis(len(mesh.ingress.topology.listeners), "listener")

    assert not unserved, listed(unserved)


@pytest.mark.check("IG003")
def test_every_gateway_and_route_is_in_effect(mesh: Mesh, basis: Basis) -> None:
    """A route that is not accepted answers 404; only its status says why."""
    unaccepted = mesh.gateway_conditions.unaccepted
    basis(len(mesh.gateway_conditions.gateways), "Gateway")

    assert not unaccepted, listed(unaccepted)


@pytest.mark.check("IG004")
def test_every_listener_opens_a_connection(mesh: Mesh, basis: Basis) -> None:
    """A listener that no client can connect to receives no traffic."""
    unreachable = mesh.gateway_connections.unreachable
    basis(len(mesh.ingress.traffic.exchanges), "request")

    assert not unreachable, listed(unreachable)


@pytest.mark.check("IG005")
def test_every_certificate_is_accepted_by_clients(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A client that rejects the certificate closes the connection; the gateway logs no error."""
    warn(mesh.served_certificates.expiring)
    bad = mesh.served_certificates.bad
    basis(len(mesh.served_certificates.served), "TLS handshake")

    assert not bad, listed(bad)


@pytest.mark.check("IG006")
def test_mutual_tls_refuses_clients_without_a_certificate(mesh: Mesh, basis: Basis) -> None:
    """A listener that stops demanding certificates admits every client, without an error."""
    missing_client_auth = mesh.gateway_connections.missing_client_auth
    basis(len(mesh.gateway_connections.without_certificate), "TLS handshake")

    assert not missing_client_auth, listed(missing_client_auth)


@pytest.mark.check("IG007")
def test_every_route_is_answered_by_its_backend(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """For its clients, a gateway that answers 404 or 503 is down."""
    warn(mesh.route_answers.denied + mesh.route_answers.ignored)
    unanswered = mesh.route_answers.unanswered
    basis(len(mesh.ingress.traffic.exchanges), "request")

    assert not unanswered, listed(unanswered)


@pytest.mark.check("IG008")
def test_what_answered_before_answers_in_the_same_way(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """Only a comparison finds answers that look right and are not what they were."""
    warn(mesh.traffic_comparison.drifted)
    changed = mesh.traffic_comparison.changed
    basis(len(mesh.traffic_comparison.before), "request")

    assert not changed, listed(changed)


@pytest.mark.check("IG009")
def test_every_declared_request_gets_its_declared_answer(mesh: Mesh, basis: Basis) -> None:
    """Only the owner of a service knows which answer is right."""
    mismatched = mesh.declared.mismatched
    basis(len(mesh.declared.answers), "declared request")

    assert not mismatched, listed(mismatched)


@pytest.mark.check("IG010")
def test_every_listener_takes_the_tls_versions_that_its_gateway_says(
    mesh: Mesh, warn: Warn, basis: Basis
) -> None:
    """An obsolete version admits weak clients; a missing version locks clients out."""
    warn(mesh.tls_versions.old)
    mismatched = mesh.tls_versions.mismatched
    basis(len(mesh.tls_versions.offered), "TLS handshake")

    assert not mismatched, listed(mismatched)


@pytest.mark.check("IG011")
def test_no_request_through_the_gateways_was_lost(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A gateway that works again may have lost requests during its rollout."""
    warn(mesh.watched.slow_through_gateways)
    lost = mesh.watched.lost_through_gateways
    basis(mesh.watched.through_gateways, "request")

    assert not lost, listed(lost)


@pytest.mark.check("IG014")
def test_every_waypoint_is_rolled_out_with_the_version_of_its_istiod(
    mesh: Mesh, basis: Basis
) -> None:
    """istiod sends each waypoint a new Deployment by itself; one that does not start is old."""
    unfinished = mesh.waypoints.unfinished
    basis(len(mesh.waypoints.all), "waypoint")

    assert not unfinished, listed(unfinished)


@pytest.mark.check("IG015")
def test_every_waypoint_passes_requests(mesh: Mesh, warn: Warn, basis: Basis) -> None:
    """A waypoint is Programmed, and accepts CONNECT, even if its listeners were rejected."""
    broken = mesh.waypoints.broken
    warn(mesh.waypoints.unproven)
    basis(len(mesh.waypoints.probed), "waypoint pod")

    assert not broken, listed(broken)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
