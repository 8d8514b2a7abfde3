"""The page: the verdict on top, and what the mesh said cannot become part of its markup."""

import re
from typing import Any

import pytest

from meshgate.report.html import cell, summary
from meshgate.snapshot.model import Expectations, Gap, KnownProblem
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.builders import (
    istiod,
    pod,
    pushed,
    reading,
    running,
    sidecar,
    snapshot,
    sync,
)

STAGE = {"CP001": "controlplane", "CP002": "controlplane"}
EVIL = "<script>alert(1)</script>"


def page(*outcomes: Outcome, seen: bool = True, **changes: Any) -> str:
    """What stands above the table."""
    gaps = (Gap(item="analysis", why="no"),)
    evidence = snapshot(**{"source": EVIL, "gaps": gaps, **changes}) if seen else None
    return "".join(summary(ruling(outcomes, STAGE), evidence))


def words(told: str) -> str:
    """The page as one reads it."""
    return " ".join(re.sub(r"<[^>]*>", " ", told.split("<main", 1)[1]).split())


def test_the_verdict_and_all_that_is_wrong_are_told() -> None:
    found = tuple(Finding(f"Pod shop/web-{n}", "is red", "green", "paint it") for n in range(30))

    told = words(page(Outcome("CP001", Verdict.FAIL, findings=found)))

    assert "GATE CLOSED: 1 of 1 checks failed" in told
    for n in range(30):
        assert f"object Pod shop/web-{n} problem is red expected green fix paint it" in told
    assert told.index("is red") < told.index("All checks")


def test_where_nothing_better_is_said_the_hint_is() -> None:
    told = words(page(Outcome("CP001", Verdict.FAIL, findings=(Finding("Pod a/b", "is red"),))))

    assert "fix kubectl -n istio-system rollout status deployment/istiod" in told


def test_a_check_that_is_not_well_brings_its_page() -> None:
    told = page(Outcome("CP001", Verdict.UNKNOWN, why="no right"), Outcome("CP002", Verdict.PASS))

    assert "About CP001" in told
    assert "<h4>Why it matters</h4>" in told
    assert "About CP002" not in told


def test_what_the_verdict_rests_on_is_told() -> None:
    told = words(page(Outcome("CP001", Verdict.PASS)))

    for part in ("2026-01-02 12:00:00 UTC", "v1.34.4", "analysis could not be read: no"):
        assert part in told


def test_what_was_not_asked_for_is_told() -> None:
    told = words(page(Outcome("CP001", Verdict.NOT_APPLICABLE, why="no pod holds a proxy")))

    assert "CP001 is not applicable: no pod holds a proxy" in told


@pytest.mark.parametrize("known", [None, ()])
def test_whether_it_was_compared_is_told(known: tuple[KnownProblem, ...] | None) -> None:
    told = words(
        page(Outcome("CP001", Verdict.PASS), expectations=Expectations(known_problems=known))
    )

    assert ("Not compared with a baseline" in told) is (known is None)


def test_what_changed_since_the_baseline_is_told() -> None:
    known = (
        KnownProblem(check="CP001", subject="Pod shop/old", problem="is red"),
        KnownProblem(check="CP002", subject="Pod shop/gone", problem="is red"),
    )
    old = Finding("Pod shop/old", "is red", suppression="pre-existing")
    new = Finding("Pod shop/new", "is pale")

    told = words(
        page(
            Outcome("CP001", Verdict.FAIL, findings=(new,), warnings=(old,)),
            Outcome("CP002", Verdict.PASS),
            expectations=Expectations(known_problems=known),
        )
    )

    changed = told.split("What changed since the baseline")[1].split("Suppressed findings")[0]
    assert "1 new, 1 resolved." in changed
    assert "new CP001 Pod shop/new: is pale" in changed
    assert "resolved CP002 Pod shop/gone: is red" in changed
    assert "shop/old" not in changed


def test_what_is_excused_stands_apart_with_its_reason() -> None:
    old = Finding("Pod shop/web", "is red", suppression="pre-existing")
    new = Finding("Pod shop/api", "is pale")

    told = words(page(Outcome("CP001", Verdict.WARN, warnings=(new, old))))

    soon, before = told.split("Suppressed findings")
    assert "Pod shop/api" in soon
    assert "Pod shop/web" not in soon
    assert "object Pod shop/web suppressed pre-existing problem is red" in before


def test_the_mesh_is_drawn_by_version_and_state() -> None:
    told = page(
        Outcome("CP001", Verdict.PASS),
        pods=(istiod(), sidecar("web-1"), sidecar("web-2"), pod("x", containers=[running("app")])),
        istiod=(reading(proxies=[sync(listener=pushed(answered=False, error="no"))]),),
    )

    assert "istiod-1 1.29.1 1" in words(told)
    assert 'aria-label="1 rejected"' in told
    assert 'aria-label="1 not connected"' in told
    assert 'width="100.0%"' in told


def test_without_evidence_the_verdict_is_told_all_the_same() -> None:
    assert "no check produced evidence" in page(seen=False)


def test_nothing_of_the_mesh_becomes_markup() -> None:
    evil = Finding(EVIL, EVIL, EVIL, EVIL, suppression=EVIL)

    told = page(
        Outcome("CP001", Verdict.FAIL, findings=(evil,), warnings=(evil,)),
        Outcome("CP002", Verdict.UNKNOWN, why=EVIL, remedy=EVIL),
        gaps=(Gap(item="pods", why=EVIL),),
        read=(),
    )

    assert EVIL not in told
    assert "&lt;script&gt;" in told


def test_a_row_says_its_id_and_its_claim() -> None:
    assert "CP001 istiod is rolled out" in cell(Outcome("CP001", Verdict.PASS))
