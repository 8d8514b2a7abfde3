"""The outcomes for programs: one JSON document per run (`verdict.json`)."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from meshgate.catalogue import check
from meshgate.report.decision import Action, Decision
from meshgate.report.run import Run
from meshgate.report.visible import visible_parts
from meshgate.suppressions import key
from meshgate.verdict import Finding, Outcome, Verdict

VERSION: Literal[2] = 2
LARGEST = 64 * 1024 * 1024  # bytes of a document that is read
SCHEMA = "https://json-schema.org/draft/2020-12/schema"

Word = Literal["not applicable", "pass", "warn", "fail", "could not verify"]


class ReportedFinding(msgspec.Struct, frozen=True):
    """A finding; `key` is its identity, the same from run to run.

    `suppression` says why it does not close the gate: waived, or pre-existing.
    """

    key: str
    subject: str
    seen: str
    expected: str
    remedy: str
    suppression: str = ""
    problem: str = ""
    owner: str = ""
    about: dict[str, str] = {}


class ReportedCheck(msgspec.Struct, frozen=True):
    """One check and its result; `why` says why it is unknown or not applicable.

    `basis` is the evidence that the result is based on, such as `14 pods`; `remedy` is what to do
    about an unknown result.
    """

    id: str
    stage: str
    title: str
    verdict: Word
    findings: tuple[ReportedFinding, ...]
    warnings: tuple[ReportedFinding, ...]
    why: str
    basis: str = ""
    remedy: str = ""


class ReportedCause(msgspec.Struct, frozen=True):
    """One thing to fix: the checks that it closes, and the keys of their findings."""

    title: str
    checks: tuple[str, ...]
    findings: tuple[str, ...] = ()
    why: str = ""
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """The outcomes of one run of meshgate.

    `taken` and `source` say when and where the evidence was captured, `target` which version was
    expected.  `reason` says why a run without a result of its checks ended.  `causes` is what
    closes the gate, in the order in which to fix it.  `decision` is what the outcomes suggest, with
    its `reasons`; nothing carries it out.
    """

    version: Literal[2]
    gate: Literal["open", "closed"]
    sentence: str
    exit: int
    taken: datetime | None
    source: str
    checks: tuple[ReportedCheck, ...]
    notes: tuple[str, ...]
    target: str = ""
    reason: str = ""
    causes: tuple[ReportedCause, ...] = ()
    decision: Action = "hold"
    reasons: tuple[str, ...] = ()


class _Claim(msgspec.Struct, frozen=True):
    """A check in a document of version 1."""

    id: str
    stage: str
    claim: str
    verdict: Word
    findings: tuple[ReportedFinding, ...]
    warnings: tuple[ReportedFinding, ...]
    why: str


class _Version1(msgspec.Struct, frozen=True):
    version: Literal[1]
    gate: Literal["open", "closed"]
    sentence: str
    exit: int
    taken: datetime | None
    source: str
    claims: tuple[_Claim, ...]
    notes: tuple[str, ...]
    target: str = ""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the document; docs/verdict.schema.json."""
    return {"$schema": SCHEMA, "title": "meshgate's verdict", **msgspec.json.schema(Report)}


def report(
    run: Run,
    *,
    exit: int | None = None,
    sentence: str = "",
    reason: str = "",
) -> Report:
    """Return the document of a run.

    Args:
        run: its outcomes and evidence.
        exit: the exit code of the run, where it is not the ruling's.
        sentence: the verdict in words, where it is not the ruling's.
        reason: why the run ended without a result of its checks.

    Returns:
        The document.
    """
    ruling, snapshot = run.ruling, run.snapshot
    code = int(ruling.gate) if exit is None else exit
    ended = Decision("hold", (reason or sentence,))
    decision = ended if reason or sentence else run.decision
    document = Report(
        version=VERSION,
        gate="open" if code == 0 else "closed",
        sentence=sentence or ruling.sentence,
        exit=code,
        taken=snapshot.taken if snapshot else None,
        source=snapshot.source if snapshot else "",
        checks=tuple(
            ReportedCheck(
                id=each.check,
                stage=check(each.check).stage,
                title=check(each.check).title,
                verdict=_word(each.verdict),
                findings=_findings(each.check, each.findings),
                warnings=_findings(each.check, each.warnings),
                why=each.why,
                basis=each.basis,
                remedy=_remedy(each),
            )
            for each in ruling.outcomes
        ),
        notes=ruling.notes,
        target=run.target,
        reason=reason,
        causes=tuple(
            ReportedCause(
                title=each.title,
                checks=each.checks,
                findings=tuple(key(member.check, member.finding) for member in each.members),
                why=each.why,
                remedy=each.remedy,
            )
            for each in run.causes
        ),
        decision=decision.action,
        reasons=decision.reasons,
    )
    return visible_parts(document)


def _remedy(outcome: Outcome) -> str:
    unknown = outcome.verdict is Verdict.UNKNOWN
    return (outcome.remedy or check(outcome.check).hint) if unknown else ""


def write(document: Report, file: Path) -> None:
    """Write the whole document, with a newline at its end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def decode(document: bytes) -> Report:
    """Return a document of this version or of version 1.

    Raises ValueError or RecursionError for what is neither, or is larger than LARGEST.
    """
    if len(document) > LARGEST:
        raise ValueError(f"larger than {LARGEST // 1024**2} MiB")
    if msgspec.json.decode(document, type=_Numbered).version != 1:
        return msgspec.json.decode(document, type=Report)
    old = msgspec.json.decode(document, type=_Version1)
    fields = {name: getattr(old, name) for name in _Version1.__struct_fields__}
    del fields["claims"]
    checks = tuple(
        ReportedCheck(
            each.id,
            each.stage,
            each.claim,
            each.verdict,
            each.findings,
            each.warnings,
            each.why,
        )
        for each in old.claims
    )
    return Report(**(fields | {"version": VERSION, "checks": checks}))


class _Numbered(msgspec.Struct, frozen=True):
    version: int


def read(file: Path) -> Report:
    """Return the document of an earlier run."""
    with file.open("rb") as document:
        return decode(document.read(LARGEST + 1))


def _word(verdict: Verdict) -> Word:
    word: Word = msgspec.convert(verdict.word, Word)
    return word


def _findings(id: str, findings: tuple[Finding, ...]) -> tuple[ReportedFinding, ...]:
    return tuple(
        ReportedFinding(
            key=key(id, finding),
            subject=finding.subject,
            seen=finding.seen,
            expected=finding.expected,
            remedy=finding.remedy or check(id).hint,
            suppression=finding.suppression,
            problem=finding.problem,
            owner=finding.owner,
            about=dict(finding.about),
        )
        for finding in findings
    )
