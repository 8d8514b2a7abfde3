"""Declared pairs: which answers are the declared ones, and when nothing can be said."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.dataplane.declared_pairs import DeclaredPairs
from meshgate.snapshot.declared_pairs import (
    DeclaredPair,
    PairAnswer,
    PairAnswers,
    PairWaypoint,
)
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support import ambient_builders as build
from tests.support.builders import HTTP, expecting, istiod, mesh, sidecar
from tests.support.mtls_builders import declared_pair, service


def answer(end: str, status: int = 0, **more: Any) -> PairAnswer:
    """How web-1 answered the request of the client."""
    return PairAnswer(request=declared_pair().key, pod="shop/web-1", end=end, status=status, **more)


def facts(
    *answers: PairAnswer, pairs: tuple[DeclaredPair, ...] = (declared_pair(),), **more: Any
) -> DeclaredPairs:
    """One pod behind one Service; the requests were answered so."""
    asked = {"pairs": pairs, **more.pop("asked", {})}
    seen = {"pair_answers": PairAnswers(answers=answers, **more)}
    web = sidecar(labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")
    return mesh(
        pods=(istiod(), web), services=(service(),), **seen, **expecting(**asked)
    ).declared_pairs


def found(expect: str, seen: PairAnswer) -> list[Finding]:
    return facts(seen, pairs=(declared_pair(expect=expect),)).mismatched


OK, APP_403, RBAC = answer("answered", 200), answer("answered", 403), answer("denied", 403)
RESET = answer("reset", error="Connection reset by peer")


@pytest.mark.parametrize(
    ("expect", "seen"),
    [
        ("200", OK),
        ("allowed", OK),
        ("allowed", APP_403),
        ("allowed", answer("proxy", 200)),
        ("403", APP_403),
        ("401", answer("proxy", 401)),
        ("denied", RBAC),
    ],
)
def test_the_declared_answer_is_no_finding(expect: str, seen: PairAnswer) -> None:
    assert found(expect, seen) == []


@pytest.mark.parametrize(
    ("expect", "seen", "problem", "words"),
    [
        ("200", RBAC, "not-allowed", "denies by an AuthorizationPolicy (403, RBAC"),
        ("allowed", RBAC, "not-allowed", "denies by an AuthorizationPolicy"),
        ("403", RBAC, "not-allowed", "denies by an AuthorizationPolicy"),
        ("200", APP_403, "another-status", "answers 403 by its application"),
        ("200", RESET, "not-allowed", "closes the connection without an answer (Connection reset"),
        ("allowed", answer("proxy", 503), "not-allowed", "answers 503 by its sidecar"),
        ("allowed", answer("proxy", 403), "not-allowed", "answers 403 by its sidecar"),
        ("200", answer("refused"), "not-allowed", "fails the TLS handshake"),
        ("denied", OK, "not-denied", "answers 200 by its application"),
        ("denied", APP_403, "not-denied", "answers 403 by its application"),
        ("denied", RESET, "not-denied", "closes the connection without an answer"),
        ("denied", answer("proxy", 403), "not-denied", "answers 403 by its sidecar"),
    ],
)
def test_another_answer_is_a_finding_that_says_who_answered(
    expect: str, seen: PairAnswer, problem: str, words: str
) -> None:
    (finding,) = found(expect, seen)

    assert (finding.subject, finding.problem, finding.transient) == (
        "Pod shop/web-1",
        problem,
        True,
    )
    assert finding.seen.startswith(words)
    assert "shop/client to shop/web:80 GET /healthz" in finding.seen
    assert dict(finding.about) == {"caller": "shop/client", "request": "shop/web:80 GET /healthz"}


def test_nothing_declared_is_not_applicable_even_without_the_item() -> None:
    with pytest.raises(NotApplicable):
        _ = mesh(read=()).declared_pairs.mismatched
    with pytest.raises(NotApplicable, match="shard 1/2"):
        _ = facts(asked={"shard": "1/2"}).mismatched


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (facts(skipped_reason="a port-forward ends inside the pod"), "a port-forward ends"),
        (facts(unsigned={"shop/client": "no right"}), "no certificate for ServiceAccount shop/cl"),
        (facts(), "was not sent"),
        (facts(answer("unreachable", error="timed out")), "cannot be connected to"),
        (facts(answer("silent")), "gives no complete answer"),
        (facts(pairs=(declared_pair(service="shop/api"),)), "Service shop/api does not exist"),
        (facts(OK, pairs=(declared_pair(), declared_pair("x/y"))), "request of x/y to"),
    ],
)
def test_a_pair_that_was_not_tested_is_never_a_pass(declared: DeclaredPairs, reason: str) -> None:
    with pytest.raises(CouldNotVerify, match=reason):
        _ = declared.mismatched


def test_a_finding_counts_more_than_a_pair_that_was_not_tested() -> None:
    pairs = (declared_pair(expect="denied"), declared_pair("x/y"))

    assert len(facts(OK, pairs=pairs).mismatched) == 1


# --- ambient mode -------------------------------------------------------------------------------

POD = {"pod": "shop/web-1", "authority": "10.0.0.1:8080"}
WAYPOINT = {"pod": "shop/waypoint-1", "authority": "10.96.0.9:80"}
ON_PORT_15008 = "cannot be connected to on port 15008"


def ambient_facts(
    *seen: dict[str, Any],
    expect: str = "200",
    waypoint: bool = False,
    waypoints: tuple[PairWaypoint, ...] = (PairWaypoint(name="shop/waypoint", admits=("shop",)),),
    **of_the_mesh: Any,
) -> DeclaredPairs:
    """One pod in ambient mode behind a Service, which uses a waypoint or does not."""
    web = build.app(labels={"app": "web"}, ports=(HTTP,), ip="10.0.0.1")
    answers = tuple(PairAnswer(request=declared_pair().key, **each) for each in seen)
    of_web = service()
    labels = {"istio.io/use-waypoint": "waypoint"} if waypoint else {}
    of_web = msgspec.structs.replace(
        of_web,
        metadata=msgspec.structs.replace(of_web.metadata, labels=labels),
        spec=msgspec.structs.replace(of_web.spec, cluster_ips=("10.96.0.9",)),
    )
    changes = {
        "pods": (istiod(), web, build.waypoint(ip="10.0.0.8")),
        "namespaces": (build.SHOP,),
        "services": (of_web,),
        "pair_answers": PairAnswers(answers=answers, waypoints=waypoints),
        **of_the_mesh,
    }
    return mesh(**changes, **expecting(pairs=(declared_pair(expect=expect),))).declared_pairs


@pytest.mark.parametrize(
    ("expect", "waypoint", "seen"),
    [
        ("200", False, {**POD, "end": "answered", "connect": 200, "status": 200}),
        ("allowed", False, {**POD, "end": "answered", "connect": 200, "status": 403}),
        ("denied", False, {**POD, "end": "denied", "connect": 401}),
        ("200", True, {**WAYPOINT, "end": "answered", "connect": 200, "status": 200}),
        ("301", True, {**WAYPOINT, "end": "proxy", "connect": 200, "status": 301}),
        ("denied", True, {**WAYPOINT, "end": "denied", "connect": 200, "status": 403}),
        ("denied", True, {**WAYPOINT, "end": "denied", "connect": 403}),
    ],
)
def test_the_declared_answer_through_a_tunnel_is_no_finding(
    expect: str, waypoint: bool, seen: dict[str, Any]
) -> None:
    declared = ambient_facts(seen, expect=expect, waypoint=waypoint)

    assert declared.mismatched == []
    assert declared.count == 1


@pytest.mark.parametrize(
    ("expect", "waypoint", "seen", "words"),
    [
        (
            "200",
            False,
            {**POD, "end": "denied", "connect": 401},
            "denies by an AuthorizationPolicy (CONNECT is answered 401)",
        ),
        (
            "denied",
            False,
            {**POD, "end": "answered", "connect": 200, "status": 200},
            "answers 200 by its application",
        ),
        # a closed port and a closed connection are no denials
        (
            "denied",
            False,
            {**POD, "end": "declined", "connect": 503},
            "answers CONNECT for 10.0.0.1:8080 with 503",
        ),
        ("denied", False, {**POD, "end": "reset"}, "closes the connection without an answer"),
        ("denied", False, {**POD, "end": "refused"}, "fails the TLS handshake"),
        (
            "200",
            True,
            {**WAYPOINT, "end": "denied", "connect": 200, "status": 403},
            "denies by an AuthorizationPolicy (403, RBAC: access denied)",
        ),
        (
            "denied",
            True,
            {**WAYPOINT, "end": "answered", "connect": 200, "status": 200},
            "answers 200 by the application",
        ),
        (
            "allowed",
            True,
            {**WAYPOINT, "end": "proxy", "connect": 200, "status": 503},
            "answers 503 by itself, not by the application",
        ),
        # no route of the waypoint matched: the application got nothing
        (
            "allowed",
            True,
            {**WAYPOINT, "end": "proxy", "connect": 200, "status": 404},
            "answers 404 by itself, not by the application",
        ),
    ],
)
def test_another_answer_through_a_tunnel_is_a_finding(
    expect: str, waypoint: bool, seen: dict[str, Any], words: str
) -> None:
    (finding,) = ambient_facts(seen, expect=expect, waypoint=waypoint).mismatched

    assert finding.subject == f"Pod {seen['pod']}"
    assert finding.seen.startswith(words)
    assert finding.problem == ("not-denied" if expect == "denied" else "not-allowed")
    assert finding.transient
    assert dict(finding.about) == {"caller": "shop/client", "request": "shop/web:80 GET /healthz"}


ANSWERED = {"end": "answered", "connect": 200, "status": 200}


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (ambient_facts(), "was not sent"),
        (ambient_facts({**POD, "end": "unreachable"}), ON_PORT_15008),
        (ambient_facts({**POD, "end": "silent"}), "gives no complete answer on port 15008"),
        # what a snapshot contains of another way proves nothing
        (ambient_facts({**POD, **ANSWERED}, waypoint=True), "was not sent to Pod shop/waypoint-1"),
        (ambient_facts({**WAYPOINT, **ANSWERED}), "was not sent to Pod shop/web-1"),
        (ambient_facts({**POD, **ANSWERED, "authority": ""}), "was not sent to Pod shop/web-1"),
        (
            ambient_facts({**WAYPOINT, **ANSWERED}, waypoint=True, waypoints=()),
            "the waypoint shop/waypoint, which labels select, does not exist",
        ),
    ],
)
def test_a_request_that_took_another_way_is_never_a_pass(
    declared: DeclaredPairs, reason: str
) -> None:
    with pytest.raises(CouldNotVerify, match=reason):
        _ = declared.mismatched
