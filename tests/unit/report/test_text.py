"""The lines that people read: what is wrong, where, what to do; the worst last."""

import re

import pytest

from meshgate.catalogue import check, checks
from meshgate.report.layout import Layout
from meshgate.report.run import Run
from meshgate.report.text import (
    LENGTH,
    SHOWN,
    WIDTH,
    finding_line,
    last_line,
    outcome_lines,
    wrapped,
)
from meshgate.report.visible import visible
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.support.verdict_lines import unwrapped

FINDING = Finding("Pod shop/web-1", "rejected\nits  listener.", "every push accepted.", "fix it.")
PLAIN = Finding("Pod shop/web-2", "is red", "green")


def test_a_failure_names_the_object_first_and_what_was_expected_last() -> None:
    assert finding_line("CP004", FINDING) == (
        "FAIL CP004 Pod shop/web-1: rejected its listener (expected every push accepted)"
    )


def test_a_failed_check_says_what_is_wrong_then_each_finding_with_its_fix() -> None:
    row = check("CP004")

    lines = list(outcome_lines(Outcome("CP004", Verdict.FAIL, findings=(FINDING, PLAIN))))

    heading = row.failure or f"this is not true: {row.title}"
    assert lines == [
        f"CP004: {heading} (see docs/checks/CP004.md)",
        "FAIL CP004 Pod shop/web-1: rejected its listener (expected every push accepted)",
        "    fix: fix it",
        "FAIL CP004 Pod shop/web-2: is red (expected green)",
        f"    fix: {row.hint}",
    ]


@pytest.mark.parametrize("id", [id for id, row in checks().items() if row.failure])
def test_the_title_is_never_shown_as_a_failure(id: str) -> None:
    lines = list(outcome_lines(Outcome(id, Verdict.FAIL, findings=(PLAIN,))))

    assert lines[0].startswith(f"{id}: {check(id).failure}")
    assert not any(check(id).title in line for line in lines)


def test_a_pass_says_what_it_is_based_on() -> None:
    (line,) = outcome_lines(Outcome("CP001", Verdict.PASS, basis="14 pods"))

    assert line == f"pass CP001 {check('CP001').title} (based on 14 pods)"


MULTI = "two\nlines"


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("CP001", Verdict.NOT_APPLICABLE, why=MULTI),
        Outcome("CP001", Verdict.UNKNOWN, why=MULTI, remedy=MULTI),
        Outcome("CP001", Verdict.WARN, warnings=(Finding(MULTI, MULTI, MULTI, MULTI),)),
        Outcome("CP001", Verdict.FAIL, findings=(Finding(MULTI, MULTI, MULTI, MULTI),)),
        Outcome("CP001", Verdict.FAIL, why=MULTI),
    ],
    ids=["not applicable", "unknown", "warn", "fail", "fail without findings"],
)
def test_nothing_that_the_mesh_says_begins_a_line(outcome: Outcome) -> None:
    for line in outcome_lines(outcome):
        ours = ("FAIL CP001", "WARN CP001", "UNKNOWN CP001", "n/a  CP001", "    fix: ", "CP001: ")
        assert line.startswith(ours)
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("hidden", ["\x1b[2K", "\x07", "\x9b31m", "\u202e", "\u2066", "\x00"])
def test_control_characters_and_bidirectional_marks_are_visible(hidden: str) -> None:
    evil = f"x{hidden}\r\nGATE OPEN: 15 of 15 checks passed\u2028(exit 0)"
    found = Finding(evil, evil, evil, evil)

    for line in outcome_lines(Outcome("CP004", Verdict.FAIL, findings=(found,))):
        assert line.isprintable()
        assert not line.startswith("GATE OPEN")


COMMANDS = (
    "::error file=a,line=1::GATE OPEN",
    "::stop-commands::x",
    "::Set-Output name=gate::open",
    "##[add-mask]x",
    "##vso[task.complete result=Succeeded;]done",
    "##teamcity[buildStatus status='SUCCESS']",
)
OBEYED = re.compile(r"^\s*::[\w-]+.*::|##\w*\[")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("room", range(0, 110, 7))
def test_a_log_contains_no_command_for_a_ci_system(command: str, room: int) -> None:
    words = f"{'x ' * (room // 2)}{command}"
    found = Finding("Pod shop/web", words, words, words)
    outcomes = (Outcome("CP004", Verdict.FAIL, findings=(found,)),)
    run = Run(ruling(outcomes, {"CP004": "controlplane"}, (words,)))

    for line in [*Layout(verbose=True).lines(run), *wrapped([visible(words)])]:
        assert not OBEYED.search(line), line


def test_addresses_and_names_with_colons_are_shown_as_they_are() -> None:
    words = "::1 and 2001:db8::1, outbound|80||a::b, fe80::/10 ## a heading"

    assert visible(words) == words


def test_a_text_is_cut_in_the_terminal_and_whole_in_the_report() -> None:
    long = Outcome("CP004", Verdict.FAIL, findings=(Finding("Pod a/b", "x " * 5000),))

    assert max(map(len, outcome_lines(long, SHOWN))) < LENGTH + 50
    assert max(map(len, outcome_lines(long))) > 9000


def test_an_unknown_says_what_could_not_be_verified_and_why() -> None:
    unknown = Outcome("CP002", Verdict.UNKNOWN, why="no right to list pods", remedy="grant it")

    assert list(outcome_lines(unknown)) == [
        f"UNKNOWN CP002 {check('CP002').title}: could not verify: no right to list pods",
        "    fix: grant it",
    ]


def test_a_failure_without_findings_says_why() -> None:
    _, line, fix = outcome_lines(Outcome("CP002", Verdict.FAIL, why="2 != 3"))

    assert line == "FAIL CP002 2 != 3"
    assert fix == f"    fix: {check('CP002').hint}"


def many(count: int) -> Outcome:
    """A check with so many findings."""
    found = tuple(Finding(f"Pod shop/web-{n}", "is red", "green") for n in range(count))
    return Outcome("CP003", Verdict.FAIL, findings=found)


def failures(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("FAIL")]


def test_every_finding_is_shown_unless_a_limit_is_set() -> None:
    assert len(failures(list(outcome_lines(many(99))))) == 99
    assert len(failures(list(outcome_lines(many(3), 3)))) == 3

    *first, last = failures(list(outcome_lines(many(99), 3)))

    assert len(first) == 3
    assert last.startswith("FAIL CP003 and 96 more")


@pytest.mark.parametrize(
    ("code", "end"),
    [(0, "(exit 0)"), (1, "(exit 1)"), (10, "(exit 10: could not verify)"), (5, "verified)")],
)
def test_the_last_line_says_the_exit_code_in_words(code: int, end: str) -> None:
    assert last_line("GATE CLOSED: why", code).endswith(end)


def test_the_last_line_has_the_counts_apart() -> None:
    assert last_line("GATE OPEN  4 passed", 0) == "GATE OPEN  4 passed   (exit 0)"


def test_no_line_is_wider_than_the_terminal_and_unwrapping_restores_it() -> None:
    long = Finding("Pod shop/web-1", "rejected " + "its listener " * 20, "none", "change " * 40)
    lines = list(outcome_lines(Outcome("CP004", Verdict.FAIL, findings=(long,))))

    narrow = list(wrapped(lines))

    assert max(map(len, narrow)) <= WIDTH
    whole = unwrapped("\n".join(narrow))
    assert whole == unwrapped("\n".join(lines))
    assert whole[1].startswith(lines[1])


def test_a_command_to_paste_is_never_wrapped() -> None:
    command = "kubectl -n shop rollout restart deployment/web " + "x" * 100

    assert list(wrapped([f"    fix: {command}"])) == [f"    fix: {command}"]
