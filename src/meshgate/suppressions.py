"""Findings that do not close the gate: waived, pre-existing, or seen in a single capture.

Pure: "today" is the day on which the evidence was captured, so a replay gives the same verdict.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import msgspec

from meshgate.catalogue import check, checks
from meshgate.globs import matches
from meshgate.semantics.baselines import objection
from meshgate.snapshot.model import KnownProblem, Snapshot, Waiver
from meshgate.verdict import Finding, Outcome, Verdict

PRE_EXISTING = "pre-existing (in the baseline)"
UNCONFIRMED = "seen in one capture only"


class UnusableWaivers(Exception):
    """A waiver file cannot be used; the message says where."""


class _StrictWaiver(Waiver, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A waiver without misspelt keys."""


def read_waivers(file: Path) -> tuple[Waiver, ...]:
    """Return the waivers of a TOML file: `[[waiver]]` tables with the fields of Waiver.

    Raises UnusableWaivers: a misspelt waiver must not be silently unused.
    """
    try:
        read = msgspec.convert(
            tomllib.loads(file.read_text()), dict[str, tuple[_StrictWaiver, ...]]
        )
        if unknown := sorted(read.keys() - {"waiver"}):
            raise UnusableWaivers(f"cannot use the waivers {file}: unknown table {unknown[0]}")
    except (OSError, ValueError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UnusableWaivers(f"cannot use the waivers {file}: {error}") from error
    waivers = read.get("waiver", ())
    for waiver in waivers:
        if waiver.check not in checks():
            raise UnusableWaivers(f"cannot use the waivers {file}: no check {waiver.check}")
        if not waiver.reason.strip():
            raise UnusableWaivers(
                f"cannot use the waivers {file}: the waiver for {waiver.check} {waiver.subject} "
                "gives no reason"
            )
    return waivers


def key(id: str, finding: Finding) -> str:
    """Return a finding's identity as one line, for programs that compare two runs."""
    subject, problem, about = finding.identity
    named = finding.problem or json.dumps(problem)
    return f"{id} {subject}: {named}" + (f" {json.dumps(dict(about))}" if about else "")


def known_problems(found: Iterable[tuple[str, Finding]]) -> tuple[KnownProblem, ...]:
    """Return the identities of (check, finding) pairs with their counts, for a baseline.

    Transient findings, and those of checks about what an upgrade changes, are left out.
    """
    counts = Counter(
        (id, *finding.identity)
        for id, finding in found
        if not finding.transient and check(id).baseline
    )
    return tuple(
        KnownProblem(check=id, subject=subject, problem=problem, about=about, count=count)
        for (id, subject, problem, about), count in sorted(counts.items())
    )


def excused(snapshot: Snapshot) -> tuple[KnownProblem, ...] | None:
    """Return the problems that do not count, for the baseline has them; None without one.

    A baseline that excuses nothing (semantics/baselines.py) is treated like none.
    """
    return None if objection(snapshot) else snapshot.expectations.known_problems


def sighting(id: str, finding: Finding, uid: str = "") -> KnownProblem:
    """Return what identifies a transient finding of this very object from capture to capture.

    A finding without a `problem` is identified by its object alone: its text may count seconds.

    Args:
        id: the check's id.
        finding: the finding.
        uid: the object's UID, if known.

    Returns:
        The identity.
    """
    about = tuple(sorted(finding.about)) if finding.problem else ()
    subject = f"{finding.subject} {uid}".strip()
    return KnownProblem(check=id, subject=subject, problem=finding.problem, about=about)


def uids(snapshot: Snapshot) -> dict[str, str]:
    """Return the UID of each pod by its subject, `Pod namespace/name`."""
    return {
        f"Pod {each.metadata.namespace}/{each.metadata.name}": each.metadata.uid
        for each in snapshot.pods
    }


def suppress(outcome: Outcome, snapshot: Snapshot) -> Outcome:
    """Return the outcome with its suppressed findings turned into warnings that say why.

    Only findings can be suppressed: an UNKNOWN stays one.
    """
    if outcome.verdict is not Verdict.FAIL or not outcome.findings:
        return outcome
    expectations = snapshot.expectations
    running = snapshot.taken.date()
    allowed = {
        (each.check, each.subject, each.problem, tuple(sorted(each.about))): each.count
        for each in excused(snapshot) or ()
        if each.check == outcome.check and check(each.check).baseline
    }
    kept: list[Finding] = []
    suppressed: list[Finding] = []
    used: list[tuple[int, str]] = []
    uid_of = uids(snapshot) if snapshot.unconfirmed else {}
    for finding in outcome.findings:
        identity = (outcome.check, *finding.identity)
        number = _waiver(outcome.check, finding, expectations.waivers, running)
        if number is not None:
            waiver = expectations.waivers[number]
            used.append((number, finding.owner or finding.subject))
            suppressed.append(_marked(finding, f"waived until {waiver.until}: {waiver.reason}"))
        elif (
            finding.transient
            and sighting(outcome.check, finding, uid_of.get(finding.subject, ""))
            in snapshot.unconfirmed
        ):
            suppressed.append(_marked(finding, UNCONFIRMED))
        elif allowed.get(identity, 0) > 0:
            allowed[identity] -= 1
            suppressed.append(_marked(finding, PRE_EXISTING))
        else:
            kept.append(finding)
    return msgspec.structs.replace(
        outcome,
        verdict=Verdict.FAIL if kept else Verdict.WARN,
        findings=tuple(kept),
        warnings=(*outcome.warnings, *suppressed),
        waivers=tuple(sorted(set(used))),
    )


def _waiver(id: str, finding: Finding, waivers: Sequence[Waiver], running: date) -> int | None:
    about = dict(finding.about)
    for number, waiver in enumerate(waivers):
        if (
            waiver.check == id
            and running <= waiver.until
            and (
                matches(finding.subject, waiver.subject)
                or bool(finding.owner and matches(finding.owner, waiver.subject))
            )
            and matches(finding.problem, waiver.problem)
            and matches(finding.seen, waiver.seen)
            and all(matches(about.get(name, ""), glob) for name, glob in waiver.about.items())
        ):
            return number
    return None


def _marked(finding: Finding, why: str) -> Finding:
    return msgspec.structs.replace(finding, suppression=why)


def waiver_notes(
    waivers: Sequence[Waiver], outcomes: Iterable[Outcome], running: date
) -> tuple[str, ...]:
    """Return a note for each waiver that is expired, unused, or covers more than one object.

    Only for checks that ran: nothing is known of another stage's.

    Args:
        waivers: all waivers, in the file's order.
        outcomes: the results of the checks that ran.
        running: today.

    Returns:
        The notes.
    """
    ran = {outcome.check: outcome for outcome in outcomes}
    covered: dict[int, set[str]] = {}
    for outcome in ran.values():
        for number, subject in outcome.waivers:
            covered.setdefault(number, set()).add(subject)
    notes = []
    for number, waiver in enumerate(waivers):
        name = f"the waiver for {waiver.check} {waiver.subject}"
        objects = sorted(covered.get(number, ()))
        if waiver.check not in ran:
            continue
        if not objects and waiver.until < running:
            notes.append(f"{name} expired on {waiver.until}: fix the finding, or renew the waiver")
        elif not objects:
            notes.append(f"{name} is unused: remove it")
        elif len(objects) > 1:
            notes.append(f"{name} covers {len(objects)} objects: {', '.join(objects)}")
    return tuple(notes)
