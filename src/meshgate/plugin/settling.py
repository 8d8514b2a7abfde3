"""Every check on one capture, without reporting: what may resolve by itself, and what cannot."""

import inspect
from collections.abc import Iterable, Mapping

import pytest

from meshgate.catalogue import Check
from meshgate.collect.settle import Unsettled
from meshgate.facts.mesh import Mesh
from meshgate.report.visible import visible_outcome
from meshgate.snapshot.model import KnownProblem, Snapshot
from meshgate.suppressions import known_problems, sighting, suppress, uids
from meshgate.verdict import Basis, Outcome, Verdict, outcome

# The arguments that a check may take: with no other it can run without pytest, to settle.
ARGUMENTS = frozenset({"mesh", "warn", "basis"})

Checks = Mapping[pytest.Item, Check]


def judge(selected: Checks, snapshot: Snapshot) -> Unsettled:
    """Run every check on this capture, and return what of its result may resolve by itself."""
    mesh = Mesh(snapshot)
    waits_for: list[str] = []
    reads: set[str] = set()
    sightings: set[KnownProblem] = set()
    final = blocked = False
    uid_of = uids(snapshot)
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
        item.obj(**{name: given[name] for name in _arguments(item)})
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        # pytest.skip and pytest.fail raise no Exception: they too are the check's result
        return suppressed(outcome(row.id, error), mesh)
    return outcome(row.id, None, basis=counted)


def suppressed(result: Outcome, mesh: Mesh) -> Outcome:
    """Return the outcome after waivers and baseline, with control characters made visible."""
    return visible_outcome(suppress(result, mesh.evidence.snapshot))


def need_all(row: Check, mesh: Mesh) -> None:
    """Raise CouldNotVerify unless all that a check reads was read.

    A check that looks at nothing finds nothing wrong.
    """
    for item in row.reads:
        mesh.evidence.need(item)


def _arguments(item: pytest.Function) -> Iterable[str]:
    return inspect.signature(item.obj).parameters
