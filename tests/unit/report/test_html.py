"""The page: the verdict, what to do first, and all findings as data that cannot become markup."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from meshgate.report.html import page
from meshgate.report.page_data import Event
from meshgate.report.run import Run
from meshgate.snapshot.model import Expectations, Gap, KnownProblem
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.support.builders import istiod, pushed, reading, sidecar, snapshot, sync

STAGE = {"CP001": "controlplane", "CP002": "controlplane"}
EVIL = "</script><script>alert(1)</script><!--"


def shown(*outcomes: Outcome, seen: bool = True, **changes: Any) -> str:
    """The page of a run."""
    evidence = snapshot(**{"gaps": (Gap(item="analysis", why="no"),), **changes}) if seen else None
    return page(Run(ruling(outcomes, STAGE), evidence), [Event(datetime.now(UTC), "reading pods")])


def data(html: str) -> dict[str, Any]:
    """What the script of the page draws."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    read: dict[str, Any] = json.loads(text)
    return read


def words(html: str) -> str:
    """The part of the page that needs no script, as one reads it."""
    body = html.split("<body>")[1].split("<script", maxsplit=1)[0]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_verdict_and_what_to_do_first_need_no_script() -> None:
    found = Finding("Deployment shop/web", "is red", "green", "kubectl -n shop get deploy web")

    read = words(shown(Outcome("CP001", Verdict.FAIL, findings=(found,))))

    assert "GATE CLOSED 1 failed" in read
    assert "Start with Deployment shop/web CP001" in read
    assert "kubectl -n shop get deploy web" in read


def test_every_finding_is_in_the_data_with_its_fix_and_its_own_anchor() -> None:
    found = tuple(Finding(f"Pod shop/web-{n}", "is red", "green", "paint it") for n in range(30))

    findings = data(shown(Outcome("CP001", Verdict.FAIL, findings=found)))["findings"]

    assert [each["subject"] for each in findings] == [each.subject for each in found]
    assert {each["remedy"] for each in findings} == {"paint it"}
    assert len({each["anchor"] for each in findings}) == 30


def test_an_anchor_is_the_same_in_the_next_run() -> None:
    one, two = (
        data(shown(Outcome("CP001", Verdict.FAIL, (Finding("Pod a/b", seen, problem="is-red"),))))[
            "findings"
        ][0]["anchor"]
        for seen in ("is red for 3 s", "is red for 9 s")
    )

    assert one == two


def test_a_finding_without_a_remedy_has_the_hint_of_its_check() -> None:
    (found,) = data(shown(Outcome("CP001", Verdict.FAIL, (Finding("Pod a/b", "is red"),))))[
        "findings"
    ]

    assert found["remedy"] == "kubectl -n istio-system rollout status deployment/istiod"


def test_checks_with_problems_bring_their_pages() -> None:
    checks = data(
        shown(Outcome("CP001", Verdict.UNKNOWN, why="no right"), Outcome("CP002", Verdict.PASS))
    )["checks"]

    pages = {each["id"]: each["page"] for each in checks}
    assert "<h4>Why it matters</h4>" in pages["CP001"]
    assert pages["CP002"] == ""


def test_the_evidence_is_named() -> None:
    read = words(shown(Outcome("CP001", Verdict.PASS)))

    for part in ("2026-01-02 12:00:00 UTC", "v1.34.4", "analysis could not be read: no"):
        assert part in read


@pytest.mark.parametrize("known", [None, ()])
def test_the_data_says_whether_it_was_compared(known: tuple[KnownProblem, ...] | None) -> None:
    html = shown(Outcome("CP001", Verdict.PASS), expectations=Expectations(known_problems=known))

    assert (data(html)["baseline"] is None) is (known is None)


def test_new_pre_existing_and_resolved_findings_are_told_apart() -> None:
    known = (
        KnownProblem(check="CP001", subject="Pod shop/old", problem="is red"),
        KnownProblem(check="CP002", subject="Pod shop/gone", problem="is red"),
    )
    old = Finding("Pod shop/old", "is red", suppression="pre-existing (in the baseline)")
    new = Finding("Pod shop/new", "is pale")

    drawn = data(
        shown(
            Outcome("CP001", Verdict.FAIL, findings=(new,), warnings=(old,)),
            Outcome("CP002", Verdict.PASS),
            expectations=Expectations(known_problems=known),
        )
    )

    assert [(each["subject"], each["verdict"], each["new"]) for each in drawn["findings"]] == [
        ("Pod shop/new", "failed", True),
        ("Pod shop/old", "suppressed", False),
    ]
    assert drawn["baseline"]["resolved"] == ["CP002 Pod shop/gone: is red"]
    assert drawn["baseline"]["known"] == 1


def test_the_mesh_has_replicas_that_are_not_ready_and_proxies_by_state() -> None:
    rejecting = reading(proxies=[sync(listener=pushed(answered=False, error="no"))])
    waits = istiod("istiod-2", ready=False, phase="Pending")

    mesh = data(
        shown(
            Outcome("CP001", Verdict.PASS),
            pods=(istiod(), waits, sidecar("web-1"), sidecar("web-2")),
            istiod=(rejecting,),
        )
    )["mesh"]

    assert [(each["pod"], each["version"]) for each in mesh["replicas"]] == [
        ("istiod-1", "1.29.1"),
        ("istiod-2", ""),
    ]
    assert mesh["replicas"][0]["state"] == "Ready"
    assert "Pending" in mesh["replicas"][1]["state"]
    counts = {
        each["version"]: dict(zip(mesh["states"], each["counts"], strict=True))
        for each in mesh["proxies"]
    }
    assert counts["1.29.1"]["rejected"] == 1
    assert counts["unknown"]["not connected"] == 1


def test_a_run_without_evidence_has_a_page() -> None:
    html = page(Run(ruling([], STAGE)), sentence="no cluster to look at", exit=4)

    assert "GATE CLOSED" in words(html)
    assert "exit 4" in words(html)


def test_nothing_of_the_mesh_becomes_markup() -> None:
    evil = Finding(EVIL, EVIL, EVIL, EVIL, suppression=EVIL, owner=EVIL, about=((EVIL, EVIL),))

    html = shown(
        Outcome("CP001", Verdict.FAIL, findings=(evil,), warnings=(evil,)),
        Outcome("CP002", Verdict.UNKNOWN, why=EVIL, remedy=EVIL),
        gaps=(Gap(item="pods", why=EVIL),),
        source=EVIL,
        read=(),
    )

    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert html.count("</script>") == 2
    assert data(html)["findings"][0]["seen"] == EVIL


def test_the_policy_allows_our_script_alone() -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown())

    assert "default-src &#39;none&#39;" in policy or "default-src 'none'" in policy
    assert "unsafe" not in policy
