"""meshgate inside pytest: options, one capture, settling, outcomes, and a gate that fails closed.

The only package that imports pytest.  With xdist the controller captures and settles; its workers
load the file that it wrote, so that all checks are judged on the same evidence.  In a run that does
not select meshgate's checks only the options exist: this module imports nothing else, and the
entry point (meshgate/autoload.py) loads nothing else.

    options.py     the settings as options of pytest, and the reports' places
    selection.py   custom checks, --check and --skip
    evidence.py    from the settings to a source of evidence, and what it is compared with
    settling.py    every check on one capture, without reporting
    worker.py      in every process: the evidence, and outcomes with the reports of pytest
    controller.py  in the process that decides: capture, verdict, exit code
    ending.py      the reports and the last line of a run, however it ends
    guard.py       around the run: an end without reports, or with another exit code
    terminal.py    what is printed while it runs
    signals.py     SIGTERM and SIGINT: an end with reports
"""

import sys
from collections.abc import Generator

import pytest

from meshgate.plugin.options import (
    add_options,
    in_job,
    load,
    selects_checks,
    showing,
)
from meshgate.settings import Settings, SettingsError


def run_alone(file: str) -> int:
    """Run one file of checks as a program: `python verification/verify_controlplane.py …`."""
    return int(pytest.main([file, *sys.argv[1:]]))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the settings as options."""
    add_options(parser, pluginmanager)


def end_without_conftest(
    config: pytest.Config, parser: pytest.Parser, args: list[str], error: BaseException
) -> None:
    """End a gate with its reports, because a conftest.py cannot be loaded.

    Args:
        config: pytest's, before it has parsed the options.
        parser: pytest's.
        args: the command line, with the options of pytest.ini.
        error: why it cannot be loaded.
    """
    parser.parse_known_args(args, namespace=config.option)
    if selects_checks(config) and (not showing(config) or in_job(config)):
        from meshgate.plugin.ending import rejected
        from meshgate.report.visible import one_line

        why = f"cannot load the conftest files: {type(error).__name__}: {error}"
        raise rejected(config, one_line(why)) from error


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Let a gate end with its reports, and reject in its Job an option that verifies nothing."""
    option = showing(config)
    if not selects_checks(config) or hasattr(config, "workerinput"):
        return (yield)
    if option and not in_job(config):
        return (yield)
    from meshgate.plugin.ending import rejected
    from meshgate.plugin.guard import guarded

    if option:
        why = f"{option} verifies nothing, which a gate's Job does not allow: remove it"
        raise rejected(config, why)
    return (yield from guarded(config))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options, remove the reports of an earlier run, and register the run."""
    # everywhere, so that the tests of custom checks run without a warning
    config.addinivalue_line("markers", "check(id): the row of meshgate's catalogue for a check")
    if not selects_checks(config):
        return
    # `assert (found == [], "why")` is always true: a check with it would pass whatever is found
    config.addinivalue_line("filterwarnings", "error:assertion is always true")
    from meshgate.plugin import fixtures

    config.pluginmanager.register(fixtures, "meshgate-fixtures")
    if showing(config):
        _show(config)
    elif hasattr(config, "workerinput"):
        from meshgate.plugin.worker import Worker

        settings = load(config)
        _select(config, settings)
        config.pluginmanager.register(Worker(config, settings), "meshgate-run")
    else:
        _verify(config)


def _show(config: pytest.Config) -> None:
    """Let pytest show what was requested; the reports of an earlier run stay as they are."""
    config.option.xmlpath = None
    try:
        _select(config, load(config))
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from error


def _select(config: pytest.Config, settings: Settings) -> None:
    from meshgate.plugin.selection import Selection

    config.pluginmanager.register(Selection(config, settings), "meshgate-selection")


def _verify(config: pytest.Config) -> None:
    from meshgate.plugin.controller import Controller
    from meshgate.plugin.ending import prepare, rejected

    try:
        settings = load(config)
        _select(config, settings)
    except SettingsError as error:
        raise rejected(config, str(error)) from error
    prepare(config, settings)
    controller = Controller(config, settings)
    config.pluginmanager.register(controller, "meshgate-run")
    controller.terminal.attach()
