"""What all facts about gateways share."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.comparison import TrafficComparison
from meshgate.facts.ingress.routes import RouteAnswers
from meshgate.snapshot.ingress import Exchange, Ingress, Vantage
from meshgate.snapshot.model import Before
from meshgate.verdict import Finding
from tests.support import builders
from tests.support import ingress_builders as build
from tests.support.builders import AT, expecting


def routes(**changes: Any) -> RouteAnswers:
    return build.mesh(**changes).route_answers


def comparison(**changes: Any) -> TrafficComparison:
    return build.mesh(**changes).traffic_comparison


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


def shown(**seen: Any) -> list[Exchange]:
    """What a mutual TLS listener did, to those who show a certificate."""
    asked = build.requests(True, gateways=MUTUAL)
    return [build.answered(each, **seen if each.certificate else {}) for each in asked]


API = {
    "deployments": (
        builders.deployment(),
        build.gateway_deployment(labels={**build.LABELS, **build.API_LABELS}),
    ),
    "api_gateways": (build.api_gateway(),),
    "http_routes": (build.api_route(),),
}


def grpc(**seen: Any) -> list[Finding]:
    lists = {**API, "gateways": (), "http_routes": (), "grpc_routes": (build.api_route(),)}
    (asked,) = [each for each in build.requests(**lists) if each.kind == "request"]
    sent = build.traffic(build.answered(asked, **seen))
    return routes(**lists, ingress=sent).unanswered


def compared(then: Ingress, now: Ingress) -> str:
    before = Before(taken=AT - timedelta(hours=1), ingress=then)
    return told(comparison(ingress=now, **expecting(before=before)).changed)


def test_a_gateway_that_is_well() -> None:
    seen = build.mesh()

    assert seen.gateway_rollout.unfinished == []
    assert seen.gateway_entrypoints.unserved == []
    assert seen.gateway_entrypoints.addressless == []
    assert seen.gateway_connections.unreachable == []
    assert seen.served_certificates.bad == []
    assert seen.served_certificates.expiring == []
    assert seen.route_answers.unanswered == []


def test_a_certificate_that_expires_soon_warns() -> None:
    served = {"certificate": build.certificate(days=3)}
    seen = build.mesh(ingress=having("connect", **served))

    assert seen.served_certificates.bad == []
    assert "its certificate expires on 2026-01-05" in told(seen.served_certificates.expiring)


def test_mutual_tls_with_a_certificate() -> None:
    refusal = {"stage": "request", "error": "unknown ca", "alert": "TLSV1_ALERT_UNKNOWN_CA"}
    taken = build.mesh(gateways=MUTUAL, ingress=build.traffic(*shown()))
    refused = build.mesh(
        gateways=MUTUAL, ingress=build.traffic(*shown(status=0, upstream=False, **refusal))
    )

    assert (
        taken.gateway_connections.unreachable,
        taken.gateway_connections.missing_client_auth,
        taken.route_answers.unanswered,
    ) == ([], [], [])
    assert "refuses the client certificate for shop.example.com" in told(
        refused.gateway_connections.unreachable
    )
    assert (refused.gateway_connections.missing_client_auth, refused.route_answers.unanswered) == (
        [],
        [],
    )


def test_grpc_needs_http_2() -> None:
    assert grpc() == []
    assert "does not speak HTTP/2 (ALPN http/1.1)" in told(
        grpc(status=0, upstream=False, alpn="http/1.1")
    )


def test_a_grpc_server_that_breaks_off_a_get_has_been_reached() -> None:
    broken = {"status": 503, "upstream": False}

    assert grpc(**broken, reason="UF (remote reset)") == []
    assert "cannot be reached" in told(grpc(**broken, reason="UF (remote connection failure)"))


@pytest.mark.parametrize(
    ("which", "seen", "words"),
    [
        ("request", {"status": 403}, "got 200 before the upgrade, and gets 403 now"),
        ("request", {"status": 0, "error": "reset"}, "was answered before the upgrade; now: reset"),
        ("connect", {"alpn": ""}, "spoke HTTP/2 before the upgrade"),
        (
            "connect",
            {"fingerprint": "f0", "certificate": build.certificate(days=2)},
            "serves an older certificate than before",
        ),
    ],
)
def test_what_is_answered_in_another_way(which: str, seen: dict[str, Any], words: str) -> None:
    assert compared(having(), having()) == ""
    assert words in compared(having(), having(which, **seen))


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (
            {"server": "envoy"},
            {"server": "istio-envoy"},
            "sends the header Server istio-envoy, and envoy before the upgrade",
        ),
        ({"milliseconds": 90}, {"milliseconds": 800}, "took 800 ms, 90 ms before the upgrade"),
        ({"milliseconds": 400}, {"milliseconds": 800}, ""),
        ({"milliseconds": 1}, {"milliseconds": 400}, ""),
        ({"server": "a"}, {"server": "b", "status": 404}, ""),
    ],
)
def test_what_is_answered_as_before_and_later_or_by_another(
    then: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    before = Before(taken=AT - timedelta(hours=1), ingress=having("request", **then))
    seen = build.mesh(ingress=having("request", **now), **expecting(before=before))

    found = told(seen.traffic_comparison.drifted)

    assert (words in found) if words else not found


def test_what_leads_nowhere_now() -> None:
    fewer = msgspec.structs.replace(having(), exchanges=having().exchanges[1:])

    assert "was answered before the upgrade, and no listener or route serves it now" in compared(
        having(), fewer
    )


def test_where_nobody_asked_from_this_time_is_not_compared() -> None:
    away = build.traffic(
        *(
            build.answered(msgspec.structs.replace(each, vantage="outside"))
            for each in build.requests()
        ),
        vantages=(Vantage(name="outside"),),
    )

    assert compared(away, having()) == ""


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_refused_before_is_not_compared(status: int) -> None:
    assert compared(having("request", status=status), having()) == ""
