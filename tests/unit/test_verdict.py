"""From what a claim raised to what the gate does: nothing but proof ever opens it."""

import itertools

import pytest

from meshgate.verdict import (
    Basis,
    CouldNotVerify,
    Finding,
    Gate,
    Listing,
    NotApplicable,
    Outcome,
    Ruling,
    Verdict,
    listed,
    outcome,
    ruling,
)

STAGES = {"A1": "a", "A2": "a", "B1": "b", "B2": "b"}
ONE = Finding("Pod shop/web-1", "is red", "green")
TWO = Finding("Pod shop/web-2", "is red", "green", transient=True)


# --- outcomes -----------------------------------------------------------------------------------


def test_a_claim_that_raises_nothing_is_proven() -> None:
    assert outcome("A1", None) == Outcome("A1", Verdict.PASS)


def test_a_claim_that_warns_is_proven_with_its_warnings_in_order() -> None:
    assert outcome("A1", None, [TWO, ONE]) == Outcome("A1", Verdict.WARN, warnings=(ONE, TWO))


def test_a_claim_that_asserts_a_listing_fails_with_its_findings() -> None:
    failed = outcome("A1", AssertionError(listed([TWO, ONE])))

    assert failed == Outcome("A1", Verdict.FAIL, findings=(ONE, TWO))


@pytest.mark.parametrize(
    ("error", "why"), [(AssertionError("2 != 3"), "2 != 3"), (AssertionError(), "assertion")]
)
def test_a_claim_that_asserts_anything_else_fails_with_its_words(
    error: AssertionError, why: str
) -> None:
    failed = outcome("A1", error)

    assert failed.verdict is Verdict.FAIL
    assert why in failed.why


@pytest.mark.parametrize("transient", [True, False])
def test_evidence_that_is_missing_is_unknown(transient: bool) -> None:
    unknown = outcome("A1", CouldNotVerify("no right", "grant it", transient=transient))

    assert unknown == Outcome(
        "A1", Verdict.UNKNOWN, why="no right", remedy="grant it", transient=transient
    )


def test_a_claim_without_an_object_is_not_applicable() -> None:
    spoken = outcome("A1", NotApplicable("no Gateway exists"))

    assert spoken == Outcome("A1", Verdict.NOT_APPLICABLE, why="no Gateway exists")


CRASHES = [ValueError("odd"), KeyError("x"), SystemExit(0), pytest.skip.Exception("later")]


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: type(crash).__name__)
def test_whatever_else_a_claim_raises_is_unknown(crash: BaseException) -> None:
    unknown = outcome("A1", crash)

    assert unknown.verdict is Verdict.UNKNOWN
    assert type(crash).__name__ in unknown.why
    assert not unknown.transient


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        ([(14, "pod")], "14 pods"),
        ([(1, "proxy"), (2, "proxy"), (2, "gateway")], "3 proxies, 2 gateways"),
        ([(0, "gateway"), (1, "listener")], "0 gateways, 1 listener"),
        ([], ""),
    ],
)
def test_a_pass_states_its_basis(counted: list[tuple[int, str]], words: str) -> None:
    basis = Basis()
    for count, noun in counted:
        basis(count, noun)

    assert outcome("A1", None, basis=basis) == Outcome("A1", Verdict.PASS, basis=words)


def test_a_check_that_counted_no_object_cannot_pass() -> None:
    basis = Basis()
    basis(0, "proxy")

    unknown = outcome("A1", None, basis=basis)

    assert unknown.verdict is Verdict.UNKNOWN
    assert "0 proxies" in unknown.why
    warned = outcome("A1", None, [TWO], basis)
    assert (warned.verdict, warned.warnings) == (Verdict.UNKNOWN, (TWO,))
    assert outcome("A1", NotApplicable("no"), basis=basis).verdict is Verdict.NOT_APPLICABLE
    assert outcome("A1", AssertionError(listed([ONE])), basis=basis).verdict is Verdict.FAIL


def test_warnings_do_not_hide_a_failure() -> None:
    assert outcome("A1", AssertionError(listed([ONE])), [TWO]).verdict is Verdict.FAIL
    assert outcome("A1", CouldNotVerify("no"), [TWO]).verdict is Verdict.UNKNOWN


def test_a_listing_is_every_finding_on_a_line_in_order() -> None:
    text = listed([TWO, ONE])

    assert isinstance(text, Listing)
    assert text.splitlines() == [
        "Pod shop/web-1: is red (expected green)",
        "Pod shop/web-2: is red (expected green)",
    ]


# --- the ruling ---------------------------------------------------------------------------------

RULINGS = list(itertools.product(Verdict, repeat=len(STAGES)))


def ruled(verdicts: tuple[Verdict, ...]) -> Ruling:
    """The ruling over two claims of each of two stages."""
    taken = [Outcome(id, verdict) for id, verdict in zip(STAGES, verdicts, strict=True)]
    return ruling(taken, STAGES)


def test_it_opens_only_where_every_stage_is_proven_and_nothing_is_worse() -> None:
    good = {Verdict.PASS, Verdict.WARN}
    for verdicts in RULINGS:
        a, b = set(verdicts[:2]), set(verdicts[2:])
        deserves = (
            bool(a & good)
            and bool(b & good)
            and not {*a, *b}
            & {
                Verdict.FAIL,
                Verdict.UNKNOWN,
            }
        )

        assert (ruled(verdicts).gate is Gate.OPEN) is deserves, verdicts


def test_one_failure_is_a_failure_and_all_else_that_does_not_open_could_not_be_verified() -> None:
    for verdicts in RULINGS:
        failed = Verdict.FAIL in verdicts

        assert (ruled(verdicts).gate is Gate.CLOSED) is failed, verdicts


def test_the_order_of_outcomes_changes_nothing() -> None:
    for verdicts in RULINGS:
        taken = [Outcome(id, verdict) for id, verdict in zip(STAGES, verdicts, strict=True)]

        assert ruling(taken[::-1], STAGES) == ruling(taken, STAGES)


def test_nothing_taken_opens_nothing() -> None:
    nothing = ruling([], STAGES)

    assert nothing.gate is Gate.COULD_NOT_VERIFY
    assert nothing.sentence == "GATE CLOSED: no check produced evidence"


def test_a_stage_that_was_not_asked_for_is_not_waited_for() -> None:
    assert ruling([Outcome("A1", Verdict.PASS)], STAGES).gate is Gate.OPEN


@pytest.mark.parametrize(
    ("a", "b", "gate"),
    [
        (Verdict.PASS, Verdict.NOT_APPLICABLE, Gate.OPEN),
        (Verdict.PASS, Verdict.PASS, Gate.OPEN),
        (Verdict.NOT_APPLICABLE, Verdict.PASS, Gate.COULD_NOT_VERIFY),
        (None, Verdict.NOT_APPLICABLE, Gate.COULD_NOT_VERIFY),
        (None, Verdict.PASS, Gate.OPEN),
        (Verdict.PASS, Verdict.UNKNOWN, Gate.COULD_NOT_VERIFY),
        (Verdict.PASS, Verdict.FAIL, Gate.CLOSED),
    ],
)
def test_an_optional_stage_without_an_object_does_not_close_the_gate_of_others(
    a: Verdict | None, b: Verdict, gate: Gate
) -> None:
    taken = [Outcome("A1", a)] if a is not None else []

    found = ruling([*taken, Outcome("B1", b)], STAGES, optional=("b",))

    assert found.gate is gate


def test_better_verdicts_are_smaller() -> None:
    words = [verdict.word for verdict in sorted(Verdict)]

    assert words == ["not applicable", "pass", "warn", "fail", "could not verify"]


def test_exit_codes_that_pytest_has_are_its_own() -> None:
    assert int(Gate.OPEN) == int(pytest.ExitCode.OK)
    assert int(Gate.CLOSED) == int(pytest.ExitCode.TESTS_FAILED)
    assert int(Gate.COULD_NOT_VERIFY) not in {int(code) for code in pytest.ExitCode}


# --- in words -----------------------------------------------------------------------------------

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, SPARE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ((PASS, PASS, PASS, PASS), "OPEN  4 passed"),
        ((PASS, WARN, PASS, PASS), "OPEN  1 warning · 3 passed"),
        ((PASS, WARN, PASS, WARN), "OPEN  2 warnings · 2 passed"),
        ((PASS, SPARE, PASS, PASS), "OPEN  3 passed · 1 not run"),
        ((PASS, FAIL, FAIL, PASS), "CLOSED  2 failed · 2 passed"),
        ((PASS, FAIL, UNKNOWN, UNKNOWN), "CLOSED  1 failed · 2 unknown · 1 passed"),
        ((PASS, PASS, UNKNOWN, PASS), "CLOSED  1 unknown · 3 passed"),
        ((SPARE, SPARE, SPARE, SPARE), "CLOSED: no check produced evidence"),
    ],
)
def test_the_sentence_says_what_it_rests_on(verdicts: tuple[Verdict, ...], sentence: str) -> None:
    assert ruled(verdicts).sentence == f"GATE {sentence}"


def test_every_sentence_agrees_with_its_gate() -> None:
    for verdicts in RULINGS:
        taken = ruled(verdicts)

        assert ("OPEN" in taken.sentence) is (taken.gate is Gate.OPEN), verdicts
        assert ("CLOSED" in taken.sentence) is (taken.gate is not Gate.OPEN), verdicts
