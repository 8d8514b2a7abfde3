"""Loads the engine; everything else is in src/meshgate/plugin/."""

pytest_plugins = ["meshgate.plugin"]
