"""The outcomes for programs: one JSON document a run."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from meshgate.catalogue import check
from meshgate.snapshot.model import Snapshot
from meshgate.suppressions import key
from meshgate.verdict import Finding, Ruling, Verdict

VERSION = 1
SCHEMA = "https://json-schema.org/draft/2020-12/schema"

Word = Literal["not applicable", "pass", "warn", "fail", "could not verify"]


class Offender(msgspec.Struct, frozen=True):
    """A finding; `key` stays the same from run to run, for comparing two of them.

    `excuse` says why it closes no gate: waived, or so before the upgrade.
    """

    key: str
    subject: str
    seen: str
    expected: str
    remedy: str
    suppression: str = ""


class Claim(msgspec.Struct, frozen=True):
    """One claim and what it came to; `why` where it could not be verified or does not apply."""

    id: str
    stage: str
    claim: str
    verdict: Word
    findings: tuple[Offender, ...]
    warnings: tuple[Offender, ...]
    why: str


class Report(msgspec.Struct, frozen=True):
    """The outcomes of one run of meshgate.

    `taken` and `source` say of what the evidence is, `target` which version had to run.
    """

    version: int
    gate: Literal["open", "closed"]
    sentence: str
    exit: int
    taken: datetime | None
    source: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]
    target: str = ""


def schema() -> dict[str, Any]:
    """What every such document is held to, as JSON Schema; docs/verdict.schema.json."""
    return {"$schema": SCHEMA, "title": "meshgate's verdict", **msgspec.json.schema(Report)}


def write(ruling: Ruling, snapshot: Snapshot | None, file: Path) -> None:
    """Writes the document, whole, with a newline at its end."""
    report = Report(
        version=VERSION,
        gate="open" if ruling.gate == 0 else "closed",
        sentence=ruling.sentence,
        exit=int(ruling.gate),
        taken=snapshot.taken if snapshot else None,
        source=snapshot.source if snapshot else "",
        claims=tuple(
            Claim(
                id=each.check,
                stage=check(each.check).stage,
                claim=check(each.check).title,
                verdict=_word(each.verdict),
                findings=_offenders(each.check, each.findings),
                warnings=_offenders(each.check, each.warnings),
                why=each.why,
            )
            for each in ruling.outcomes
        ),
        notes=ruling.notes,
        target=(snapshot and snapshot.expectations.target_version) or "",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read(file: Path) -> Report:
    """The document of an earlier run."""
    return msgspec.json.decode(file.read_bytes(), type=Report)


def _word(verdict: Verdict) -> Word:
    word: Word = msgspec.convert(verdict.word, Word)
    return word


def _offenders(id: str, findings: tuple[Finding, ...]) -> tuple[Offender, ...]:
    return tuple(
        Offender(
            key=key(id, finding),
            subject=finding.subject,
            seen=finding.seen,
            expected=finding.expected,
            remedy=finding.remedy or check(id).hint,
            suppression=finding.suppression,
        )
        for finding in findings
    )
