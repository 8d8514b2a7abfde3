"""The reports and the last line of a run, the same verdict in all of them however it ends."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from meshgate.collect.capture import cluster
from meshgate.pipeline.publish import Targets, publish
from meshgate.plugin.options import reports_alone
from meshgate.plugin.reporting import (
    inputs,
    is_device,
    prepare_reports,
    report_files,
    snapshot_file,
    usage_error,
)
from meshgate.plugin.terminal import Terminal
from meshgate.report import html, json, text
from meshgate.report.run import Run
from meshgate.report.short import Short, broken, short
from meshgate.settings import Settings
from meshgate.settings.reference import ObjectReference
from meshgate.verdict import Gate, Ruling, ruling

if TYPE_CHECKING:
    from meshgate.snapshot.model import Snapshot

# the exit code that the reports of this run have
ENDED = pytest.StashKey[int]()


class Ending:
    """The last things of a run.

    Args:
        config: pytest's.
        settings: the run's.
        terminal: where the last line is printed.
    """

    def __init__(self, config: pytest.Config, settings: Settings, terminal: Terminal) -> None:
        self._config = config
        self._settings = settings
        self._terminal = terminal
        self._files = report_files(config, settings)

    def complete(self, verdict: Ruling, snapshot: "Snapshot | None", status: int) -> None:
        """Write and publish the verdict of a run whose checks all ran.

        Args:
            verdict: the run's.
            snapshot: the evidence.
            status: the exit code.
        """
        run = Run(verdict, snapshot)
        self._write(json.report(run), run)
        self._terminal.release(discard=not verdict.reason)
        self._terminal.result(run)
        last = text.last_line(verdict.sentence, int(verdict.gate))
        self._publish(short(verdict, status, last), snapshot)
        page = self._files["index.html"]
        place = f"   {_relative(page)}" if page.exists() else ""
        self._terminal.last(f"{last}{place}", verdict.gate)
        self._config.stash[ENDED] = status

    def early(
        self,
        verdict: Ruling,
        snapshot: "Snapshot | None",
        *,
        status: int,
        sentence: str,
        why: str = "",
        stages: Iterable[str] = (),
    ) -> None:
        """Write and publish that a run ended early.

        Args:
            verdict: of the checks that ran; it never opens the gate here.
            snapshot: the evidence, if there is any.
            status: the exit code.
            sentence: the last line without the exit code.
            why: the usage error, which pytest itself prints with the last line.
            stages: the stages that were selected.
        """
        last = text.last_line(sentence, status)
        if verdict.gate is Gate.OPEN:
            verdict = msgspec.structs.replace(verdict, gate=Gate.COULD_NOT_VERIFY)
        document = json.report(
            Run(verdict, snapshot),
            exit=status,
            sentence=sentence,
            reason=why or sentence.removeprefix("GATE CLOSED: "),
        )
        if not snapshot:
            name = self._settings.access.cluster_name
            document = msgspec.structs.replace(document, source=name)
        self._write(document, Run(verdict, snapshot), sentence=why or sentence, exit=status)
        self._publish(broken(f"{last}: {why}" if why else last, status, stages), snapshot)
        self._terminal.release(discard=bool(why))
        if not why:
            self._terminal.last(last, Gate.CLOSED)
        self._config.stash[ENDED] = status

    def _write(
        self, document: json.Report, run: Run, *, sentence: str = "", exit: int | None = None
    ) -> None:
        """Write the reports; a report that cannot be written changes no verdict."""
        written = {each.resolve() for each in self._files.values()}
        if inputs(self._config, self._settings).keys() & written:
            return  # the run was refused, because it would replace what it reads
        events = self._terminal.events
        writers: dict[str, Callable[[Path], None]] = {
            "verdict.json": lambda file: json.write(document, file),
            "index.html": lambda file: html.write(file, run, events, sentence=sentence, exit=exit),
        }
        for name, write in writers.items():
            try:
                write(self._files[name])
            except Exception as error:
                self.discard(name)
                self._terminal.say(f"note could not write {name}: {type(error).__name__}: {error}")
        evidence = snapshot_file(self._settings)
        if run.snapshot and not self._settings.run.snapshot and not evidence.exists():
            self._terminal.say(f"note the evidence was removed during the run: {evidence}")

    def discard(self, name: str) -> None:
        """Remove a report that may be incomplete."""
        file = self._files[name]
        with suppress(OSError):
            if not is_device(file):
                file.unlink(missing_ok=True)

    def _publish(self, verdict: Short, snapshot: "Snapshot | None") -> None:
        reports = self._settings.reports
        targets = Targets(
            job=ObjectReference.parse(reports.job) if reports.job else None,
            shard=self._settings.probes.shard or "",
            report=reports.report_to,
            keep=reports.keep_reports,
            url=reports.report_url,
            metrics=reports.metrics,
            cluster=self._settings.access.cluster_name,
            watch=ObjectReference.parse(reports.end_watch) if reports.end_watch else None,
        )
        files = {**self._files, "snapshot.json.gz": snapshot_file(self._settings)}
        known = snapshot.expectations.target_version if snapshot else None
        version = known or self._settings.criteria.target_version or ""
        for line in publish(verdict, version, targets, files, lambda: cluster(self._settings)):
            self._terminal.say(f"note {line}")


def _relative(file: Path) -> str:
    """Return a path from the working directory, if it is below that."""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def prepare(config: pytest.Config, settings: Settings) -> None:
    """Prepare the reports; where one cannot be written, publish that with the others."""
    try:
        prepare_reports(config, settings)
    except pytest.UsageError as error:
        refuse(config, settings, str(error).partition("\n")[0])
        raise


def rejected(config: pytest.Config, why: str) -> pytest.UsageError:
    """Write and publish that the options of a run cannot be used; return the error that ends it."""
    settings = reports_alone(config)
    prepare(config, settings)
    refuse(config, settings, why)
    return usage_error(f"{why}.")


def refuse(config: pytest.Config, settings: Settings, why: str) -> None:
    """Write and publish that a run did not start, because its settings cannot be used.

    Args:
        config: pytest's.
        settings: where the reports go; the others may be defaults.
        why: what is wrong with the settings.
    """
    ending = Ending(config, settings, Terminal(config))
    status = int(pytest.ExitCode.USAGE_ERROR)
    sentence = "GATE CLOSED: nothing was verified"
    ending.early(ruling([], {}), None, status=status, sentence=sentence, why=why)
