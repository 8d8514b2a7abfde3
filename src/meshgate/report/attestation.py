"""A verdict as an in-toto statement: which tests had which result, over which bytes."""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from meshgate.report.fleet import CLOSING, FleetReport
from meshgate.report.json import Report

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD = "application/vnd.in-toto+json"

_FAILED = ("fail", "could not verify")


class Subject(NamedTuple):
    """One file that a statement is about, by its SHA-256."""

    name: str
    sha256: str


class Results(NamedTuple):
    """The tests of a statement by their result."""

    passed: tuple[str, ...]
    warned: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def result(self) -> Literal["PASSED", "WARNED", "FAILED"]:
        """Return the result of all: a test that could not be verified is a failed one."""
        if self.failed or not (self.passed or self.warned):
            return "FAILED"
        return "WARNED" if self.warned else "PASSED"


def verdict_digest(report: Report) -> str:
    """Return a digest of the outcomes: equal for runs with the same outcomes.

    It does not contain the notes, which are about the run and not about the mesh.
    """
    content = msgspec.structs.replace(report, notes=())
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def results(report: Report) -> Results:
    """Return the checks of a run by their result; those that do not apply are left out."""

    def of(*verdicts: str) -> tuple[str, ...]:
        return tuple(row.id for row in report.checks if row.verdict in verdicts)

    return Results(of("pass"), of("warn"), of(*_FAILED))


def statement(
    subjects: Iterable[Subject], found: Results, digest: str, selected: Iterable[str]
) -> dict[str, Any]:
    """Return the statement.

    Args:
        subjects: the evidence that was evaluated.
        found: the results.
        digest: the digest of the verdict.
        selected: all tests, also those that do not apply.

    Returns:
        The statement, to be signed.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": each.name, "digest": {"sha256": each.sha256}} for each in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "result": found.result,
            "configuration": [
                {
                    "name": "verdict",
                    "digest": {"sha256": digest},
                    "annotations": {"selected": list(selected)},
                }
            ],
            "passedTests": list(found.passed),
            "warnedTests": list(found.warned),
            "failedTests": list(found.failed),
        },
    }


def of_run(report: Report, snapshot: Subject) -> dict[str, Any]:
    """Return the statement of one run on a snapshot."""
    selected = (row.id for row in report.checks)
    return statement([snapshot], results(report), verdict_digest(report), selected)


def of_fleet(report: FleetReport) -> dict[str, Any]:
    """Return the statement of a fleet: its subjects are the recordings, its tests the clusters."""
    subjects = [Subject(each.name, each.sha256) for each in report.clusters if each.sha256]
    closing = tuple(each.name for each in report.of(*CLOSING))
    passed = tuple(each.name for each in report.of("would change", "no change"))
    digest = hashlib.sha256(msgspec.json.encode(report)).hexdigest()
    return statement(
        subjects, Results(passed, (), closing), digest, (each.name for each in report.clusters)
    )
