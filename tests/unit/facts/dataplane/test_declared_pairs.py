"""Declared pairs: which answers are the declared ones, and when nothing can be said."""

from typing import Any

import pytest

from meshgate.facts.dataplane.declared_pairs import DeclaredPairs
from meshgate.snapshot.declared_pairs import DeclaredPair, PairAnswer, PairAnswers
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
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
