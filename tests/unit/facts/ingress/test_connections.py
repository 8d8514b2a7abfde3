"""Whether connections open, and mutual TLS is enforced."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.connections import GatewayConnections
from meshgate.snapshot.ingress import Ingress
from meshgate.verdict import CouldNotVerify, Finding
from tests.support import ingress_builders as build
from tests.support.builders import expecting


def connections(**changes: Any) -> GatewayConnections:
    return build.mesh(**changes).gateway_connections


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def having(which: str = "", **seen: Any) -> Ingress:
    """The traffic of a gateway that is well, with what came back changed where the URL says so."""
    return build.traffic(
        *(
            build.answered(each, **(seen if which in f"{each.kind} {each.url}" else {}))
            for each in build.requests()
        )
    )


MUTUAL = (build.gateway(build.server(443, "HTTPS", mode="MUTUAL")),)


def test_a_connection_that_does_not_open() -> None:
    found = connections(
        ingress=having("http://", stage="connect", error="refused", status=0)
    ).unreachable

    assert "Gateway ways/front port 80/HTTP: no connection from inside" in told(found)
    assert found[0].transient


def test_a_handshake_that_breaks_off_names_the_credential() -> None:
    found = connections(
        ingress=having("connect https", stage="handshake", error="reset", certificate=None)
    ).unreachable

    assert (
        "the TLS handshake for shop.example.com fails from inside: reset, credential a-cert"
        in told(found)
    )


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, ""),
        ({"stage": "", "error": "", "status": 200}, "answers 200 to a client without"),
        (
            {"alert": "", "error": "reset"},
            "closes the connection without demanding a certificate: reset",
        ),
    ],
)
def test_mutual_tls(seen: dict[str, Any], words: str) -> None:
    (asked, *_) = build.requests(gateways=MUTUAL)
    sent = build.traffic(build.answered(asked, **seen))

    found = told(connections(gateways=MUTUAL, ingress=sent).missing_client_auth)

    assert (words in found) if words else not found


def test_a_listener_that_was_not_reached_is_no_evidence_of_mutual_tls() -> None:
    (asked, *_) = build.requests(gateways=MUTUAL)
    sent = build.traffic(build.answered(asked, stage="connect", error="refused", status=0))
    found = connections(gateways=MUTUAL, ingress=sent)

    assert (found.missing_client_auth, found.without_certificate) == ([], [])


def test_less_than_was_planned_proves_nothing() -> None:
    sent = msgspec.structs.replace(having(), unsent=tuple(build.requests()))

    with pytest.raises(CouldNotVerify, match="8 of the planned requests were not sent"):
        _ = connections(ingress=sent).unreachable


def test_a_vantage_point_that_is_required_and_was_not_used_proves_nothing() -> None:
    away = expecting(vantages=("inside", "outside"))

    with pytest.raises(CouldNotVerify, match="nothing was sent from outside"):
        _ = connections(**away).unreachable
