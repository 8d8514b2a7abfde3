"""The settings as options of pytest, and where the reports are written."""

import argparse
import os
import shlex
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from meshgate.report import text
from meshgate.report.visible import visible
from meshgate.settings import (
    TOPICS,
    Reports,
    Setting,
    Settings,
    SettingsError,
    definitions,
    read_file,
    resolve,
)
from meshgate.settings.sources import FILE

_JUNIT, _PAGE = "junit.xml", "index.html"
_HTML = "--html"


def add_options(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add an option for each setting, in a group for each topic, and hidden former names.

    The values are parsed by `load`: an error of argparse would end the run before any report.
    """
    taken = _HTML if _has_pytest_html(pluginmanager) else ""
    for name, topic in TOPICS.items():
        title = (topic.__doc__ or "").partition("\n")[0].rstrip(".")
        group = parser.getgroup(f"meshgate-{name}", f"meshgate: {title}")
        for each in definitions(topic):
            if each.flag == taken:
                continue
            attributes = _attributes(name, each)
            group.addoption(each.flag, help=each.text.replace("%", "%%"), **attributes)
            for alias in each.aliases:
                group.addoption(alias, help=argparse.SUPPRESS, **attributes)
    parser.getgroup("meshgate-run").addoption(
        "--settings", metavar="FILE", help=f"file with settings ({FILE} beside pytest.ini)"
    )


def _has_pytest_html(pluginmanager: pytest.PytestPluginManager) -> bool:
    """Return whether pytest-html, where it is installed, has the option --html already."""
    if pluginmanager.hasplugin("html"):
        return True
    installed = find_spec("pytest_html") is not None  # its plugin may be loaded after this one
    loads = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    return installed and loads and not pluginmanager.is_blocked("html")


def _attributes(topic: str, setting: Setting) -> dict[str, Any]:
    shared: dict[str, Any] = {"dest": _dest(topic, setting), "default": None}
    if setting.switch:
        return {**shared, "action": "store_true"}
    shared["metavar"] = setting.metavar or "|".join(setting.choices)
    return {**shared, "action": "append"} if setting.repeated else shared


def _dest(topic: str, setting: Setting) -> str:
    return f"meshgate_{topic}_{setting.name}"


def load(config: pytest.Config) -> Settings:
    """Return the settings of this run; raise SettingsError for settings that cannot be used."""
    settings = resolve(_given(config), _file(config))
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    if settings.reports.job and words[::2] != ["-p"] * len(words[::2]):
        raise SettingsError(
            f"PYTEST_ADDOPTS={' '.join(words)} may deselect checks, which a gate's Job does not "
            "allow: unset it"
        )
    return settings


def reports_alone(config: pytest.Config) -> Settings:
    """Return the settings of the reports, where the others cannot be used."""
    chosen: dict[str, Any] = {}
    for each in definitions(Reports):
        with suppress(ValueError):
            value = _option(config, "reports", each)
            if value is not None:
                chosen[each.name] = each.value(value)
    return Settings(reports=Reports(**chosen))


def prepare_reports(config: pytest.Config, settings: Settings) -> None:
    """Remove the reports of an earlier run, which would pass for this one's.

    Raises UsageError where a report cannot be written.
    """
    config.option.htmlpath = None  # the page is meshgate's own, also beside pytest-html
    if settings.reports.reports:
        folder = Path(settings.reports.reports)
        config.option.xmlpath = str(folder / _JUNIT)
    if config.option.collectonly:
        return
    for file in report_files(config, settings).values():
        try:
            _writable(file)
            file.unlink(missing_ok=True)
        except OSError as error:
            raise usage_error(
                f"cannot write the report {file}: {error}. Name another directory with --reports, "
                "or another file with --json, --html or --junitxml."
            ) from error
    if not settings.run.snapshot:
        try:
            _writable(snapshot_file(settings))
        except OSError as error:
            raise usage_error(
                f"cannot save the evidence in {snapshot_file(settings)}: {error}. Name another "
                "file with --save-snapshot."
            ) from error


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
        _JUNIT: Path(config.option.xmlpath or folder / _JUNIT),
        _PAGE: Path(settings.reports.html or folder / _PAGE),
        "verdict.json": Path(settings.reports.json or folder / "verdict.json"),
    }


def snapshot_file(settings: Settings) -> Path:
    """Return where the evidence of a live run is saved."""
    folder = Path(settings.reports.reports or "reports")
    return Path(settings.run.save_snapshot or folder / "snapshot.json.gz")


def usage_error(message: str) -> pytest.UsageError:
    """Return the error that ends the run with exit 4; pytest prints it as the last lines."""
    last = text.last_line("GATE CLOSED: nothing was verified", int(pytest.ExitCode.USAGE_ERROR))
    return pytest.UsageError(f"{visible(message)}\n{last}")


def _given(config: pytest.Config) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {}
    for name, topic in TOPICS.items():
        for each in definitions(topic):
            value = _option(config, name, each)
            if value is not None:
                given.setdefault(name, {})[each.name] = _value(each, value)
    return given


def _option(config: pytest.Config, topic: str, setting: Setting) -> Any:
    """Return what was given on the command line; None for nothing."""
    other = getattr(config.option, "htmlpath", None) if setting.flag == _HTML else None
    return config.getoption(_dest(topic, setting), other)


def _value(setting: Setting, given: Any) -> Any:
    """Return the value of an option; raise SettingsError for one that is not allowed."""
    if setting.switch:
        return given
    try:
        return tuple(map(setting.value, given)) if setting.repeated else setting.value(given)
    except ValueError as error:
        raise SettingsError(f"{setting.flag}: {error}") from error


def _file(config: pytest.Config) -> dict[str, dict[str, Any]]:
    if named := config.getoption("--settings"):
        return read_file(Path(named))
    beside = (config.inipath or config.rootpath / "pytest.ini").parent / FILE
    return read_file(beside) if beside.is_file() else {}
