"""Exec credential plugins of a kubeconfig, with an end: the client library waits for ever."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from kubernetes.config import exec_provider
from kubernetes.config.config_exception import ConfigException

from meshgate.collect.shadow.processes import guarded

SECONDS = 60.0
failures: list[str] = []


class _Bounded(subprocess.Popen[str]):
    def __init__(self, args: list[str], **options: Any) -> None:
        self._name = args[0]
        self._own_session = not sys.stdin.isatty()  # a login in the terminal keeps it
        path = (options.get("env") or os.environ).get("PATH")
        # a run that is killed leaves no plugin behind; a missing program is the library's error
        if program := shutil.which(args[0], path=path):
            args = guarded([program, *args[1:]])
        super().__init__(args, start_new_session=self._own_session, **options)

    def communicate(
        self, input: str | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        try:
            return super().communicate(input, timeout or SECONDS)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL) if self._own_session else self.kill()
            self.wait(5)
            for pipe in (self.stdout, self.stderr):
                if pipe:
                    pipe.close()
            words = f"the credential plugin {self._name} did not end within {SECONDS:g} s"
            failures.append(words)  # the library only logs it, and goes on without credentials
            raise ConfigException(words) from error


def bound() -> None:
    """Make the client library end plugins that take longer than SECONDS."""
    exec_provider.subprocess = SimpleNamespace(Popen=_Bounded, PIPE=subprocess.PIPE)
