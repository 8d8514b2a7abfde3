"""What is excused, by whom and until when, and that nothing else is."""

from datetime import date
from pathlib import Path

import pytest

from meshgate.snapshot.model import Expectations, Waiver
from meshgate.suppressions import UnusableWaivers, key, read_waivers, suppress, unused_waivers
from meshgate.verdict import Finding, Outcome, Verdict

TODAY = date(2026, 6, 1)
LOST = Finding("VirtualService shop/lost", "IST0101 gateway not found", "no error")
OTHER = Finding("VirtualService shop/other", "IST0101 gateway not found", "no error")


def failed(*findings: Finding, check: str = "CP006") -> Outcome:
    return Outcome(check, Verdict.FAIL, findings)


def waiver(subject: str = "VirtualService shop/lost", until: date = TODAY, **more: str) -> Waiver:
    return Waiver(check="CP006", subject=subject, reason="known", until=until, **more)


def test_a_waived_finding_is_a_warning_that_says_why_and_until_when() -> None:
    taken = suppress(failed(LOST), Expectations(waivers=(waiver(),)), TODAY)

    assert taken.verdict is Verdict.WARN
    assert taken.findings == ()
    assert "waived until 2026-06-01: known" in taken.warnings[0].suppression


def test_what_no_waiver_names_still_fails() -> None:
    taken = suppress(failed(LOST, OTHER), Expectations(waivers=(waiver(),)), TODAY)

    assert taken.verdict is Verdict.FAIL
    assert taken.findings == (OTHER,)


@pytest.mark.parametrize(
    "other",
    [
        waiver(until=date(2026, 5, 31)),
        waiver(subject="VirtualService shop/else"),
        waiver(seen="IST0102*"),
        Waiver(check="CP004", subject="*", reason="known", until=TODAY),
    ],
    ids=["expired", "another object", "another finding", "another check"],
)
def test_a_waiver_for_something_else_excuses_nothing(other: Waiver) -> None:
    outcome = failed(LOST)

    assert suppress(outcome, Expectations(waivers=(other,)), TODAY) == outcome


def test_what_could_not_be_verified_is_never_excused() -> None:
    unknown = Outcome("CP006", Verdict.UNKNOWN, why="no right")

    assert suppress(unknown, Expectations(waivers=(waiver("*"),)), TODAY) == unknown


def test_expired_and_unused_waivers_are_told() -> None:
    used, unused, expired = (
        waiver(),
        waiver("VirtualService shop/mended"),
        waiver(until=date(2026, 5, 31)),
    )
    waivers = (used, unused, expired)
    taken = suppress(failed(LOST), Expectations(waivers=waivers), TODAY)

    told = unused_waivers(waivers, [taken], TODAY)

    assert len(told) == 2
    assert "unused" in told[0]
    assert "expired on 2026-05-31" in told[1]


def test_a_waiver_of_a_stage_that_was_not_taken_is_not_called_unused() -> None:
    assert unused_waivers((waiver(),), [Outcome("CP001", Verdict.PASS)], TODAY) == ()


def test_what_the_baseline_has_already_is_a_warning() -> None:
    before = Finding("Pod shop/web-78dfd4d88b-4rcvf", "rejected its Listener configuration: x")
    now = Finding("Pod shop/web-56f7d88bd9-zx2wq", "rejected its Listener configuration: x")
    known = Expectations(known=(key("CP004", before),))

    taken = suppress(failed(now, check="CP004"), known, TODAY)

    assert taken.verdict is Verdict.WARN
    assert "before this upgrade" in taken.warnings[0].suppression


def test_the_baseline_never_excuses_istiod_itself() -> None:
    down = failed(Finding("Deployment istio-system/istiod", "is scaled to 0"), check="CP001")
    known = Expectations(known=(key("CP001", down.findings[0]),))

    assert suppress(down, known, TODAY) == down


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("Pod a/web-78dfd4d88b-4rcvf", "Pod a/web-56f7d88bd9-zx2wq", True),
        ("Pod a/ztunnel-4rcvf", "Pod a/ztunnel-zx2wq", True),
        ("Pod a/cache-0", "Pod a/cache-1", False),
        ("Pod a/web-78dfd4d88b-4rcvf", "Pod b/web-78dfd4d88b-4rcvf", False),
        ("Gateway a/web-bcdfg", "Gateway a/web-ghjkl", False),
    ],
)
def test_generated_pod_names_are_the_same_workload(before: str, after: str, same: bool) -> None:
    keys = {key("CP004", Finding(subject, "seen")) for subject in (before, after)}

    assert (len(keys) == 1) is same


def test_a_counted_second_is_no_difference_and_a_code_is() -> None:
    def seen(words: str) -> str:
        return key("CP005", Finding("Pod a/b", words))

    assert seen("has not answered for 31 s") == seen("has not answered for 58 s")
    assert seen("IST0101 lost") != seen("IST0102 lost")


def test_a_waivers_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(
        '[[waiver]]\ncheck = "CP006"\nsubject = "VirtualService shop/*"\n'
        'reason = "comes with the next release"\nuntil = 2026-12-31\n'
    )

    (read,) = read_waivers(file)

    assert (read.check, read.until) == ("CP006", date(2026, 12, 31))


@pytest.mark.parametrize(
    "text",
    [
        "[[waiver",
        '[[waiver]]\ncheck = "CP006"\nsubject = "*"\nreason = "x"\n',
        '[[waiver]]\ncheck = "CP006"\nsubject = "*"\nreason = " "\nuntil = 2026-12-31\n',
        '[[waiver]]\ncheck = "XX999"\nsubject = "*"\nreason = "x"\nuntil = 2026-12-31\n',
        '[[waivers]]\ncheck = "CP006"\n',
    ],
    ids=["no TOML", "no day", "no reason", "no such check", "misspelt table"],
)
def test_a_waivers_file_that_cannot_be_believed_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(text)

    with pytest.raises(UnusableWaivers, match=r"waivers\.toml"):
        read_waivers(file)
