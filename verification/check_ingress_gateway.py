"""Stage C: the gateways are well, and traffic from outside really arrives.

Runs after the gateways were restarted, before anything east-west is touched.
"""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.plugin import run_alone
from meshgate.verdict import Warn, listed

pytestmark = pytest.mark.ingress


@pytest.mark.check("IG001")
def test_every_gateway_is_complete_and_of_the_expected_version(mesh: Mesh) -> None:
    """A gateway that was forgotten goes on as it was, until its version is no longer supported."""
    unfinished = mesh.ingress.unfinished

    assert not unfinished, listed(unfinished)


@pytest.mark.check("IG002")
def test_every_listener_is_served(mesh: Mesh, warn: Warn) -> None:
    """A listener without a Service's port, or a Service without endpoints, refuses everybody."""
    warn(mesh.ingress.addressless)
    unserved = mesh.ingress.unserved

    assert not unserved, listed(unserved)


@pytest.mark.check("IG003")
def test_every_gateway_and_route_is_in_effect(mesh: Mesh) -> None:
    """A route that is not accepted answers 404, and says why in its status alone."""
    unaccepted = mesh.ingress.unaccepted

    assert not unaccepted, listed(unaccepted)


@pytest.mark.check("IG004")
def test_every_listener_opens_a_connection(mesh: Mesh) -> None:
    """What no client can connect to has lost all of its traffic."""
    unreachable = mesh.ingress.unreachable

    assert not unreachable, listed(unreachable)


@pytest.mark.check("IG005")
def test_every_certificate_is_one_that_clients_take(mesh: Mesh, warn: Warn) -> None:
    """A client that does not trust what is served hangs up, and the gateway sees no error."""
    warn(mesh.ingress.ageing_certificates)
    bad = mesh.ingress.bad_certificates

    assert not bad, listed(bad)


@pytest.mark.check("IG006")
def test_mutual_tls_refuses_who_has_no_certificate(mesh: Mesh) -> None:
    """A listener that stops asking lets everybody in, and nobody complains."""
    missing_client_auth = mesh.ingress.missing_client_auth

    assert not missing_client_auth, listed(missing_client_auth)


@pytest.mark.check("IG007")
def test_every_route_is_answered_by_its_backend(mesh: Mesh) -> None:
    """A gateway that is up and answers 404 or 503 is down for those who call it."""
    unanswered = mesh.ingress.unanswered

    assert not unanswered, listed(unanswered)


@pytest.mark.check("IG008")
def test_what_answered_before_answers_in_the_same_way(mesh: Mesh, warn: Warn) -> None:
    """Only a comparison finds what is well-formed, and not what it was."""
    warn(mesh.ingress.drifted)
    changed = mesh.ingress.changed

    assert not changed, listed(changed)


@pytest.mark.check("IG009")
def test_every_declared_request_gets_its_declared_answer(mesh: Mesh) -> None:
    """Only who owns a service knows which answer is right."""
    others = mesh.declared.others

    assert not others, listed(others)


@pytest.mark.check("IG010")
def test_every_listener_takes_the_tls_versions_that_its_gateway_says(
    mesh: Mesh, warn: Warn
) -> None:
    """An old version that came back lets weak clients in, one that went away shuts others out."""
    warn(mesh.tls_versions.old)
    others = mesh.tls_versions.others

    assert not others, listed(others)


@pytest.mark.check("IG011")
def test_no_request_was_lost_while_the_gateways_were_replaced(mesh: Mesh, warn: Warn) -> None:
    """A gateway that is well again has lost connections while it was not."""
    warn(mesh.watched.slow)
    lost = mesh.watched.lost

    assert not lost, listed(lost)


if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
