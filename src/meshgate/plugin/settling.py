"""Every check on one capture, without reporting: what may resolve by itself, and what cannot."""

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import pytest

from meshgate.catalogue import Check
from meshgate.collect.settle import Unsettled
from meshgate.facts.mesh import Mesh
from meshgate.report.visible import visible_outcome
from meshgate.snapshot.model import KnownProblem
from meshgate.suppressions import known_problems, sighting, suppress, uids
from meshgate.verdict import (
    Basis,
    CouldNotVerify,
    Finding,
    Outcome,
    Verdict,
    incomplete,
    outcome,
)

# The arguments that a check may take: with no other it can run without pytest, to settle.
ARGUMENTS = frozenset({"mesh", "warn", "basis"})

Checks = Mapping[pytest.Item, Check]


def judge(selected: Checks, mesh: Mesh) -> Unsettled:
    """Run every check on this capture, and return what of its result may resolve by itself."""
    waits_for: list[str] = []
    reads: set[str] = set()
    sightings: set[KnownProblem] = set()
    final = blocked = False
    uid_of = uids(mesh.evidence.snapshot)
    for item, row in selected.items():
        result = run_check(item, row, mesh)
        transient = [finding for finding in result.findings if finding.transient]
        if (result.verdict is Verdict.FAIL and len(transient) < max(len(result.findings), 1)) or (
            result.verdict is Verdict.UNKNOWN and not result.transient
        ):
            final = True
        if transient or result.transient:
            waits_for += [str(finding) for finding in transient] or [result.why]
            reads.update(row.reads)
            sightings.update(
                sighting(row.id, each, uid_of.get(each.subject, "")) for each in transient
            )
            blocked = blocked or result.transient
    return Unsettled(tuple(waits_for), frozenset(reads), final, frozenset(sightings), blocked)


def problems(selected: Checks, mesh: Mesh) -> tuple[KnownProblem, ...]:
    """Return what is wrong in a baseline, for the findings of a later run to be compared with."""
    return known_problems(
        (row.id, finding)
        for item, row in selected.items()
        for finding in run_check(item, row, mesh).findings
    )


def run_check(item: pytest.Item, row: Check, mesh: Mesh) -> Outcome:
    """Return the outcome of one check; it is never raised.

    Args:
        item: the test.
        row: its row of the catalogue.
        mesh: the capture.

    Returns:
        The outcome.
    """
    if not isinstance(item, pytest.Function) or not ARGUMENTS.issuperset(_arguments(item)):
        # needs more than evidence: it runs once, in its turn
        return Outcome(row.id, Verdict.NOT_APPLICABLE)
    given = {"mesh": mesh, "warn": lambda findings: None, "basis": (counted := Basis())}
    try:
        need_all(row, mesh)
        call(item.obj, {name: given[name] for name in _arguments(item)})
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        # pytest.skip and pytest.fail raise no Exception: they too are the check's result
        return result_of(row, mesh, error)
    return result_of(row, mesh, None, basis=counted)


def call(function: Callable[..., object], arguments: Mapping[str, object]) -> None:
    """Run a check; raise TypeError if it returns a value, which would be ignored."""
    returned = function(**arguments)
    if returned is not None:
        raise TypeError(f"it returned a value of type {type(returned).__name__}: use assert")


def result_of(
    row: Check,
    mesh: Mesh,
    error: BaseException | None,
    warnings: Iterable[Finding] = (),
    basis: Basis | None = None,
) -> Outcome:
    """Return the result of a check, also of one that reports what is not a finding.

    Args:
        row: the check's row of the catalogue.
        mesh: the capture.
        error: what it raised; None if it returned.
        warnings: the findings that it reported without failing.
        basis: what it counted as its evidence.

    Returns:
        The outcome, after waivers and the baseline.
    """
    try:
        result = outcome_of(row, error, warnings, basis)
        if row.folder:
            # a text as a finding, or a number as its port, would end the whole run later
            msgspec.convert(msgspec.to_builtins(result), Outcome)
        return suppressed(result, row, mesh)
    except Exception as defect:
        return suppressed(outcome_of(row, defect), row, mesh)


def outcome_of(
    row: Check,
    error: BaseException | None,
    warnings: Iterable[Finding] = (),
    basis: Basis | None = None,
) -> Outcome:
    """Return the result of a check; for a custom check that crashed, with its file and line.

    Args:
        row: the check's row of the catalogue.
        error: what it raised; None if it returned.
        warnings: the findings that it reported without failing.
        basis: what it counted as its evidence.

    Returns:
        The outcome, before waivers and the baseline.
    """
    result = outcome(row.id, error, warnings, basis)
    crashed = result.verdict is Verdict.UNKNOWN and not isinstance(error, CouldNotVerify)
    if error is None or not row.folder or not crashed:
        return result
    lines = [
        f"{frame.filename}:{frame.lineno}: "
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(row.folder)
    ]
    return msgspec.structs.replace(
        result, why=f"{''.join(lines[-1:])}{result.why}", remedy=f"correct the check {row.id}"
    )


def suppressed(result: Outcome, row: Check, mesh: Mesh) -> Outcome:
    """Return the outcome after waivers and baseline, with control characters made visible.

    Args:
        result: of what the check raised.
        row: the check's row of the catalogue.
        mesh: the capture; its objects that cannot be decoded are findings.

    Returns:
        The outcome.
    """
    whole = incomplete(result, mesh.evidence.undecodable(row.reads))
    return visible_outcome(suppress(whole, mesh.evidence.snapshot))


def need_all(row: Check, mesh: Mesh) -> None:
    """Raise CouldNotVerify unless all that a check reads was read.

    A check that looks at nothing finds nothing wrong.
    """
    for item in row.reads:
        mesh.evidence.need(item)


def _arguments(item: pytest.Function) -> Iterable[str]:
    return inspect.signature(item.obj).parameters
