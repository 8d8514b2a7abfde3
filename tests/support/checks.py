"""Every check on a snapshot without pytest, and every report of the result."""

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from meshgate.catalogue import checks
from meshgate.facts.mesh import Mesh, notes_about
from meshgate.plugin.settling import need_all, suppressed
from meshgate.report import html, text
from meshgate.report import json as report_json
from meshgate.report.layout import Layout
from meshgate.report.run import Run
from meshgate.snapshot.model import Snapshot
from meshgate.suppressions import sighting, uids
from meshgate.verdict import Basis, Finding, Outcome, Ruling, outcome, ruling
from tests.support.fuzzing import ROOT


class Judgment:
    """The result of every check.

    Args:
        snapshot: the evidence.
        mesh: the facts about it, if another judgment has used them.

    Attributes:
        mesh: the facts.
        ruling: the verdict.
        crashes: the check's id and the exception of each check that crashed.
        document: verdict.json, the lines and the page, as text.
    """

    def __init__(self, snapshot: Snapshot, mesh: Mesh | None = None) -> None:
        self.crashes: list[tuple[str, Exception]] = []
        self.mesh = mesh = mesh or Mesh(snapshot)
        rows = checks()
        outcomes = tuple(self._outcome(id, mesh) for id in _functions())
        notes = notes_about(mesh, {item for row in rows.values() for item in row.reads})
        self.ruling: Ruling = ruling(outcomes, {id: row.stage for id, row in rows.items()}, notes)
        run = Run(self.ruling, snapshot)
        summary = mesh.control_plane_summary
        self.document = "\n".join(
            (
                *Layout(verbose=True).lines(run),
                *(line for each in outcomes for line in text.outcome_lines(each)),
                repr(report_json.report(run)),
                html.page(run),
                f"{summary.versions} {summary.revisions}",
            )
        )
        of = uids(snapshot)
        for each in outcomes:
            for finding in each.findings:
                sighting(each.check, finding, of.get(finding.subject, ""))

    def _outcome(self, id: str, mesh: Mesh) -> Outcome:
        basis, warned = Basis(), list[Finding]()
        given = {"mesh": mesh, "warn": warned.extend, "basis": basis}
        function, error = _functions()[id], None
        try:
            need_all(checks()[id], mesh)
            function(**{name: given[name] for name in inspect.signature(function).parameters})
        except Exception as raised:
            error = raised
        result = outcome(id, error, warned, basis)
        if error is not None and "the check crashed" in result.why:
            self.crashes.append((id, error))
        return suppressed(result, checks()[id], mesh)


@cache
def _functions() -> dict[str, Callable[..., None]]:
    """Return the test function of each check, in the catalogue's order."""
    found = {id: each for module in _modules() for id, each in _marked(module)}
    return {id: found[id] for id in checks()}


def _modules() -> Iterator[ModuleType]:
    for file in sorted((ROOT / "verification").glob("[cv]*_*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def _marked(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for each in vars(module).values():
        for mark in getattr(each, "pytestmark", ()) if inspect.isfunction(each) else ():
            if mark.name == "check":
                yield mark.args[0], each
