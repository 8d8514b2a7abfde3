"""The process that decides: one capture, the verdict, the exit code, the last line."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.catalogue import OPTIONAL, Check, checks
from meshgate.collect.capture import Live, Source
from meshgate.collect.errors import NoCluster, ReadError
from meshgate.collect.settle import settle
from meshgate.facts.mesh import notes_about
from meshgate.plugin import evidence
from meshgate.plugin.ending import Ending
from meshgate.plugin.fixtures import mesh_of
from meshgate.plugin.reporting import has_last_line, snapshot_file, usage_error
from meshgate.plugin.selection import partial_selection
from meshgate.plugin.settling import Checks, judge
from meshgate.plugin.signals import ignore_interrupts
from meshgate.plugin.terminal import Terminal
from meshgate.plugin.worker import Worker, check_of
from meshgate.report.causes import NOT_RUN
from meshgate.report.visible import one_line
from meshgate.semantics import baselines
from meshgate.settings import CLUSTER_OPTIONS, Settings, flag
from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import UnusableSnapshot, save
from meshgate.suppressions import UnusableWaivers, waiver_notes
from meshgate.verdict import Gate, Outcome, Ruling, Verdict, ruling


class Controller(Worker):
    """Captures, settles, and says whether the gate opens."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        super().__init__(config, settings)
        self.terminal = Terminal(config)
        self._ending = Ending(config, settings, self.terminal)
        self._selected: dict[str, Check] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._snapshot_file = snapshot_file(settings)
        self._usage_error = ""
        self._foreign_failure = ""
        self.ended = "the run ended early, see above"
        self.snapshot: Snapshot | None = None

    @property
    def _distributed(self) -> bool:
        return self._config.pluginmanager.hasplugin("dsession")

    @property
    def _stages(self) -> dict[str, None]:
        return dict.fromkeys(row.stage for row in self._selected.values())

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send an xdist worker the place of the evidence."""
        chosen = self._settings.run.snapshot or self._snapshot_file
        node.workerinput["meshgate_snapshot"] = str(Path(chosen).absolute())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Hold back what pytest and its plugins print."""
        self.terminal.hold()

    def pytest_unconfigure(self) -> None:
        """Leave standard output as it was, also where no session began."""
        self.terminal.detach()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Capture the mesh once the selected checks are known."""
        try:
            if self._distributed:
                # xdist keeps the controller from collecting; the workers wait for the evidence
                session.perform_collect()
            return (yield from self._collected(session))
        except pytest.UsageError as error:
            self._usage_error = str(error).partition("\n")[0]
            if has_last_line(error):
                raise
            raise usage_error(f"{error}.") from error

    def _collected(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        selected = {item: row for item in session.items if (row := check_of(item))}
        self._selected = {row.id: row for row in selected.values()}
        if self._distributed:
            session.items, session.testscollected = [], 0
        if selected:
            self._capture(selected)
        return result

    def _capture(self, selected: Checks) -> None:
        run = self._settings.run
        rows = checks().values() if run.save_baseline else selected.values()
        try:
            if not run.snapshot:
                # an earlier run's evidence must not pass for this one's
                self._snapshot_file.unlink(missing_ok=True)
            known = evidence.past(self._settings, selected)
            source = evidence.source(self._settings, known, self.terminal.reading)
            if isinstance(source, Live) and run.dry_run:
                self._print_requests(source)
            compared = baselines.ITEMS if run.baseline else frozenset()
            evidence.need_same_mesh(self._settings, source, compared)
            with self.terminal.viewed(self._stages):
                snapshot = settle(
                    source,
                    {*compared, *(item for row in rows for item in row.reads)},
                    lambda snapshot: judge(selected, mesh_of(self._config, snapshot)),
                    deadline=run.settle,
                    watcher=self.terminal.waiting,
                    run_ends=source.deadline if isinstance(source, Live) else None,
                )
            self._save(source, snapshot)
        except NoCluster as error:
            raise usage_error(
                f"no cluster to look at ({error}). Name one with {CLUSTER_OPTIONS}, or "
                f"replay a recording with {flag('run.snapshot', 'FILE')}."
            ) from error
        except (UnusableSnapshot, UnusableWaivers, ValueError) as error:
            raise usage_error(f"{error}.") from error
        except ReadError as error:
            raise usage_error(
                f"cannot use the baseline: {error.why} (fix: {error.remedy})."
            ) from error
        except OSError as error:
            raise usage_error(
                f"cannot save the evidence in {self._snapshot_file}: {error}. Name another file "
                f"with {flag('run.save_snapshot')}."
            ) from error
        self.terminal.mark("running the checks")
        self.snapshot = snapshot
        mesh_of(self._config, snapshot)

    def _save(self, source: Source, snapshot: Snapshot) -> None:
        if isinstance(source, Live):
            save(snapshot, self._snapshot_file)
            if place := self._settings.run.save_baseline:
                evidence.save_baseline(place, snapshot, source.cluster, self.terminal.say)

    def _print_requests(self, source: Live) -> None:
        """Print what would be sent, and end the run: nothing is verified, the gate stays closed."""
        lines, gaps = source.plan_requests()
        for gap in gaps:
            self.terminal.say(f"could not plan: {gap.why} (fix: {gap.remedy})")
        for line in lines:
            self.terminal.say(line)
        pytest.exit(
            f"dry run: {len(lines)} requests were planned, none was sent",
            returncode=int(Gate.COULD_NOT_VERIFY),
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst outcome of each check; a crash of its set-up is one too."""
        if report.failed and not hasattr(report, "meshgate"):
            self._foreign_failure = f"a test that is not in the catalogue failed: {report.nodeid}"
        if taken := getattr(report, "meshgate", None):
            new = msgspec.convert(taken, Outcome)
            old = self._outcomes.get(new.check)
            if old is None or new.verdict > old.verdict:
                self._outcomes[new.check] = new

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport, config: pytest.Config
    ) -> tuple[str, str, str] | None:
        """Print no letter for a check: the verdict follows at the end."""
        if hasattr(report, "meshgate") and config.get_verbosity() < 1:
            return report.outcome, "", ""
        return None

    @property
    def ruling(self) -> Ruling:
        """Return the verdict; a check that was selected and did not run is UNKNOWN."""
        outcomes = [
            self._outcomes.get(
                id, Outcome(id, Verdict.UNKNOWN, why=f"{NOT_RUN}: the run ended before")
            )
            for id in self._selected
        ]
        notes = partial_selection(self._selected)
        if self.snapshot is not None:
            waivers = self.snapshot.expectations.waivers
            notes += waiver_notes(waivers, outcomes, self.snapshot.taken.date())
            reads = {item for row in self._selected.values() for item in row.reads}
            notes += notes_about(mesh_of(self._config, self.snapshot), reads)
        stage_of = {id: row.stage for id, row in checks().items()}
        verdict = ruling(outcomes, stage_of, notes, OPTIONAL)
        if self._foreign_failure and verdict.gate is Gate.OPEN:
            reason = self._foreign_failure
            return msgspec.structs.replace(verdict, gate=Gate.CLOSED, reason=reason)
        return verdict

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why the run ends early: what called pytest.exit says it."""
        if isinstance(excinfo.value, pytest.exit.Exception) and excinfo.value.msg:
            self.ended = f"the run ended early: {one_line(excinfo.value.msg)}"

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why the run ends early: what crashed."""
        self.ended = f"the run crashed: {one_line(excinfo.exconly())}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Set the exit code, and print the last line."""
        ignore_interrupts()
        try:
            result = yield
            self._finish(session, exitstatus)
        except Exception as error:
            # of a plugin or of a report: without this there would be no report at all
            session.exitstatus = int(pytest.ExitCode.INTERNAL_ERROR)
            if isinstance(error, OSError):
                self._ending.discard("junit.xml")  # pytest could not write all of it
            why = f"the end of the run crashed: {type(error).__name__}: {error}"
            self.end_early(session.exitstatus, one_line(why))
            return None
        return result

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        self.terminal.mark("writing the reports")
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            if self.ruling.gate is Gate.OPEN and exitstatus != pytest.ExitCode.OK:
                self._foreign_failure = "pytest reports a failure that is not a check's"
            verdict = self.ruling
            session.exitstatus = int(verdict.gate)
            self._ending.complete(verdict, self.snapshot, session.exitstatus)
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            self.end_early(exitstatus, "no check was selected")
        else:
            what = "nothing was verified" if self._usage_error else self.ended
            self.end_early(int(session.exitstatus), what)

    def end_early(self, status: int, what: str) -> None:
        """Write, publish and print with this exit code what ended the run early."""
        self._ending.early(
            self.ruling,
            self.snapshot,
            status=status,
            sentence=f"GATE CLOSED: {what}",
            why=self._usage_error,
            stages=self._stages,
        )
