"""Suppressed findings: by a waiver, by the baseline, up to a count; and nothing else."""

from datetime import date
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshgate.snapshot.model import Expectations, KnownProblem, Waiver
from meshgate.suppressions import (
    UNCONFIRMED,
    UnusableWaivers,
    key,
    known_problems,
    read_waivers,
    sighting,
    suppress,
    waiver_notes,
)
from meshgate.verdict import Finding, Outcome, Verdict
from tests.support.builders import sidecar, snapshot

TODAY = date(2026, 1, 2)  # on which the builders' snapshots are captured
YESTERDAY = date(2026, 1, 1)
LOST = Finding("VirtualService shop/lost", "IST0101 gateway not found", problem="IST0101")
OTHER = Finding("VirtualService shop/other", "IST0101 gateway not found", problem="IST0101")


def failed(*findings: Finding, check: str = "CP006") -> Outcome:
    return Outcome(check, Verdict.FAIL, findings)


def suppressed(outcome: Outcome, **expectations: object) -> Outcome:
    """The outcome under these expectations."""
    return suppress(outcome, snapshot(expectations=Expectations(**expectations)))  # type: ignore[arg-type]


def waiver(
    subject: str = "VirtualService shop/lost", until: date = TODAY, **more: object
) -> Waiver:
    return Waiver(check="CP006", subject=subject, reason="known", until=until, **more)  # type: ignore[arg-type]


# --- waivers ------------------------------------------------------------------------------------


def test_a_waived_finding_is_a_warning_that_says_why_and_until_when() -> None:
    taken = suppressed(failed(LOST), waivers=(waiver(),))

    assert taken.verdict is Verdict.WARN
    assert taken.findings == ()
    assert "waived until 2026-01-02: known" in taken.warnings[0].suppression


def test_what_no_waiver_names_still_fails() -> None:
    taken = suppressed(failed(LOST, OTHER), waivers=(waiver(),))

    assert taken.verdict is Verdict.FAIL
    assert taken.findings == (OTHER,)


@pytest.mark.parametrize(
    "other",
    [
        waiver(until=YESTERDAY),
        waiver(subject="VirtualService shop/else"),
        waiver(seen="IST0102*"),
        waiver(problem="IST0102"),
        waiver(about={"host": "x"}),
        Waiver(check="CP004", subject="*", reason="known", until=TODAY),
    ],
    ids=["expired", "object", "text", "problem", "about", "check"],
)
def test_a_waiver_for_something_else_suppresses_nothing(other: Waiver) -> None:
    outcome = failed(LOST)

    assert suppressed(outcome, waivers=(other,)) == outcome


def test_a_waiver_names_the_workload_and_the_port() -> None:
    def finding(port: str) -> Finding:
        return Finding(
            "Pod shop/web-1",
            f"port {port} accepts plaintext",
            problem="plaintext",
            owner="Deployment shop/web",
            about=(("port", port),),
        )

    waived = waiver("Deployment shop/web", problem="plaintext", about={"port": "9090"})

    assert suppressed(failed(finding("9090")), waivers=(waived,)).verdict is Verdict.WARN
    assert suppressed(failed(finding("8080")), waivers=(waived,)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("text", "glob", "matching"),
    [
        ("/routes[0]/match", "/routes[0]/match", True),
        ("/routes[0]/match", "/routes[*]/match", True),
        ("/routes[0]/match", "/routes[?]/*", True),
        ("/routes0/match", "/routes[0]/match", False),
        ("/routes[0]/match", "/routes[01]/match", False),
        ("host [::1]:80", "host [::1]:*", True),
        ("*.example.com", r"\*.example.com", True),
        ("a.example.com", r"\*.example.com", False),
        ("a.example.com", "*.example.com", True),
        (r"^/a\?b\d[!x]$", r"^/a\?b\d[!x]$", True),
        ("two\nlines", "two*", True),
        ("Upper", "upper", False),
    ],
)
def test_only_asterisks_and_question_marks_of_a_waiver_are_wildcards(
    text: str, glob: str, *, matching: bool
) -> None:
    outcome = failed(Finding(text, text, problem=text, about=(("path", text),)))
    waived = waiver(glob, problem=glob, about={"path": glob}, seen=glob)

    verdict = suppressed(outcome, waivers=(waived,)).verdict

    assert verdict is (Verdict.WARN if matching else Verdict.FAIL)


def test_an_unknown_is_never_suppressed() -> None:
    unknown = Outcome("CP006", Verdict.UNKNOWN, why="no right")

    assert suppressed(unknown, waivers=(waiver("*"),)) == unknown


def test_expired_and_unused_waivers_and_those_of_several_objects_are_notes() -> None:
    waivers = (
        waiver(),
        waiver("VirtualService shop/fixed"),
        waiver("VirtualService shop/lost", until=YESTERDAY),
        waiver("Gateway shop/*"),
    )
    gateways = [Finding(f"Gateway shop/{name}", "IST0101") for name in "ab"]
    taken = suppressed(failed(LOST, *gateways), waivers=waivers)

    unused, expired, broad = waiver_notes(waivers, [taken], TODAY)

    assert "VirtualService shop/fixed is unused" in unused
    assert "expired on 2026-01-01" in expired
    assert "covers 2 objects: Gateway shop/a, Gateway shop/b" in broad


def test_a_waiver_of_a_stage_that_did_not_run_is_not_called_unused() -> None:
    assert waiver_notes((waiver(),), [Outcome("CP001", Verdict.PASS)], TODAY) == ()


def test_a_waivers_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(
        '[[waiver]]\ncheck = "CP006"\nsubject = "VirtualService shop/*"\n'
        'problem = "IST0101"\nabout = { gateway = "x" }\n'
        'reason = "comes with the next release"\nuntil = 2026-12-31\n'
    )

    (read,) = read_waivers(file)

    assert (read.check, read.until, read.about) == ("CP006", date(2026, 12, 31), {"gateway": "x"})


@pytest.mark.parametrize(
    "text",
    [
        "[[waiver",
        '[[waiver]]\ncheck = "CP006"\nsubject = "*"\nreason = "x"\n',
        '[[waiver]]\ncheck = "CP006"\nsubject = "*"\nreason = " "\nuntil = 2026-12-31\n',
        '[[waiver]]\ncheck = "XX999"\nsubject = "*"\nreason = "x"\nuntil = 2026-12-31\n',
        '[[waiver]]\ncheck = "CP006"\nsubject = "*"\nreason = "x"\nuntil = 2026-12-31\nsen = "y"\n',
        '[[waivers]]\ncheck = "CP006"\nsubject = "*"\nreason = "x"\nuntil = 2026-12-31\n',
    ],
    ids=["no TOML", "no day", "no reason", "no such check", "misspelt key", "misspelt table"],
)
def test_a_waivers_file_that_cannot_be_used_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(text)

    with pytest.raises(UnusableWaivers, match=r"waivers\.toml"):
        read_waivers(file)


# --- the baseline -------------------------------------------------------------------------------


def rejected(pod: str, type: str = "listener", **more: object) -> Finding:
    """A rejection by a pod of `Deployment shop/web`."""
    return Finding(
        f"Pod shop/{pod}",
        f"rejected its {type}",
        problem="rejected",
        owner="Deployment shop/web",
        about=(("type", type),),
        **more,  # type: ignore[arg-type]
    )


def after(known: tuple[KnownProblem, ...], *now: Finding, check: str = "CP004") -> Outcome:
    return suppressed(failed(*now, check=check), known_problems=known)


def baseline(*before: Finding, check: str = "CP004") -> tuple[KnownProblem, ...]:
    return known_problems((check, each) for each in before)


def test_what_the_baseline_has_already_is_a_warning_whatever_the_pods_name() -> None:
    taken = after(baseline(rejected("web-78dfd4d88b-4rcvf")), rejected("web-56f7d88bd9-zx2wq"))

    assert taken.verdict is Verdict.WARN
    assert "pre-existing" in taken.warnings[0].suppression


def test_one_bad_pod_before_suppresses_one_bad_pod_after() -> None:
    taken = after(baseline(rejected("web-a")), *(rejected(f"web-{n}") for n in range(5)))

    assert (len(taken.findings), len(taken.warnings)) == (4, 1)
    assert taken.verdict is Verdict.FAIL


def test_a_problem_of_another_port_is_new() -> None:
    assert after(baseline(rejected("web-a", "listener")), rejected("web-a", "cluster")).findings


def test_the_baseline_never_suppresses_what_the_upgrade_is_to_change() -> None:
    down = Finding("Deployment istio-system/istiod", "is scaled to 0", problem="scaled-to-zero")
    forged = (KnownProblem(check="CP001", subject=down.subject, problem=down.problem),)

    assert baseline(down, check="CP001") == ()
    assert after(forged, down, check="CP001").verdict is Verdict.FAIL


def test_a_transient_finding_is_never_stored_in_a_baseline() -> None:
    assert baseline(rejected("web-a", transient=True)) == ()


def test_a_finding_without_a_problem_is_known_by_its_whole_text() -> None:
    before = Finding("Gateway shop/web", "listener 8080 is not programmed")
    now = Finding("Gateway shop/web", "listener 9090 is not programmed")

    assert after(baseline(before), before).verdict is Verdict.WARN
    assert after(baseline(before), now).verdict is Verdict.FAIL


# --- one capture --------------------------------------------------------------------------------


def test_a_transient_finding_of_one_capture_does_not_close_the_gate() -> None:
    seen_once, seen_twice = rejected("web-a", transient=True), rejected("web-b", transient=True)
    held = snapshot(unconfirmed=(sighting("CP004", seen_once),))

    taken = suppress(failed(seen_once, seen_twice, check="CP004"), held)

    assert taken.findings == (seen_twice,)
    assert taken.warnings[0].suppression == UNCONFIRMED


def test_a_pod_of_the_same_name_is_another_object() -> None:
    pod = sidecar("web-a")
    pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, uid="new"))
    found = rejected("web-a", transient=True)

    for uid, verdict in (("new", Verdict.WARN), ("old", Verdict.FAIL)):
        held = snapshot(pods=(pod,), unconfirmed=(sighting("CP004", found, uid),))
        assert suppress(failed(found, check="CP004"), held).verdict is verdict


# --- identity -----------------------------------------------------------------------------------

words = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=12)
problems = st.sampled_from(["", "disconnected", "plaintext", "wrong-version"])
findings = st.builds(
    Finding,
    subject=words,
    seen=words,
    expected=words,
    remedy=words,
    transient=st.booleans(),
    problem=problems,
    owner=st.one_of(st.just(""), words),
    about=st.lists(st.tuples(st.sampled_from(["port", "host", "route"]), words), max_size=3).map(
        tuple
    ),
)


def parts(finding: Finding) -> tuple[object, ...]:
    """What distinguishes two problems, written down without the code under test."""
    object_ = finding.owner if finding.owner else finding.subject
    what = finding.problem if finding.problem else finding.seen
    return object_, what, sorted(finding.about)


@given(findings, findings)
def test_two_findings_share_an_identity_exactly_if_they_are_the_same_problem(
    one: Finding, two: Finding
) -> None:
    assert (one.identity == two.identity) is (parts(one) == parts(two))


@given(findings, words, words, words)
def test_a_problem_keeps_its_identity_whatever_else_changes(
    finding: Finding, pod: str, seen: str, remedy: str
) -> None:
    named = msgspec.structs.replace(finding, problem="disconnected", owner="Deployment shop/web")
    later = msgspec.structs.replace(
        named, subject=pod, seen=seen, remedy=remedy, about=tuple(reversed(named.about))
    )

    assert later.identity == named.identity
    assert key("CP003", later) == key("CP003", named)


@given(st.lists(findings, max_size=6), st.lists(findings, max_size=6))
def test_no_more_is_suppressed_than_was_known(before: list[Finding], now: list[Finding]) -> None:
    known = [parts(each) for each in before if not each.transient]

    taken = suppressed(failed(*now, check="CP004"), known_problems=baseline(*before))

    for finding in taken.warnings:
        same = [each for each in taken.warnings if parts(each) == parts(finding)]
        assert len(same) <= known.count(parts(finding))
    assert len(taken.findings) + len(taken.warnings) == len(now)
