"""The lines that people read: all that they need to act, on one line, the worst last."""

import pytest

from meshgate.catalogue import check
from meshgate.report.text import SHOWN, finding_line, outcome_lines, ruling_lines
from meshgate.verdict import Finding, Gate, Outcome, Ruling, Verdict, ruling

FINDING = Finding("Pod shop/web-1", "rejected\nits  listener.", "every push accepted", "fix it.")
PLAIN = Finding("Pod shop/web-2", "is red", "green")

STAGE = {"CP001": "controlplane", "CP002": "controlplane", "CP003": "controlplane"}


def test_a_failure_line_holds_id_object_seen_expected_remedy_and_page() -> None:
    assert finding_line("CP004", FINDING) == (
        "FAIL CP004 Pod shop/web-1: rejected its listener; expected every push accepted. "
        "Do: fix it. See docs/checks/CP004.md"
    )


def test_where_a_finding_says_no_remedy_the_catalogues_hint_stands() -> None:
    assert f"Do: {check('CP004').hint}. See" in finding_line("CP004", PLAIN)


MULTI = "two\nlines"
OUTCOMES = {
    "pass": Outcome("CP001", Verdict.PASS),
    "warn": Outcome("CP001", Verdict.WARN, warnings=(FINDING,)),
    "not applicable": Outcome("CP001", Verdict.NOT_APPLICABLE, why=MULTI),
    "unknown": Outcome("CP001", Verdict.UNKNOWN, why=MULTI, remedy=MULTI),
    "fail": Outcome("CP001", Verdict.FAIL, findings=(FINDING,)),
    "fail in words": Outcome("CP001", Verdict.FAIL, why=MULTI),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_every_outcome_of_one_finding_is_one_line_that_names_the_check(outcome: Outcome) -> None:
    (line,) = outcome_lines(outcome)

    assert line.split()[1] == "CP001"
    assert len(line.splitlines()) == 1
    worth_acting = outcome.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)
    assert line.endswith("See docs/checks/CP001.md") is worth_acting
    assert ("Do: " in line) is worth_acting


def test_an_unknown_says_what_could_not_be_verified_and_why() -> None:
    unknown = Outcome("CP002", Verdict.UNKNOWN, why="no right to list pods.", remedy="grant it")

    (line,) = outcome_lines(unknown)

    assert line == (
        f"???? CP002 could not verify that {check('CP002').title}: no right to list pods. "
        "Do: grant it. See docs/checks/CP002.md"
    )


def test_a_failure_without_findings_says_what_was_expected() -> None:
    (line,) = outcome_lines(Outcome("CP002", Verdict.FAIL, why="2 != 3"))

    assert line.startswith(f"FAIL CP002 2 != 3; expected that {check('CP002').title}. Do: ")


def many(count: int) -> Outcome:
    """A claim with so many offenders."""
    found = tuple(Finding(f"Pod shop/web-{n}", "is red", "green") for n in range(count))
    return Outcome("CP003", Verdict.FAIL, findings=found)


def test_all_offenders_are_told_unless_a_limit_is_set() -> None:
    assert len(list(outcome_lines(many(99)))) == 99
    assert len(list(outcome_lines(many(3), limit=3))) == 3

    *first, last = outcome_lines(many(99), limit=3)

    assert len(first) == 3
    assert last.startswith("FAIL CP003 and 96 more")


def run(*outcomes: Outcome) -> tuple[Ruling, list[str]]:
    """A ruling and its lines."""
    ruled = ruling(outcomes, STAGE)
    return ruled, list(ruling_lines(ruled))


def test_the_worst_comes_last_and_the_verdict_at_the_very_end() -> None:
    ruled, lines = run(
        Outcome("CP001", Verdict.UNKNOWN, why="gone"),
        Outcome("CP002", Verdict.PASS),
        Outcome("CP003", Verdict.FAIL, findings=(PLAIN,)),
    )

    assert [line[:10] for line in lines[:-1]] == ["pass CP002", "FAIL CP003", "???? CP001"]
    assert lines[-1] == f"{ruled.sentence} (exit 1: a claim failed)"


@pytest.mark.parametrize(
    ("verdict", "end"),
    [
        (Verdict.PASS, "(exit 0)"),
        (Verdict.WARN, "(exit 0)"),
        (Verdict.FAIL, "(exit 1: a claim failed)"),
        (Verdict.UNKNOWN, "(exit 10: could not verify)"),
        (Verdict.NOT_APPLICABLE, "(exit 10: could not verify)"),
    ],
)
def test_the_last_line_says_the_exit_code_in_words(verdict: Verdict, end: str) -> None:
    _, lines = run(Outcome("CP001", verdict, why="because", warnings=(PLAIN,)))

    assert lines[-1].endswith(end)


def test_a_long_listing_is_cut_in_the_terminal() -> None:
    ruled, lines = run(many(SHOWN + 5))

    assert ruled.gate is Gate.CLOSED
    assert len(lines) == SHOWN + 2
    assert "and 5 more" in lines[-2]
