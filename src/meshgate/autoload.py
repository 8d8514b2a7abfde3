"""The entry point for pytest: provides the options in every environment, after all other plugins.

A run of pytest that selects none of meshgate's checks must not notice it.  The options are added
last, so that an option of another plugin or of a conftest.py keeps its meaning.  This module is
outside meshgate.plugin, because pytest warns about a plugin that is imported before it is named.
"""

from collections.abc import Generator
from typing import Any

from pluggy import HookimplMarker


@HookimplMarker("pytest")(wrapper=True)
def pytest_load_initial_conftests(
    early_config: Any, parser: Any, args: list[str]
) -> Generator[None, object, object]:
    """Load the plugin once all conftest files have added their options.

    meshgate's own conftest.py has loaded it by then; it is not loaded twice.
    """
    try:
        result = yield
    except BaseException as error:  # SystemExit too
        early_config.pluginmanager.import_plugin("meshgate.plugin")
        plugin = early_config.pluginmanager.get_plugin("meshgate.plugin")
        if plugin is not None:
            plugin.end_without_conftest(early_config, parser, args, error)
        raise
    early_config.pluginmanager.import_plugin("meshgate.plugin")
    return result
