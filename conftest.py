"""Loads the engine; everything else is in src/meshgate/plugin.py."""

pytest_plugins = ["meshgate.plugin"]
