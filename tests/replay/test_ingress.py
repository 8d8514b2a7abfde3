"""The recorded healthy mesh, with one thing broken at a time: what stage C then says."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gate

Recording = dict[str, Any]
Break = Callable[[Recording], None]


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


def lost_meanwhile(recording: Recording) -> None:
    at = recording["taken"]
    lost = {"at": at, "gateway": "Gateway a/b", "asked": "GET http://a.b/", "why": "503 UF"}
    watch = {"began": recording["started"], "last": at, "sent": 9, "troubles": [lost]}
    recording["expectations"]["watch"] = watch


FAILED = [
    (an_old_gateway, "IG001", "Pod istio-ingress/istio-ingressgateway-"),
    (no_endpoint, "IG002", "Service istio-ingress/istio-ingressgateway: port 443"),
    (not_programmed, "IG003", "Gateway shop/shop: Programmed=False (Invalid)"),
    (no_credential, "IG004", "Gateway istio-ingress/shop port 443/HTTPS: the TLS handshake"),
    (another_name, "IG005", "Gateway istio-ingress/shop port 443/HTTPS host shop.example.com"),
    (anybody_let_in, "IG006", "Gateway istio-ingress/tls port 443/HTTPS host partners"),
    (no_route, "IG007", "VirtualService shop/shop: GET http://shop.example.com:80"),
    (answered_otherwise_before, "IG008", "VirtualService shop/shop: GET http://shop.example.com"),
    (an_old_version, "IG010", "Gateway istio-ingress/shop port 443/HTTPS: accepts TLSv1.1"),
    (
        lost_meanwhile,
        "IG011",
        "Gateway a/b: GET http://a.b/: 1 requests failed while it was watched",
    ),
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
