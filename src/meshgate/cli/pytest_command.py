"""How the commands run pytest: with the project's own checks, from any directory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from meshgate import project
from meshgate.collect.temporary import temporary_folder
from meshgate.settings import flag
from meshgate.settings.sources import FILE, FILE_OPTION

if TYPE_CHECKING:
    from meshgate.report.json import Report

# Plugins of the environment may change what a run selects and prints: only these are loaded.
_PLUGINS = ("meshgate.plugin",)


def command(words: list[str]) -> list[str]:
    """Return the command that runs the checks with these options of pytest.

    The settings of `meshgate.toml` in the current directory apply, unless --settings is given.
    """
    given = any(each.partition("=")[0] == FILE_OPTION for each in words)
    settings = [f"{FILE_OPTION}={FILE}"] if Path(FILE).is_file() and not given else []
    # -P: a file in the current directory must not replace a module.  And the conftest.py of a
    # project that contains custom checks must not change the run.
    pytest = [sys.executable, "-P", "-m", "pytest", "--noconftest"]
    return [*pytest, "-c", str(project.CONFIGURATION), *settings, *words, str(project.CHECKS)]


def environment() -> dict[str, str]:
    """Return the environment for it: PYTEST_ADDOPTS must not deselect checks."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(_PLUGINS)}


class NoVerdict(Exception):
    """The run ended without one; the message is what it printed, `code` its exit code."""

    def __init__(self, output: str, code: int) -> None:
        super().__init__(output)
        self.code = code


def judge(snapshot: Path, *words: str) -> "Report":
    """Run the checks on a snapshot; raise NoVerdict if the run ends early.

    `words` are more options of pytest.
    """
    from meshgate.report.json import read

    with temporary_folder() as folder:
        options = (
            flag("run.snapshot", snapshot.absolute()),
            flag("reports.json", folder / "verdict.json"),
            f"--junitxml={folder}/junit.xml",
            flag("reports.html", folder / "index.html"),
        )
        done = subprocess.run(
            command([*options, *words]),
            env=environment(),
            check=False,
            capture_output=True,
            text=True,
        )
        file = folder / "verdict.json"
        if not file.exists():
            raise NoVerdict(done.stdout + done.stderr, done.returncode)
        return read(file)
