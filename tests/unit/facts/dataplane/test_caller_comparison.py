"""What a port answered to the verifier before the upgrade, and what it answers now."""

from typing import Any

import pytest

from meshgate.facts.dataplane.caller_comparison import CallerComparison
from meshgate.snapshot.kubernetes import Owner, Pod
from meshgate.snapshot.model import Before
from meshgate.snapshot.mtls import Attempt, PortProbes
from meshgate.verdict import NotApplicable
from tests.support.builders import HTTP, expecting, istiod, mesh, sidecar
from tests.support.mtls_builders import REFUSED, SILENT, port_probe, port_probes, shown
from tests.support.webhook_builders import AT

ANSWERED = shown("answered", status=200)
NOT_FOUND = shown("answered", status=404)
BROKEN = shown("answered", status=503)
DENIED = shown("answered", status=403, denied=True)
HELD = shown("held")
WORKLOAD = "StatefulSet shop/web"


def pods(owner: Owner | None = None) -> tuple[Pod, ...]:
    owner = owner or Owner(kind="StatefulSet", name="web", controller=True)
    return (istiod(), sidecar(ip="10.0.0.1", ports=(HTTP,), owner=owner))


def compared(then: Attempt | None, now: Attempt | None, **baseline: Any) -> CallerComparison:
    before = port_probe("shop/web-old", mesh=then, workload=WORKLOAD)
    probes: PortProbes | None = port_probes(before, **baseline)
    asked = expecting(before=Before(taken=AT, port_probes=probes))
    found = mesh(pods=pods(), port_probes=port_probes(port_probe(mesh=now)), **asked)
    return found.caller_comparison


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (ANSWERED, DENIED, "answers 403 (RBAC: access denied)"),
        (NOT_FOUND, DENIED, "answers 403 (RBAC: access denied)"),
        (ANSWERED, BROKEN, "answers 503"),
        (ANSWERED, REFUSED, "closes the connection (Connection reset by peer)"),
        (HELD, REFUSED, "closes the connection"),
        (HELD, DENIED, "answers 403"),
    ],
)
def test_a_port_that_rejects_what_it_admitted(then: Attempt, now: Attempt, words: str) -> None:
    (finding,) = compared(then, now).rejecting

    assert finding.subject == "Pod shop/web-1"
    assert finding.owner == WORKLOAD
    assert words in finding.seen
    assert finding.transient


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (ANSWERED, ANSWERED),
        (ANSWERED, NOT_FOUND),  # the application's own matter
        (NOT_FOUND, ANSWERED),
        (BROKEN, BROKEN),
        (DENIED, DENIED),
        (DENIED, ANSWERED),  # a warning
        (REFUSED, REFUSED),
        (HELD, HELD),
        (ANSWERED, SILENT),  # DP004 cannot verify it
    ],
)
def test_a_port_that_answers_no_worse(then: Attempt, now: Attempt) -> None:
    assert compared(then, now).rejecting == []


def test_one_of_several_pods_that_admitted_is_enough() -> None:
    probes = port_probes(
        port_probe("shop/web-a", mesh=DENIED, workload=WORKLOAD),
        port_probe("shop/web-b", mesh=ANSWERED, workload=WORKLOAD),
    )
    asked = expecting(before=Before(taken=AT, port_probes=probes))
    found = mesh(
        pods=pods(), port_probes=port_probes(port_probe(mesh=DENIED)), **asked
    ).caller_comparison

    assert len(found.rejecting) == 1
    assert found.admitting == []


def test_a_port_that_admits_what_it_denied_is_a_warning() -> None:
    (finding,) = compared(DENIED, ANSWERED).admitting

    assert "answers 200 to" in finding.seen
    assert "denied before" in finding.seen


@pytest.mark.parametrize(
    ("then", "now", "baseline", "why"),
    [
        (ANSWERED, None, {}, "no port of the baseline"),
        (None, ANSWERED, {}, "no connection with a mesh certificate"),
        (ANSWERED, DENIED, {"identity": "spiffe://cluster.local/ns/x/sa/me"}, "captured as"),
    ],
)
def test_what_cannot_be_compared_is_not_applicable(
    then: Attempt | None, now: Attempt | None, baseline: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotApplicable, match=why):
        _ = compared(then, now, **baseline).rejecting


@pytest.mark.parametrize("before", [None, Before(taken=AT)])
def test_without_a_baseline_there_is_nothing_to_compare(before: Before | None) -> None:
    found = mesh(pods=pods(), port_probes=port_probes(port_probe()), **expecting(before=before))

    with pytest.raises(NotApplicable, match="baseline"):
        _ = found.caller_comparison.rejecting


def test_another_workload_is_not_compared() -> None:
    probes = port_probes(port_probe("shop/a-1", mesh=ANSWERED, workload="Deployment shop/a"))
    asked = expecting(before=Before(taken=AT, port_probes=probes))
    found = mesh(pods=pods(), port_probes=port_probes(port_probe(mesh=DENIED)), **asked)

    with pytest.raises(NotApplicable, match="no port"):
        _ = found.caller_comparison.rejecting
