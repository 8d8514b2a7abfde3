"""What a run suggests: proceed, hold, roll back, or that a rollback is not possible."""

import json
from pathlib import Path

import pytest

from meshgate.catalogue import checks
from meshgate.report.decision import Decision, decide
from meshgate.report.html import page
from meshgate.report.json import report, write
from meshgate.report.layout import Layout
from meshgate.report.run import Run
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.support.builders import expecting, snapshot

STAGES = {id: row.stage for id, row in checks().items()}
BROKEN = Outcome("CP004", Verdict.FAIL, (Finding("Pod shop/web-1", "rejects"),))
POSSIBLE = (
    Outcome("CP029", Verdict.PASS),
    Outcome("CP030", Verdict.NOT_APPLICABLE, why="no rollback was simulated"),
)


def decided(*outcomes: Outcome, compared: bool = True) -> Decision:
    return decide(ruling(outcomes, STAGES), compared=compared)


def test_an_open_gate_means_to_proceed() -> None:
    assert decided(Outcome("CP001", Verdict.PASS)).action == "proceed"
    assert decided(Outcome("CP001", Verdict.WARN), compared=False).action == "proceed"


def test_a_new_problem_after_the_upgrade_means_to_roll_back() -> None:
    found = decided(BROKEN, *POSSIBLE)

    assert found.action == "roll back"
    assert found.reasons[0].startswith("CP004 is new since the baseline: a proxy rejects")


@pytest.mark.parametrize(
    "obstacle", [Outcome("CP029", Verdict.FAIL), Outcome("CP030", Verdict.FAIL)]
)
def test_with_an_obstacle_it_cannot_be_rolled_back(obstacle: Outcome) -> None:
    found = decided(BROKEN, *(each for each in POSSIBLE if each.check != obstacle.check), obstacle)

    assert found.action == "cannot roll back"
    assert found.reasons[-1].startswith(f"{obstacle.check} must be solved before a rollback: ")


@pytest.mark.parametrize(
    ("outcomes", "compared", "reason"),
    [
        ((BROKEN, *POSSIBLE), False, "without --baseline it is unknown"),
        ((BROKEN,), True, "is unknown: stage B did not run"),
        (
            (BROKEN, Outcome("CP029", Verdict.NOT_APPLICABLE, why="nothing older ran")),
            True,
            "is unknown: nothing older ran",
        ),
        (
            (BROKEN, POSSIBLE[0], Outcome("CP030", Verdict.UNKNOWN, why="timed out")),
            True,
            "is unknown: timed out",
        ),
        ((Outcome("PC001", Verdict.FAIL),), True, "PC001 must be fixed first"),
        ((Outcome("DP002", Verdict.FAIL), *POSSIBLE), True, "DP002 must be fixed first"),
        ((Outcome("CP004", Verdict.UNKNOWN, why="no answer"),), True, "CP004 could not be"),
        ((Outcome("CP029", Verdict.FAIL),), True, "CP029 must be solved before a rollback"),
        ((Outcome("CP004", Verdict.NOT_APPLICABLE),), True, "no check of a stage produced"),
    ],
)
def test_all_else_means_to_hold(outcomes: tuple[Outcome, ...], compared: bool, reason: str) -> None:
    found = decided(*outcomes, compared=compared)

    assert found.action == "hold"
    assert any(reason in each for each in found.reasons), found.reasons


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (2, "CP001 and CP002 must be fixed first"),
        (5, "CP001, CP002, CP003, CP004 and CP005 must be fixed first"),
        (6, "CP001, CP002, CP003, CP004, CP005 and 1 more check must be fixed first"),
        (7, "CP001, CP002, CP003, CP004, CP005 and 2 more checks must be fixed first"),
    ],
)
def test_several_checks_are_one_sentence(count: int, sentence: str) -> None:
    failed = [Outcome(f"CP00{number}", Verdict.FAIL) for number in range(1, count + 1)]

    assert sentence in decided(*failed, compared=False).reasons


def test_several_new_problems_are_one_sentence() -> None:
    broken = (BROKEN, Outcome("CP005", Verdict.FAIL))

    assert decided(*broken, *POSSIBLE).reasons[0] == "CP004 and CP005 are new since the baseline"


def test_every_report_shows_the_decision(tmp_path: Path) -> None:
    run = Run(ruling((BROKEN, *POSSIBLE), STAGES), snapshot(**expecting(known_problems=())))

    write(report(run), tmp_path / "verdict.json")
    written = json.loads((tmp_path / "verdict.json").read_text())

    assert written["decision"] == "roll back"
    assert written["reasons"] == list(run.decision.reasons)
    assert "<span>Decision: roll back</span>" in page(run)
    assert any(line.startswith("Decision: roll back (CP004") for line in Layout().lines(run))


def test_a_run_that_ended_early_means_to_hold() -> None:
    run = Run(ruling((BROKEN, *POSSIBLE), STAGES), snapshot(**expecting(known_problems=())))

    written = report(run, exit=2, sentence="GATE CLOSED: interrupted", reason="interrupted")

    assert (written.decision, written.reasons) == ("hold", ("interrupted",))
    assert "Decision:" not in page(run, sentence="GATE CLOSED: interrupted")


def test_an_open_gate_adds_no_line_to_the_terminal() -> None:
    run = Run(ruling((Outcome("CP001", Verdict.PASS),), STAGES), snapshot())

    assert not any(line.startswith("Decision") for line in Layout().lines(run))
