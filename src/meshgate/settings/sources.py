"""Where values come from: the command line, then meshgate.toml, then the defaults."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshgate.settings.definition import Setting, definitions
from meshgate.settings.naming import SHADOW_OPTIONS, flag
from meshgate.settings.topics import TOPICS, Settings

FILE = "meshgate.toml"
FILE_OPTION = "--settings"

# Values by topic and field: `{"access": {"context": "prod"}}`.
Values = Mapping[str, Mapping[str, Any]]


class SettingsError(ValueError):
    """Settings that cannot be used; the message says which, and why."""


def read_file(path: Path) -> dict[str, dict[str, Any]]:
    """Return the values of a settings file: a table for each topic, keys like the options.

    Raises SettingsError for a file that cannot be read, an unknown topic or key, and a value that
    the option would not accept either.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the settings {path}: {error}") from error
    found: dict[str, dict[str, Any]] = {}
    for topic, table in tables.items():
        if topic not in TOPICS or not isinstance(table, dict):
            raise SettingsError(f"{path}: [{topic}] is not one of {', '.join(TOPICS)}")
        known = {each.key: each for each in definitions(TOPICS[topic])}
        for key, value in table.items():
            if key not in known:
                raise SettingsError(f"{path}: [{topic}] has no setting {key!r}")
            found.setdefault(topic, {})[known[key].name] = _checked(path, known[key], value)
    return found


def _checked(path: Path, setting: Setting, value: Any) -> Any:
    if setting.switch:
        if not isinstance(value, bool):
            raise SettingsError(f"{path}: {setting.key} must be true or false")
        return value
    several = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not setting.repeated:
        raise SettingsError(f"{path}: {setting.key} takes one value")
    try:
        # a number is written without quotes, and is checked as the option's text
        values = tuple(setting.value(str(each)) for each in several)
    except ValueError as error:
        raise SettingsError(f"{path}: {setting.key}: {error}") from error
    return values if setting.repeated else values[0]


def resolve(given: Values, file: Values | None = None) -> Settings:
    """Return the settings of a run.

    Args:
        given: what the command line has; None stands for an option that is not given.
        file: what a settings file has.

    Returns:
        Each setting from the first source that has it, or its default.

    Raises:
        SettingsError: if settings contradict each other.
    """
    topics = {}
    for name, topic in TOPICS.items():
        chosen = dict((file or {}).get(name, {}))
        chosen |= {key: value for key, value in given.get(name, {}).items() if value is not None}
        topics[name] = topic(**chosen)
    settings = Settings(**topics)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Raise SettingsError for settings that contradict each other."""
    if settings.run.snapshot:
        for name, given, why in (
            ("access.context", settings.access.context, "names a cluster"),
            ("run.dry_run", settings.run.dry_run, "plans requests to a cluster"),
            ("run.save_baseline", settings.run.save_baseline, "saves what is read from a cluster"),
        ):
            if given:
                raise SettingsError(
                    f"{flag(name)} {why}, and {flag('run.snapshot')} replays a file without one: "
                    "use one of them"
                )
    programs = (settings.simulation.istiod, settings.simulation.envoy)
    given_programs = [*programs, settings.simulation.manifests]
    if any(given_programs) and not all(given_programs):
        raise SettingsError(f"{SHADOW_OPTIONS} must be used together")
