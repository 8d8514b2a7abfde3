"""Around the whole run: whatever ends it, its exit code and its reports agree."""

from collections.abc import Generator

import pytest

from meshgate.plugin.controller import Controller
from meshgate.plugin.ending import ENDED, Ending, prepare, rejected
from meshgate.plugin.options import reports_alone
from meshgate.plugin.reporting import has_last_line
from meshgate.plugin.signals import ignore_interrupts, interrupt_on_termination
from meshgate.plugin.terminal import Terminal
from meshgate.report.visible import one_line
from meshgate.verdict import Gate, ruling


def guarded(config: pytest.Config) -> Generator[None, object, object]:
    """Run pytest, and end the run here if it ended without reports, or with another exit code.

    Return the exit code.  A plugin can end a run before pytest's session begins, or after it.
    """
    config.add_cleanup(interrupt_on_termination())
    why, status = "", int(Gate.COULD_NOT_VERIFY)
    try:
        result = yield
    except pytest.UsageError as error:
        if has_last_line(error):
            raise
        raise rejected(config, str(error).partition("\n")[0].rstrip(".")) from error
    except KeyboardInterrupt:
        why, status = "interrupted", int(pytest.ExitCode.INTERRUPTED)
    except BaseException as error:  # SystemExit too: its code may be 0
        why = f"the run crashed: {one_line(f'{type(error).__name__}: {error}')}"
        status = int(pytest.ExitCode.INTERNAL_ERROR)
    else:
        if result == config.stash.get(ENDED, None):
            return result
        status = result if isinstance(result, int) and result else status
    ignore_interrupts()
    _end(config, int(status), why)
    return int(status)


def _end(config: pytest.Config, status: int, why: str) -> None:
    controller = config.pluginmanager.get_plugin("meshgate-run")
    if isinstance(controller, Controller):
        controller.end_early(status, why or controller.ended)
        return
    settings = reports_alone(config)
    prepare(config, settings)
    sentence = f"GATE CLOSED: {why or 'the run ended early, see above'}"
    ending = Ending(config, settings, Terminal(config))
    ending.early(ruling([], {}), None, status=status, sentence=sentence)
