"""Where the reports of a run are written, and errors that end it before any."""

import os
import tempfile
from operator import attrgetter
from pathlib import Path

import pytest

from meshgate.plugin.options import settings_file
from meshgate.report import text
from meshgate.report.visible import visible
from meshgate.settings import Settings, flag
from meshgate.settings.sources import FILE_OPTION

_JUNIT, _PAGE = "junit.xml", "index.html"


def prepare_reports(config: pytest.Config, settings: Settings) -> None:
    """Remove the reports of an earlier run, which would pass for this one's.

    Raises UsageError where a report cannot be written.
    """
    config.option.htmlpath = None  # the page is meshgate's own, also beside pytest-html
    if settings.reports.reports:
        folder = Path(settings.reports.reports)
        config.option.xmlpath = str(folder / _JUNIT)
    _keep_inputs(config, settings)
    for file in report_files(config, settings).values():
        if file.exists() and is_device(file):
            continue
        try:
            _writable(file)
            file.unlink(missing_ok=True)
        except OSError as error:
            raise usage_error(
                f"cannot write the report {file}: {error}. Name another directory with "
                f"{flag('reports.reports')}, "
                f"or another file with {flag('reports.json')}, {flag('reports.html')} or "
                "--junitxml."
            ) from error
    if not settings.run.snapshot:
        try:
            _writable(snapshot_file(settings))
        except OSError as error:
            raise usage_error(
                f"cannot save the evidence in {snapshot_file(settings)}: {error}. Name another "
                f"file with {flag('run.save_snapshot')}."
            ) from error


def _keep_inputs(config: pytest.Config, settings: Settings) -> None:
    """Raise UsageError if the run would replace a file that it reads.

    A second run would be compared with the first one: it would excuse what closed the gate.
    """
    run = settings.run
    written = list(report_files(config, settings).values())
    if not run.snapshot:
        written.append(snapshot_file(settings))
        written += [Path(run.save_baseline)] if run.save_baseline else []
    read = inputs(config, settings)
    for each in written:
        if option := read.get(each.resolve()):
            raise usage_error(
                f"{option} names {each}, which this run would replace. Copy that file, or name "
                f"another directory with {flag('reports.reports')}, or another place with "
                f"{flag('run.save_baseline')}."
            )


# The settings that name a file that a run reads.
_READ = (
    "run.snapshot",
    "run.baseline",
    "run.watch",
    "access.kubeconfig",
    "access.istiod_token_file",
    "criteria.support_matrix",
    "criteria.waivers",
    "probes.pairs",
    "ingress.identity",
    "ingress.expect",
    "ingress.ca",
)


def inputs(config: pytest.Config, settings: Settings) -> dict[Path, str]:
    """Return the files that a run reads, with the option that names each."""
    named = {name: attrgetter(name)(settings) for name in _READ}
    found = {Path(place).resolve(): flag(name) for name, place in named.items() if place}
    return {settings_file(config).resolve(): FILE_OPTION, **found}


def is_device(file: Path) -> bool:
    """Return whether a report goes to a device or a pipe, which must not be removed."""
    special = file.exists() and not (file.is_file() or file.is_dir())
    return special or file.absolute().parts[1:2] in (("dev",), ("proc",))


def _writable(file: Path) -> None:
    """Create the folder of a file; raise OSError if the file cannot be created in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(file.parent, os.W_OK):
        raise PermissionError(f"no permission to write in {file.parent}")
    with tempfile.TemporaryFile(dir=file.parent):
        pass  # root may do everything, except on a read-only file system


def report_files(config: pytest.Config, settings: Settings) -> dict[str, Path]:
    """Return the reports of a run by the name under which they are published."""
    folder = Path(settings.reports.reports or "reports")
    return {
        _JUNIT: Path(config.getoption("xmlpath", None) or folder / _JUNIT),
        _PAGE: Path(settings.reports.html or folder / _PAGE),
        "verdict.json": Path(settings.reports.json or folder / "verdict.json"),
    }


def snapshot_file(settings: Settings) -> Path:
    """Return where the evidence of a live run is saved."""
    folder = Path(settings.reports.reports or "reports")
    return Path(settings.run.save_snapshot or folder / "snapshot.json.gz")


_LAST = text.last_line("GATE CLOSED: nothing was verified", int(pytest.ExitCode.USAGE_ERROR))


def usage_error(message: str) -> pytest.UsageError:
    """Return the error that ends the run with exit 4; pytest prints it as the last lines."""
    return pytest.UsageError(f"{visible(message)}\n{_LAST}")


def has_last_line(error: pytest.UsageError) -> bool:
    """Return whether an error is one of `usage_error`, and not pytest's own."""
    return str(error).endswith(f"\n{_LAST}")
