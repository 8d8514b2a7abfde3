"""HBONE to servers on loopback that behave as ztunnel and a waypoint do, or as neither."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshgate.probe import hbone, hbone_client
from meshgate.probe.hbone import Target
from meshgate.probe.signing import Identity
from meshgate.snapshot.hbone import NO_ANSWER, Tunnel, TunnelProbe
from tests.support import webhook_builders as build
from tests.support.hbone_server import HboneServer

NOW = datetime.now(UTC)
BEGUN = NOW - timedelta(hours=1)
ROOT = build.issued("root", begins=BEGUN)
CATALOG = "spiffe://cluster.local/ns/library/sa/catalog"
US = "spiffe://cluster.local/ns/istio-system/sa/verifier"
RBAC = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 19\r\n\r\nRBAC: access denied"
NO_UPSTREAM = (
    b"HTTP/1.1 503 Service Unavailable\r\nserver: istio-envoy\r\ncontent-length: 19\r\n\r\n"
    b"no healthy upstream"
)


def signed(name: str) -> build.Issued:
    sans = [x509.UniformResourceIdentifier(name)]
    return build.issued("workload", ROOT, ca=False, begins=BEGUN, sans=sans)


OURS = signed(US)
IDENTITY = Identity(OURS.pem.encode(), OURS.key_pem, US)

Serve = Callable[..., TunnelProbe]


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of HBONE and returns what a probe sees of it."""
    monkeypatch.setattr(hbone, "TIMEOUT", 1.5)
    with ExitStack() as servers:

        def probed(*, http: bool = True, **behavior: Any) -> TunnelProbe:
            server = HboneServer(**behavior)
            servers.enter_context(server.serving(tmp_path, signed(CATALOG), ROOT))
            monkeypatch.setattr(hbone_client, "PORT", server.port)
            (found,) = hbone.ask([target(http=http)], IDENTITY, ROOT.pem, NOW, 0)
            assert all(each.startswith(b"OPTIONS / ") for each in server.requests)
            return found

        yield probed


def of_mesh(seen: TunnelProbe) -> Tunnel:
    assert seen.mesh is not None
    return seen.mesh


def target(*, http: bool = True) -> Target:
    host = "127.0.0.1" if http else ""
    return Target("library/catalog-1", "127.0.0.1", "127.0.0.1:8080", 8080, host)


def test_a_healthy_server_passes_the_mesh_and_refuses_others(probe: Serve) -> None:
    seen = probe()

    assert (of_mesh(seen).end, of_mesh(seen).connect, of_mesh(seen).status) == ("open", 200, 200)
    assert seen.chain[0].sans == (CATALOG,)
    assert seen.distrust == ""
    for tunnel in (seen.anonymous, seen.foreign):
        assert (tunnel.end, tunnel.connect) == ("refused", 0)


def test_a_server_that_demands_no_certificate_accepts_everyone(probe: Serve) -> None:
    seen = probe(demands=False)

    assert seen.anonymous.connect == seen.foreign.connect == 200


@pytest.mark.parametrize("status", [401, 503])
def test_a_connect_may_be_declined(probe: Serve, status: int) -> None:
    seen = probe(connect=status)

    assert (of_mesh(seen).end, of_mesh(seen).connect, of_mesh(seen).status) == (
        "declined",
        status,
        0,
    )
    assert of_mesh(seen).identity == CATALOG


def test_a_policy_denies_inside_the_tunnel(probe: Serve) -> None:
    seen = probe(answer=RBAC)

    assert (of_mesh(seen).end, of_mesh(seen).status, of_mesh(seen).denied) == ("open", 403, True)


def test_a_waypoint_answers_for_a_backend_that_is_gone(probe: Serve) -> None:
    seen = probe(answer=NO_UPSTREAM)

    assert (of_mesh(seen).status, of_mesh(seen).reason, of_mesh(seen).denied) == (503, "UH", False)


def test_an_open_tunnel_without_an_answer_times_out(probe: Serve) -> None:
    seen = probe(answer=None)

    assert (of_mesh(seen).end, of_mesh(seen).status) == ("open", 0)
    assert of_mesh(seen).error == NO_ANSWER


def test_nothing_is_sent_to_a_port_that_is_not_http(probe: Serve) -> None:
    seen = probe(http=False)

    assert (of_mesh(seen).end, of_mesh(seen).status, of_mesh(seen).error) == ("open", 0, "")


def test_a_closed_port_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(hbone_client, "PORT", server.getsockname()[1])
    (seen,) = hbone.ask([target()], IDENTITY, ROOT.pem, NOW, 0)

    assert seen.anonymous.end == of_mesh(seen).end == "unreachable"
    assert "refused" in seen.anonymous.error.lower()
