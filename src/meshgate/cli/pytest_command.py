"""How the commands run pytest: with the project's own checks, from any directory."""

import os
import sys
from pathlib import Path

from meshgate import project
from meshgate.settings.sources import FILE

# Plugins of the environment may change what a run selects and prints: only these are loaded.
_PLUGINS = ("meshgate.plugin",)


def command(words: list[str]) -> list[str]:
    """Return the command that runs the checks with these options of pytest.

    The settings of `meshgate.toml` in the current directory apply, unless --settings is given.
    """
    given = any(each.partition("=")[0] == "--settings" for each in words)
    settings = [f"--settings={FILE}"] if Path(FILE).is_file() and not given else []
    # -P: a file in the current directory must not replace a module.  And the conftest.py of a
    # project that contains custom checks must not change the run.
    pytest = [sys.executable, "-P", "-m", "pytest", "--noconftest"]
    return [*pytest, "-c", str(project.CONFIGURATION), *settings, *words, str(project.CHECKS)]


def environment() -> dict[str, str]:
    """Return the environment for it: PYTEST_ADDOPTS must not deselect checks."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(_PLUGINS)}
