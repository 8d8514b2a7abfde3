"""What is wrong and closes no gate all the same: waived by somebody, or so before the upgrade.

Pure: "today" is the day on which the evidence was taken, so a replay excuses what the run excused.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from meshgate.catalogue import check, checks
from meshgate.snapshot.model import Expectations, Waiver
from meshgate.verdict import Finding, Outcome, Verdict

# the letters that Kubernetes makes names of (apimachinery's util/rand)
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
_POD_SUFFIX = re.compile(rf"(?:-{_RANDOM}{{6,10}})?-{_RANDOM}{{5}}$")
_NUMBER = re.compile(r"(?<!\w)\d+(?:\.\d+)*(?!\w)")


class UnusableWaivers(Exception):
    """The waivers file cannot be believed; the message says where."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    waiver: tuple[Waiver, ...] = ()


def read_waivers(file: Path) -> tuple[Waiver, ...]:
    """The waivers of a TOML file: `[[waiver]]` tables with check, subject, reason, until, seen.

    Raises UnusableWaivers: a waiver that is misspelt must not be one that is silently unused.
    """
    try:
        read = msgspec.convert(tomllib.loads(file.read_text()), _File).waiver
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UnusableWaivers(f"cannot use the waivers {file}: {error}") from error
    for waiver in read:
        if waiver.check not in checks():
            raise UnusableWaivers(f"cannot use the waivers {file}: no check {waiver.check}")
        if not waiver.reason.strip():
            raise UnusableWaivers(
                f"cannot use the waivers {file}: the one for {waiver.check} {waiver.subject} "
                "gives no reason"
            )
    return read


def key(id: str, finding: Finding) -> str:
    """What is the same before and after: no generated pod name, no number that counts up."""
    subject = finding.subject
    if subject.startswith("Pod "):
        subject = _POD_SUFFIX.sub("", subject)
    return f"{id} {subject}: {_NUMBER.sub('#', finding.seen)}"


def suppress(outcome: Outcome, expectations: Expectations, running: date) -> Outcome:
    """The outcome without what is excused: that is turned into warnings that say why.

    Only findings can be excused: what could not be verified stays the worst.
    """
    if outcome.verdict is not Verdict.FAIL or not outcome.findings:
        return outcome
    kept: list[Finding] = []
    excused: list[Finding] = []
    used: set[int] = set()
    for finding in outcome.findings:
        number = _waiver(outcome.check, finding, expectations.waivers, running)
        if number is not None:
            waiver = expectations.waivers[number]
            used.add(number)
            excused.append(_marked(finding, f"waived until {waiver.until}: {waiver.reason}"))
        elif (
            check(outcome.check).baseline
            and expectations.known
            and key(outcome.check, finding) in expectations.known
        ):
            excused.append(_marked(finding, "so before this upgrade"))
        else:
            kept.append(finding)
    return msgspec.structs.replace(
        outcome,
        verdict=Verdict.FAIL if kept else Verdict.WARN,
        findings=tuple(kept),
        warnings=(*outcome.warnings, *excused),
        waivers=tuple(sorted(used)),
    )


def _waiver(id: str, finding: Finding, waivers: Sequence[Waiver], running: date) -> int | None:
    for number, waiver in enumerate(waivers):
        if (
            waiver.check == id
            and running <= waiver.until
            and fnmatchcase(finding.subject, waiver.subject)
            and fnmatchcase(finding.seen, waiver.seen)
        ):
            return number
    return None


def _marked(finding: Finding, why: str) -> Finding:
    return msgspec.structs.replace(finding, suppression=why)


def unused_waivers(
    waivers: Sequence[Waiver], outcomes: Iterable[Outcome], running: date
) -> tuple[str, ...]:
    """Waivers that did nothing here, in words: expired, or for what is no longer wrong.

    Only those of the checks that were taken: of another stage's nothing is known.
    """
    taken = {outcome.check: outcome for outcome in outcomes}
    used = {number for outcome in taken.values() for number in outcome.waivers}
    return tuple(
        f"the waiver for {waiver.check} {waiver.subject} "
        + (
            f"expired on {waiver.until}: mend what it excused, or renew it with its reason"
            if waiver.until < running
            else "is unused: nothing like it is wrong any more, take it out"
        )
        for number, waiver in enumerate(waivers)
        if waiver.check in taken and number not in used
    )
