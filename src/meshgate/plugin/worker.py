"""Where checks run: the evidence is handed in, outcomes go out with the reports of pytest."""

import inspect
from collections.abc import Generator, Iterable
from pathlib import Path

import msgspec
import pytest

from meshgate.catalogue import Check, check
from meshgate.facts.mesh import Mesh
from meshgate.plugin.evidence import recording
from meshgate.plugin.fixtures import BASIS, MESH, WARNINGS
from meshgate.plugin.reporting import usage_error
from meshgate.plugin.settling import call as call_check
from meshgate.plugin.settling import need_all, result_of
from meshgate.report import text
from meshgate.report.visible import visible
from meshgate.settings import Settings
from meshgate.verdict import PASSING, Finding, Outcome, Verdict


class Worker:
    """The hooks of every process in which checks run.

    Args:
        config: pytest's.
        settings: the run's.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings

    def _evidence(self) -> Mesh:
        """Load what the controller wrote, at the first check: nothing is sent here before that."""
        if MESH not in self._config.stash:
            path = self._config.workerinput["meshgate_snapshot"]  # type: ignore[attr-defined]
            self._config.stash[MESH] = Mesh(recording(Path(path), self._settings).capture(()))
        return self._config.stash[MESH]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Load the evidence before fixtures request it."""
        if check_of(item):
            self._evidence()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Run no check on incomplete evidence."""
        if row := check_of(item):
            need_all(row, self._evidence())

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> object | None:
        """Call a check, whose returned value would be ignored otherwise."""
        function = pyfuncitem.obj
        if not check_of(pyfuncitem) or inspect.iscoroutinefunction(function):
            return None
        given = pyfuncitem.funcargs
        names = inspect.signature(function).parameters
        call_check(function, {name: given[name] for name in names if name in given})
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a check raised into an outcome that travels with the report."""
        row = check_of(item)
        report = yield
        # only now: what a unittest.TestCase raises is added by pytest's own hook
        raised = call.excinfo.value if call.excinfo else None
        if row is None or (call.when != "call" and raised is None):
            return report
        warnings: list[Finding] = item.stash.get(WARNINGS, [])
        mesh = self._evidence()
        counted = item.stash.get(BASIS, None)
        result = result_of(row, mesh, raised, warnings, counted)
        properties = list(_properties(row, result, mesh))
        # the item's too: an error after the call has them in JUnit as well
        item.user_properties += properties
        report.user_properties += properties
        report.meshgate = msgspec.to_builtins(result)  # type: ignore[attr-defined]
        # xfail excuses no check: waivers and the baseline do, with a reason
        vars(report).pop("wasxfail", None)
        lines = "\n".join(text.outcome_lines(result))
        if result.verdict in PASSING:
            # what was raised may be suppressed: then it is not a failure
            report.outcome, report.longrepr = "passed", None
        elif result.verdict is Verdict.NOT_APPLICABLE:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, result.why)
        else:
            report.outcome = "failed"
            crash = result.verdict is Verdict.UNKNOWN and "crashed" in result.why
            report.longrepr = f"{lines}\n\n{visible(report.longreprtext)}" if crash else lines
        if result.warnings:
            report.sections.append(("warnings", lines))
        report.sections = [(name, visible(content)) for name, content in report.sections]
        return report


def _properties(row: Check, result: Outcome, mesh: Mesh) -> Iterable[tuple[str, str]]:
    """Return what JUnit has of a check: an `object` for each that a finding is about."""
    yield from (("check", row.id), ("stage", row.stage), ("title", row.title))
    yield ("verdict", result.verdict.word)
    summary = mesh.control_plane_summary
    yield from (("version", summary.versions), ("revision", summary.revisions))
    for finding in (*result.findings, *result.warnings):
        yield ("object", finding.subject)


def check_of(item: pytest.Item) -> Check | None:
    """Return the catalogue's row of a test, None for a test that is not a check."""
    marker = item.get_closest_marker("check")
    if marker is None:
        return None
    try:
        return check(*marker.args)
    except (TypeError, ValueError) as error:
        raise usage_error(f"{item.nodeid}: {error}.") from error
