"""The page: the verdict on top, and what the mesh said cannot become part of its markup."""

from meshgate.report.html import cell, summary
from meshgate.snapshot.model import Gap
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.builders import snapshot

STAGE = {"CP001": "controlplane", "CP002": "controlplane"}
EVIL = "<script>alert(1)</script>"


def page(*outcomes: Outcome, seen: bool = True) -> str:
    """What stands above the table."""
    evidence = snapshot(source=EVIL, gaps=(Gap(item="analysis", why="no"),)) if seen else None
    return "".join(summary(ruling(outcomes, STAGE), evidence))


def test_the_verdict_and_all_that_is_wrong_are_told() -> None:
    found = tuple(Finding(f"Pod shop/web-{n}", "is red", "green") for n in range(30))

    told = page(Outcome("CP001", Verdict.FAIL, findings=found), Outcome("CP002", Verdict.PASS))

    assert "The gate is CLOSED: 1 of 2 claims failed." in told
    assert all(f"Pod shop/web-{n}:" in told for n in range(30))
    assert "pass CP002" not in told


def test_what_the_verdict_rests_on_is_told() -> None:
    told = page(Outcome("CP001", Verdict.PASS))

    for words in ("2026-01-02 12:00:00 UTC", "v1.34.4", "analysis"):
        assert words in told


def test_without_evidence_the_verdict_is_told_all_the_same() -> None:
    assert "nothing was proven" in page(seen=False)


def test_nothing_of_the_mesh_becomes_markup() -> None:
    evil = Finding(EVIL, EVIL, EVIL, EVIL)

    told = page(
        Outcome("CP001", Verdict.FAIL, findings=(evil,)),
        Outcome("CP002", Verdict.UNKNOWN, why=EVIL, remedy=EVIL),
    )

    assert "<script" not in told
    assert "&lt;script&gt;" in told


def test_a_row_says_its_id_and_its_claim() -> None:
    assert "CP001 istiod is rolled out" in cell(Outcome("CP001", Verdict.PASS))
