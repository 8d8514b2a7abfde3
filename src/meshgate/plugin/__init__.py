"""meshgate inside pytest: options, one capture, settling, outcomes, and a gate that fails closed.

The only package that imports pytest.  With xdist the controller captures and settles; its workers
load the file that it wrote, so that all checks are judged on the same evidence.

    options.py     the settings as options of pytest, and the reports' places
    evidence.py    from the settings to a source of evidence, and what it is compared with
    settling.py    every check on one capture, without reporting
    worker.py      in every process: the evidence, and outcomes with the reports of pytest
    controller.py  in the process that decides: capture, verdict, exit code
    ending.py      the reports and the last line of a run, however it ends
    terminal.py    what is printed while it runs
    signals.py     SIGTERM and SIGINT: an end with reports
"""

import sys

import pytest

from meshgate.plugin.controller import Controller
from meshgate.plugin.ending import refuse
from meshgate.plugin.options import (
    add_options,
    load,
    prepare_reports,
    reports_alone,
    usage_error,
)
from meshgate.plugin.settling import ARGUMENTS
from meshgate.plugin.signals import interrupt_on_termination
from meshgate.plugin.worker import Worker, basis, mesh, warn
from meshgate.settings import SettingsError

__all__ = [
    "ARGUMENTS",
    "basis",
    "mesh",
    "pytest_addoption",
    "pytest_configure",
    "run_alone",
    "warn",
]


def run_alone(file: str) -> int:
    """Run one file of checks as a program: `python verification/verify_controlplane.py …`."""
    return int(pytest.main([file, *sys.argv[1:]]))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the settings as options."""
    add_options(parser, pluginmanager)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options, remove the reports of an earlier run, and register the run."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(config, load(config)), "meshgate-run")
        return
    try:
        settings = load(config)
    except SettingsError as error:
        alone = reports_alone(config)
        prepare_reports(config, alone)
        refuse(config, alone, str(error))
        raise usage_error(f"{error}.") from error
    prepare_reports(config, settings)
    config.add_cleanup(interrupt_on_termination())
    controller = Controller(config, settings)
    config.pluginmanager.register(controller, "meshgate-run")
    controller.terminal.attach()
