"""The recorded healthy mesh, with one thing broken at a time: what stage C then says."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gate
from tests.replay.conftest import Break, Recording, tunnel_probes


def exchange(recording: Recording, kind: str, tls: str = "SIMPLE") -> Recording:
    """The first exchange of a kind with shop.example.com, or with another kind of TLS."""
    return next(
        each
        for each in recording["ingress"]["exchanges"]
        if each["request"].get("kind", "request") == kind
        and each["request"].get("tls", "") == tls
        and not each["request"].get("tlsVersion")
        and each["request"]["host"] in ("shop.example.com", "partners.example.com")
    )


def an_old_gateway(recording: Recording) -> None:
    pod = next(
        each
        for each in recording["pods"]
        if each["metadata"]["name"].startswith("istio-ingressgateway-")
    )
    for container in pod["spec"]["containers"]:
        container["image"] = "docker.io/istio/proxyv2:1.28.2"
    for reading in recording["istiod"]:
        for proxy in reading["proxies"]:
            if proxy["proxy"].startswith("istio-ingressgateway-"):
                proxy["istio_version"] = "1.28.2"


def no_endpoint(recording: Recording) -> None:
    for each in recording["endpointSlices"]:
        if each["metadata"]["name"].startswith("istio-ingressgateway-"):
            each["endpoints"] = []


def not_programmed(recording: Recording) -> None:
    for condition in recording["apiGateways"][0]["status"]["conditions"]:
        if condition["type"] == "Programmed":
            condition.update(status="False", reason="Invalid", message="no such Secret")


def no_credential(recording: Recording) -> None:
    exchange(recording, "connect").update(stage="handshake", error="connection reset")


def another_name(recording: Recording) -> None:
    exchange(recording, "connect")["certificate"]["sans"] = ["other.example.com"]


def anybody_let_in(recording: Recording) -> None:
    exchange(recording, "request", "MUTUAL").update(stage="", error="", alert="", status=200)


def no_route(recording: Recording) -> None:
    exchange(recording, "request", "").update(status=404, upstream=False, reason="NR")


def answered_otherwise_before(recording: Recording) -> None:
    before = copy.deepcopy(recording["ingress"])
    recording["expectations"]["before"] = {"taken": recording["taken"], "ingress": before}
    exchange(recording, "request", "")["status"] = 403


def declared_otherwise(recording: Recording) -> None:
    seen = exchange(recording, "request")
    asked = copy.deepcopy(seen)
    asked["request"] |= {"declared": True, "path": "/declared"}
    asked["status"] = 404
    recording["ingress"]["exchanges"].append(asked)
    answer = {"host": asked["request"]["host"], "path": "/declared"}
    recording["expectations"]["answers"] = [answer]


def an_old_version(recording: Recording) -> None:
    offered = next(
        each
        for each in recording["ingress"]["exchanges"]
        if each["request"].get("tlsVersion") == "TLSv1.1"
    )
    offered.update(stage="", error="", alert="")


def an_ingress(recording: Recording, **seen: Any) -> None:
    """Kubernetes Ingress for a host of its own, whose one path is answered."""
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rule = {"host": "legacy.example.com", "http": {"paths": [path]}}
    recording["ingresses"] = [
        {
            "metadata": {"name": "legacy", "namespace": "shop"},
            "spec": {"ingressClassName": "istio", "rules": [rule]},
        }
    ]
    recording["ingressClasses"] = [
        {"metadata": {"name": "istio"}, "spec": {"controller": "istio.io/ingress-controller"}}
    ]
    answered = copy.deepcopy(exchange(recording, "request", ""))
    answered["request"] |= {
        "gateway": "Ingress shop/legacy",
        "host": "legacy.example.com",
        "path": "/",
        "route": "Ingress shop/legacy route /",
    }
    recording["ingress"]["exchanges"].append({**answered, **seen})


def an_ingress_without_endpoints(recording: Recording) -> None:
    an_ingress(recording, status=503, upstream=False, reason="UH")


def a_provider_that_is_missing(recording: Recording) -> None:
    """A CUSTOM policy at the gateway, beside one that allows known clients."""
    known = {"from": [{"source": {"ipBlocks": ["192.0.2.0/24"]}}]}
    recording["authorizationPolicies"] = [
        {
            "metadata": {"name": "login", "namespace": "istio-ingress"},
            "spec": {"action": "CUSTOM", "provider": {"name": "oauth2-proxy"}, "rules": [{}]},
        },
        {
            "metadata": {"name": "known", "namespace": "istio-ingress"},
            "spec": {"action": "ALLOW", "rules": [known]},
        },
    ]
    recording["meshConfigs"] = [
        {
            "revision": "default",
            "configMap": "ConfigMap istio-system/istio",
            "effective": [{"pod": "istiod-1", "providers": ["zipkin"]}],
        }
    ]
    denied_at_the_gateway(recording, reason="RBAC")


def denied_at_the_gateway(recording: Recording, **seen: Any) -> None:
    for each in recording["ingress"]["exchanges"]:
        own = "istio-ingress/" in each["request"]["gateway"]
        if each.get("status") and own and not each["request"].get("expected"):
            each |= {"status": 403, "upstream": False, "server": "istio-envoy", **seen}


def everything_is_denied_by_a_provider(recording: Recording) -> None:
    for each in recording["ingress"]["exchanges"]:
        if each.get("status") and not each["request"].get("expected"):
            each |= {"status": 403, "upstream": False, "server": "istio-envoy"}


def ingresses_that_were_not_read(recording: Recording) -> None:
    recording["read"].remove("ingresses")


def with_a_waypoint(recording: Recording, mesh: Recording, image: str = "") -> None:
    """Adds a waypoint, its pod, and what a request through it got."""
    gateway = copy.deepcopy(recording["apiGateways"][0])
    gateway["metadata"].update(name="waypoint", namespace="library")
    gateway["spec"].update(gatewayClassName="istio-waypoint", listeners=[])
    gateway["status"] = {}
    recording["apiGateways"].append(gateway)
    version = recording["istiod"][0]["version"].partition("-")[0]
    recording["pods"].append(
        {
            "metadata": {
                "name": "waypoint-1",
                "namespace": "library",
                "labels": {
                    "gateway.networking.k8s.io/gateway-name": "waypoint",
                    "gateway.istio.io/managed": "istio.io-mesh-controller",
                },
            },
            "spec": {
                "serviceAccountName": "waypoint",
                "containers": [
                    {"name": "istio-proxy", "image": image or f"istio/proxyv2:{version}"}
                ],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.244.0.99",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    recording["waypointProbes"] = tunnel_probes(recording, "waypoint", "10.244.0.99:15008", mesh)
    recording["read"].append("waypoint_probes")


OPEN = {"end": "open", "connect": 200, "status": 200}


def an_old_waypoint(recording: Recording) -> None:
    with_a_waypoint(recording, OPEN, "istio/proxyv2:1.28.2")


def a_waypoint_without_backends(recording: Recording) -> None:
    with_a_waypoint(recording, {**OPEN, "status": 503, "reason": "UH"})


FAILED = [
    (an_old_gateway, "IG001", "Pod istio-ingress/istio-ingressgateway-"),
    (no_endpoint, "IG002", "Service istio-ingress/istio-ingressgateway: port 443"),
    (not_programmed, "IG003", "Gateway shop/shop: Programmed=False (Invalid)"),
    (no_credential, "IG004", "Gateway istio-ingress/shop port 443/HTTPS: the TLS handshake"),
    (another_name, "IG005", "Gateway istio-ingress/shop port 443/HTTPS host shop.example.com"),
    (anybody_let_in, "IG006", "Gateway istio-ingress/tls port 443/HTTPS host partners"),
    (no_route, "IG007", "VirtualService shop/shop: GET http://shop.example.com:80"),
    (an_ingress_without_endpoints, "IG007", "Ingress shop/legacy: GET http://legacy.example.com"),
    (a_provider_that_is_missing, "IG007", "AuthorizationPolicy istio-ingress/login: the gateway"),
    (answered_otherwise_before, "IG008", "VirtualService shop/shop: GET http://shop.example.com"),
    (an_old_version, "IG010", "Gateway istio-ingress/shop port 443/HTTPS: accepts TLSv1.1"),
    (an_old_waypoint, "IG014", "Pod library/waypoint-1: its proxy is 1.28.2"),
    (a_waypoint_without_backends, "IG015", "Gateway library/waypoint: Pod library/waypoint-1"),
    (declared_otherwise, "IG009", "GET https://shop.example.com:443/declared from inside: got 404"),
]


def test_the_healthy_recording_opens_the_gate(gate: Gate, root: Path) -> None:
    run = gate("-m", "ingress", f"--snapshot={root}/tests/fixtures/schema-1/healthy.json.gz")

    assert run.code == 0, run.out


def test_gateways_that_were_not_restarted_close_it(gate: Gate, root: Path) -> None:
    run = gate("-m", "ingress", f"--snapshot={root}/tests/fixtures/schema-1/broken.json.gz")

    assert run.code == 1, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("FAIL ")} == {"IG001"}


@pytest.mark.parametrize(
    ("change", "check", "object"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Break, check: str, object: str, broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "ingress", f"--snapshot={broken(change)}")

    assert run.code == 1, run.out
    failures = [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]
    assert failures[0].startswith(f"FAIL {check} {object}"), run.out


def test_a_healthy_waypoint_opens_the_gate(broken: Callable[[Break], Path], gate: Gate) -> None:
    run = gate("-m", "ingress", f"--snapshot={broken(lambda each: with_a_waypoint(each, OPEN))}")

    assert run.code == 0, run.out


def test_an_ingress_that_is_answered_opens_the_gate(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "ingress", f"--snapshot={broken(an_ingress)}")

    assert run.code == 0, run.out


def test_a_waypoint_that_was_not_probed_is_never_a_pass(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    def unprobed(recording: Recording) -> None:
        with_a_waypoint(recording, OPEN)
        recording["waypointProbes"]["probes"] = []

    run = gate("-m", "ingress", f"--snapshot={broken(unprobed)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} >= {"IG015"}


def test_ingresses_that_were_not_read_are_never_a_pass(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "ingress", f"--snapshot={broken(ingresses_that_were_not_read)}")

    assert run.code == 10, run.out
    assert not [line for line in run.verdict if line.startswith("FAIL ")]


def test_a_waypoint_without_http_is_not_verified(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    def only_tcp(recording: Recording) -> None:
        with_a_waypoint(recording, OPEN)
        service = copy.deepcopy(recording["services"][0])
        service["metadata"].update(
            name="archive", namespace="library", labels={"istio.io/use-waypoint": "waypoint"}
        )
        service["spec"]["ports"] = [{"name": "tcp", "port": 9000}]
        recording["services"].append(service)

    words = ("-m", "ingress", f"--snapshot={broken(only_tcp)}", "--check=IG004,IG015")
    run = gate(*words)

    assert run.code == 10, run.out
    (line,) = [each for each in run.verdict if each.startswith("UNKNOWN ")]
    assert line.startswith("UNKNOWN IG015")
    assert "nothing behind it is known to be HTTP" in line
    accepted = gate(*words, "--accept-unverified=ambient")
    assert accepted.code == 0, accepted.out
    assert "--accept-unverified=ambient" in accepted.out


def test_what_was_not_sent_is_never_a_pass(broken: Callable[[Break], Path], gate: Gate) -> None:
    def unsent(recording: Recording) -> None:
        sent = recording["ingress"]
        sent["unsent"] = [each["request"] for each in sent["exchanges"]]
        sent["exchanges"] = []

    run = gate("-m", "ingress", f"--snapshot={broken(unsent)}")

    assert run.code == 10, run.out
    assert {line.split()[1] for line in run.verdict if line.startswith("UNKNOWN ")} == {
        *("IG004", "IG005", "IG006", "IG007", "IG008", "IG010")
    }


def test_a_403_that_the_gateway_itself_sends_is_no_answer(
    broken: Callable[[Break], Path], gate: Gate
) -> None:
    run = gate("-m", "ingress", f"--snapshot={broken(everything_is_denied_by_a_provider)}")

    lines = [line for line in run.verdict if line.startswith(("FAIL IG007", "UNKNOWN IG007"))]
    assert lines
    assert "no backend was reached" in run.out
