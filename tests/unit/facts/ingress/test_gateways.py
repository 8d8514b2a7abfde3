"""What is wrong with a gateway, and how it is told."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.gateway_api import Route
from meshgate.snapshot.ingress import Exchange, Ingress, Vantage
from meshgate.snapshot.kubernetes import (
    Container,
    ContainerPort,
    LoadBalancer,
    PodSpec,
    PodStatus,
    ServiceStatus,
)
from meshgate.snapshot.kubernetes import Ingress as Address
from meshgate.snapshot.model import Before
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests import builders
from tests import ingress_builders as build
from tests.builders import AT, expecting


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_a_gateway_that_is_well() -> None:
    seen = build.ingress()

    assert seen.unfinished == []
    assert seen.unserved == []
    assert seen.addressless == []
    assert seen.unreachable == []
    assert seen.bad_certificates == []
    assert seen.ageing_certificates == []
    assert seen.unanswered == []


def test_a_mesh_without_gateways() -> None:
    with pytest.raises(NotApplicable, match="there is no Gateway"):
        _ = build.ingress(gateways=()).unfinished


# --- rolled out ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"deployments": (build.gateway_deployment(2, updated=1),)}, "1 of 2 replicas are updated"),
        ({"deployments": (build.gateway_deployment(0),)}, "is scaled to 0 replicas"),
        ({"deployments": (), "pods": ()}, "its selector istio=front finds no pod"),
        (
            {"pods": (builders.istiod(), build.gateway_pod(version="1.28.2"))},
            "Pod ways/front-1: its proxy is 1.28.2 (expected 1.29.1, like istiod)",
        ),
        (
            {"pods": (builders.istiod(), build.gateway_pod(ready=False))},
            "Pod ways/front-1: is Running and not Ready",
        ),
    ],
)
def test_a_gateway_that_is_not_complete(lists: dict[str, Any], words: str) -> None:
    assert words in told(build.ingress(**lists).unfinished)


# --- served -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (
            {"services": (build.service(80),)},
            "Gateway ways/front port 443/HTTPS: no Service has this port (there is ways/front)",
        ),
        (
            {"endpoint_slices": (build.endpoints(80),)},
            "Service ways/front: port 443 (targetPort 8443) has no ready endpoint",
        ),
    ],
)
def test_a_listener_that_nobody_leads_to(lists: dict[str, Any], words: str) -> None:
    assert words in told(build.ingress(**lists).unserved)


def node_ports(**spec: Any) -> dict[str, Any]:
    """A gateway that no Service leads to, and a pod of this shape."""
    front = build.gateway_pod()
    there = msgspec.structs.replace(front, spec=PodSpec(**spec))
    return {
        "services": (),
        "endpoint_slices": (),
        "gateways": (build.gateway(build.server()),),
        "pods": (builders.istiod(), there),
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"host_network": True},
        {
            "containers": (
                Container(name="p", ports=(ContainerPort(container_port=80, host_port=8),)),
            )
        },
    ],
)
def test_a_gateway_on_its_nodes_ports_needs_no_service(spec: dict[str, Any]) -> None:
    lists = node_ports(**spec)
    (entrypoint,) = build.topology(**lists).entrypoints(build.topology(**lists).listeners[0])

    assert build.ingress(**lists).unserved == []
    assert [each.pod for each in entrypoint.backends] == ["front-1"]
    assert build.requests(**lists)[0].service == "Gateway ways/front"


def test_a_gateway_that_nothing_leads_to_and_one_that_is_not_ready() -> None:
    inside = node_ports()
    waits = node_ports(host_network=True)
    (istiod, pod) = waits["pods"]
    waits["pods"] = (istiod, msgspec.structs.replace(pod, status=PodStatus(phase="Running")))

    assert "no Service has this port (there is none)" in told(build.ingress(**inside).unserved)
    assert "port 80 (targetPort 80) has no ready endpoint" in told(build.ingress(**waits).unserved)


def test_a_load_balancer_without_an_address_warns() -> None:
    waits = build.service(type="LoadBalancer")
    there = msgspec.structs.replace(
        waits, status=ServiceStatus(load_balancer=LoadBalancer(ingress=(Address(ip="192.0.2.1"),)))
    )

    reached = build.well(services=(waits,))
    sent = reached["ingress"]
    outside = [
        msgspec.structs.replace(
            each, request=msgspec.structs.replace(each.request, vantage="outside")
        )
        for each in sent.exchanges
    ]

    assert "has no address" in told(build.ingress(services=(waits,)).addressless)
    assert build.ingress(**reached | {"ingress": build.traffic(*outside)}).addressless == []
    assert build.ingress(services=(there,)).addressless == []


# --- the Gateway API ----------------------------------------------------------------------------

API = {
    "deployments": (
        builders.deployment(),
        build.gateway_deployment(labels={**build.LABELS, **build.API_LABELS}),
    ),
    "api_gateways": (build.api_gateway(),),
    "http_routes": (build.api_route(),),
}


def test_a_gateway_of_the_gateway_api_that_is_in_effect() -> None:
    assert build.ingress(**API).unaccepted == []
    with pytest.raises(NotApplicable, match="Gateway API"):
        _ = build.ingress().unaccepted


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (
            {
                "api_gateways": (
                    build.api_gateway(
                        build.condition("Accepted"),
                        build.condition("Programmed", "False", message="no address"),
                    ),
                )
            },
            "Gateway ways/api: Programmed=False (Because): no address (expected Programmed=True)",
        ),
        (
            {"api_gateways": (build.api_gateway(listening=build.IN_EFFECT[:2]),)},
            "Gateway ways/api listener http: has no condition ResolvedRefs",
        ),
        (
            {
                "api_gateways": (
                    build.api_gateway(
                        build.condition("Accepted", observed_generation=0), build.IN_EFFECT[1]
                    ),
                )
            },
            "Accepted is about generation 0, it is at 1",
        ),
        (
            {
                "http_routes": (
                    build.api_route(
                        conditions=(
                            build.condition("Accepted"),
                            build.condition("ResolvedRefs", "False", message="no such Service"),
                        )
                    ),
                )
            },
            "HTTPRoute shop/web at Gateway ways/api: ResolvedRefs=False (Because): no such Service",
        ),
        (
            {"api_gateways": (build.api_gateway(listener=build.PASSED, attached=0),)},
            "Gateway ways/api listener tls: passes TLS through, and no TLSRoute is attached",
        ),
    ],
)
def test_what_is_not_in_effect(lists: dict[str, Any], words: str) -> None:
    assert words in told(build.ingress(**{**API, **lists}).unaccepted)


@pytest.mark.parametrize(
    ("generation", "transient"),
    [pytest.param(0, True, id="of what was there before"), pytest.param(1, False, id="of now")],
)
def test_what_is_said_of_an_older_generation_may_pass(generation: int, transient: bool) -> None:
    unresolved = build.condition("ResolvedRefs", "False", observed_generation=generation)
    route = build.api_route(conditions=(build.condition("Accepted"), unresolved))

    found = build.ingress(**API | {"http_routes": (route,)}).unaccepted

    assert "ResolvedRefs=False" in told(found)
    assert [each.transient for each in found] == [transient]


@pytest.mark.parametrize(
    ("routes", "transient"),
    [
        pytest.param((build.api_route(),), True, id="one is there, not counted yet"),
        pytest.param((), False, id="there is none"),
    ],
)
def test_a_tls_route_that_is_there_may_yet_be_attached(
    routes: tuple[Route, ...], transient: bool
) -> None:
    gateway = build.api_gateway(listener=build.PASSED, attached=0)

    found = build.ingress(**API | {"api_gateways": (gateway,), "tls_routes": routes}).unaccepted

    assert "no TLSRoute is attached" in told(found)
    assert [each.transient for each in found] == [transient]


def test_fewer_routes_than_before() -> None:
    before = Before(taken=AT, api_gateways=(build.api_gateway(attached=2),))

    found = build.ingress(**API, **expecting(before=before)).unaccepted

    assert "1 routes are attached to it, 2 were before" in told(found)


# --- on the wire --------------------------------------------------------------------------------


def having(which: str = "", **seen: Any) -> Ingress:
    """The traffic of a gateway that is well, with what came back changed where the URL says so."""
    return build.traffic(
        *(
            build.answered(each, **(seen if which in f"{each.kind} {each.url}" else {}))
            for each in build.requests()
        )
    )


def test_a_connection_that_does_not_open() -> None:
    found = build.ingress(
        ingress=having("http://", stage="connect", error="refused", status=0)
    ).unreachable

    assert "Gateway ways/front port 80/HTTP: no connection from inside" in told(found)
    assert found[0].transient


def test_a_handshake_that_breaks_off_names_the_credential() -> None:
    found = build.ingress(
        ingress=having("connect https", stage="handshake", error="reset", certificate=None)
    ).unreachable

    assert (
        "the TLS handshake for shop.example.com fails from inside: reset, credential a-cert"
        in told(found)
    )


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (
            {"certificate": build.certificate("other.example.com")},
            "a certificate for other.example",
        ),
        ({"certificate": build.certificate(days=-1, age=9)}, "that expired on 2026-01-01"),
        ({"certificate": build.certificate(age=-1)}, "that is not valid before 2026-01-03"),
        ({"tls_version": "TLSv1.1"}, "agrees on TLSv1.1"),
    ],
)
def test_a_certificate_that_clients_do_not_take(served: dict[str, Any], words: str) -> None:
    assert words in told(build.ingress(ingress=having("connect", **served)).bad_certificates)


def test_a_certificate_for_a_wildcard_is_one_for_the_host() -> None:
    served = {"certificate": build.certificate("*.example.com")}

    assert build.ingress(ingress=having("connect", **served)).bad_certificates == []


def test_a_certificate_that_expires_soon_warns() -> None:
    served = {"certificate": build.certificate(days=3)}
    seen = build.ingress(ingress=having("connect", **served))

    assert seen.bad_certificates == []
    assert "its certificate expires on 2026-01-05" in told(seen.ageing_certificates)


def test_an_unknown_root_fails_only_where_the_roots_are_named() -> None:
    sent = having("connect", distrust="self-signed certificate")
    named = msgspec.structs.replace(sent, trusted=True)

    assert "self-signed" in told(build.ingress(ingress=sent).ageing_certificates)
    assert build.ingress(ingress=sent).bad_certificates == []
    assert "self-signed" in told(build.ingress(ingress=named).bad_certificates)


MUTUAL = (build.gateway(build.server(443, "HTTPS", mode="MUTUAL")),)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, ""),
        ({"stage": "", "error": "", "status": 200}, "answers 200 to a client without"),
        ({"alert": "", "error": "reset"}, "breaks off without asking for a certificate: reset"),
    ],
)
def test_mutual_tls(seen: dict[str, Any], words: str) -> None:
    (asked, *_) = build.requests(gateways=MUTUAL)
    sent = build.traffic(build.answered(asked, **seen))

    found = told(build.ingress(gateways=MUTUAL, ingress=sent).missing_client_auth)

    assert (words in found) if words else not found


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"status": 404, "upstream": False, "reason": "NR"}, "no route matched (404 NR) for web."),
        (
            {"status": 503, "upstream": False, "reason": "UH"},
            "no healthy endpoint (503 UH) for web",
        ),
        (
            {"status": 503, "upstream": False, "reason": "UF (refused)"},
            "(503 UF (refused)) for web",
        ),
        (
            {"status": 503, "upstream": False, "reason": "NC"},
            "a cluster that does not exist (503 NC)",
        ),
        ({"status": 503, "upstream": False}, "got 503 from the gateway itself"),
        ({"status": 500}, "got 500 from its backend"),
        ({"status": 0, "stage": "request", "error": "reset"}, "got no answer: reset"),
    ],
)
def test_a_route_that_is_not_answered_by_its_backend(seen: dict[str, Any], words: str) -> None:
    found = build.ingress(ingress=having("request http:", **seen)).unanswered

    assert words in told(found)
    assert {each.subject for each in found} == {"VirtualService shop/shop"}
    assert found[0].transient


@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 429])
def test_what_a_backend_says_below_500_is_an_answer(status: int) -> None:
    assert build.ingress(ingress=having("request", status=status)).unanswered == []


def test_a_subset_that_nobody_defines_does_not_heal() -> None:
    lists = {"virtual_services": (build.virtual_service(build.rule(subset="v9")),)}
    sent = build.traffic(
        *(
            build.answered(each, status=503, upstream=False, reason="NC")
            for each in build.requests(**lists)
            if each.kind == "request"
        )
    )

    (finding, *_) = build.ingress(**lists, ingress=sent).unanswered

    assert "web.shop.svc.cluster.local:80|v9" in finding.remedy
    assert not finding.transient


def test_a_redirect_that_leads_nowhere() -> None:
    lists = {"gateways": (build.gateway(build.server(redirects=True)),)}
    (asked,) = build.requests(**lists)
    right = build.answered(asked, location="https://shop.example.com/")
    wrong = build.answered(asked, status=200)

    assert build.ingress(**lists, ingress=build.traffic(right)).unanswered == []
    assert "got 200 (expected a redirect to HTTPS)" in told(
        build.ingress(**lists, ingress=build.traffic(wrong)).unanswered
    )


def test_less_than_was_planned_proves_nothing() -> None:
    sent = msgspec.structs.replace(having(), unsent=tuple(build.requests()))

    with pytest.raises(CouldNotVerify, match="8 of the planned requests were not sent"):
        _ = build.ingress(ingress=sent).unreachable


def test_a_vantage_point_that_is_required_and_was_not_used_proves_nothing() -> None:
    away = expecting(vantages=("inside", "outside"))

    with pytest.raises(CouldNotVerify, match="nothing was sent from outside"):
        _ = build.ingress(**away).unreachable


def shown(**seen: Any) -> list[Exchange]:
    """What a mutual TLS listener did, to those who show a certificate."""
    asked = build.requests(True, gateways=MUTUAL)
    return [build.answered(each, **seen if each.certificate else {}) for each in asked]


def test_mutual_tls_with_a_certificate() -> None:
    refusal = {"stage": "request", "error": "unknown ca", "alert": "TLSV1_ALERT_UNKNOWN_CA"}
    taken = build.ingress(gateways=MUTUAL, ingress=build.traffic(*shown()))
    refused = build.ingress(
        gateways=MUTUAL, ingress=build.traffic(*shown(status=0, upstream=False, **refusal))
    )

    assert (taken.unreachable, taken.missing_client_auth, taken.unanswered) == ([], [], [])
    assert "refuses the client's certificate for shop.example.com" in told(refused.unreachable)
    assert (refused.missing_client_auth, refused.unanswered) == ([], [])


def grpc(**seen: Any) -> list[Finding]:
    lists = {**API, "gateways": (), "http_routes": (), "grpc_routes": (build.api_route(),)}
    (asked,) = [each for each in build.requests(**lists) if each.kind == "request"]
    sent = build.traffic(build.answered(asked, **seen))
    return build.ingress(**lists, ingress=sent).unanswered


def test_grpc_needs_http_2() -> None:
    assert grpc() == []
    assert "does not speak HTTP/2 (ALPN http/1.1)" in told(
        grpc(status=0, upstream=False, alpn="http/1.1")
    )


def test_a_grpc_server_that_breaks_off_a_get_has_been_reached() -> None:
    broken = {"status": 503, "upstream": False}

    assert grpc(**broken, reason="UF (remote reset)") == []
    assert "cannot be reached" in told(grpc(**broken, reason="UF (remote connection failure)"))


# --- as before ----------------------------------------------------------------------------------


def compared(then: Ingress, now: Ingress) -> str:
    before = Before(taken=AT - timedelta(hours=1), ingress=then)
    return told(build.ingress(ingress=now, **expecting(before=before)).changed)


def test_without_a_baseline_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotApplicable, match="baseline"):
        _ = build.ingress().changed


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
            "says server istio-envoy, and envoy before",
        ),
        ({"milliseconds": 90}, {"milliseconds": 800}, "took 800 ms, and 90 ms before"),
        ({"milliseconds": 400}, {"milliseconds": 800}, ""),
        ({"milliseconds": 1}, {"milliseconds": 400}, ""),
        ({"server": "a"}, {"server": "b", "status": 404}, ""),
    ],
)
def test_what_is_answered_as_before_and_later_or_by_another(
    then: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    before = Before(taken=AT - timedelta(hours=1), ingress=having("request", **then))
    seen = build.ingress(ingress=having("request", **now), **expecting(before=before))

    found = told(seen.drifted)

    assert (words in found) if words else not found


def test_what_leads_nowhere_now() -> None:
    fewer = msgspec.structs.replace(having(), exchanges=having().exchanges[1:])

    assert "was answered before the upgrade, and leads nowhere now" in compared(having(), fewer)


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


def test_exchanges_of_nowhere_are_not_ours() -> None:
    stray = Exchange(request=msgspec.structs.replace(build.requests()[0], gateway="Gateway a/b"))
    sent = Ingress(vantages=(Vantage(name="inside"),), exchanges=(stray,))

    with pytest.raises(NotApplicable):
        _ = build.ingress(ingress=sent).unanswered
