"""The settings as options of pytest."""

import argparse
import os
import shlex
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from meshgate.settings import (
    TOPICS,
    Access,
    Criteria,
    Reports,
    Setting,
    Settings,
    SettingsError,
    definitions,
    read_file,
    resolve,
    with_flags,
)
from meshgate.settings.sources import FILE, FILE_OPTION

_HTML = "--html"  # pytest-html's
# the setting of pytest.ini that makes every run below it a gate
INI = "meshgate"
_SETTINGS = "meshgate_settings"
# pytest's options that show something and run no check, by their names in config.option
_SHOWING = {
    "help": "--help",
    "markers": "--markers",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "setupplan": "--setup-plan",
    "setuponly": "--setup-only",
    "cacheshow": "--cache-show",
    "collectonly": "--collect-only",
}


def add_options(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add an option for each setting, in a group for each topic, and hidden former names.

    The values are parsed by `load`: an error of argparse would end the run before any report.
    """
    taken = _HTML if _has_pytest_html(pluginmanager) else ""
    for name, topic in TOPICS.items():
        title = (topic.__doc__ or "").partition("\n")[0].rstrip(".")
        group = parser.getgroup(f"meshgate-{name}", f"meshgate: {title}")
        for each in definitions(topic):
            if each.flag == taken:
                continue
            attributes = _attributes(name, each)
            _add(group, each.flag, help=with_flags(each.text).replace("%", "%%"), **attributes)
            for alias in each.aliases:
                _add(group, alias, help=argparse.SUPPRESS, **attributes)
    _add(
        parser.getgroup("meshgate-run"),
        FILE_OPTION,
        dest=_SETTINGS,
        default=None,
        metavar="FILE",
        help=f"file with settings ({FILE} beside pytest.ini)",
    )
    parser.addini(INI, "whether runs with this file verify a mesh: a gate", type="bool")
    _report_errors(parser, pluginmanager)


def _report_errors(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Let an option that pytest cannot parse end a gate with its reports and its last line."""
    fail = parser.optparser.error

    def error(message: str) -> NoReturn:
        config = pluginmanager.get_plugin("pytestconfig")
        if config is None or not selects_checks(config):
            fail(message)
        if showing(config) and not in_job(config):
            fail(message)
        # only here: a run that is not a gate loads nothing else
        from meshgate.plugin.ending import rejected

        raise rejected(config, _without_values(message))

    parser.optparser.error = error  # type: ignore[method-assign]


def _without_values(message: str) -> str:
    """Return an error of argparse without the values of unknown options, which may be secrets."""
    start, unknown, words = message.partition("unrecognized arguments: ")
    options = [each.partition("=")[0] for each in words.split() if each.startswith("-")]
    return f"{start}{unknown}{' '.join(options)}"


def _add(group: Any, flag: str, **attributes: Any) -> None:
    """Add an option, unless another plugin has one of this name: that one keeps its meaning."""
    with suppress(ValueError, argparse.ArgumentError):
        group.addoption(flag, **attributes)


def selects_checks(config: pytest.Config) -> bool:
    """Return whether this run is meshgate's: pytest.ini says so, or one of its options is given."""
    return bool(config.getini(INI) or _words(config) or _option(config, _SETTINGS))


def showing(config: pytest.Config) -> str:
    """Return pytest's option that shows something and runs no check, or an empty text."""
    if (_option(config, "version") or 0) > 1:
        return "--version"  # once is answered before any plugin, or has no effect
    return next((flag for name, flag in _SHOWING.items() if _option(config, name)), "")


def in_job(config: pytest.Config) -> bool:
    """Return whether this run is a gate's Job, also where its settings cannot be used."""
    return bool(reports_alone(config).reports.job)


def _has_pytest_html(pluginmanager: pytest.PytestPluginManager) -> bool:
    """Return whether pytest-html, where it is installed, has the option --html already."""
    if pluginmanager.hasplugin("html"):
        return True
    installed = find_spec("pytest_html") is not None  # its plugin may be loaded after this one
    loads = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    return installed and loads and not pluginmanager.is_blocked("html")


def _attributes(topic: str, setting: Setting) -> dict[str, Any]:
    shared: dict[str, Any] = {"dest": _dest(topic, setting), "default": None}
    if setting.switch:
        return {**shared, "action": "store_true"}
    shared["metavar"] = setting.metavar or "|".join(setting.choices)
    return {**shared, "action": "append"} if setting.repeated else shared


def _dest(topic: str, setting: Setting) -> str:
    return f"meshgate_{topic}_{setting.name}"


def load(config: pytest.Config) -> Settings:
    """Return the settings of this run; raise SettingsError for settings that cannot be used."""
    given = _given(config)
    if page := _page(config):
        given.setdefault("reports", {}).setdefault("html", page)
    settings = resolve(given, _file(config))
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    if settings.reports.job and words[::2] != ["-p"] * len(words[::2]):
        raise SettingsError(
            f"PYTEST_ADDOPTS={' '.join(words)} may deselect checks, which a gate's Job does not "
            "allow: unset it"
        )
    return settings


def reports_alone(config: pytest.Config) -> Settings:
    """Return the settings of reports, cluster and target, where others cannot be used."""
    page, file = _page(config), {}
    with suppress(SettingsError):
        file = _file(config)
    # pytest parses no option after --help
    config.option.xmlpath = _last(config, "--junitxml") or _option(config, "xmlpath")
    html = {"html": page} if page else {}
    criteria = {**file.get("criteria", {}), **_usable(config, "criteria")}
    return Settings(
        reports=Reports(**{**file.get("reports", {}), **html, **_usable(config, "reports")}),
        access=Access(**{**file.get("access", {}), **_usable(config, "access")}),
        criteria=Criteria(target_version=criteria.get("target_version")),
    )


def _usable(config: pytest.Config, topic: str) -> dict[str, Any]:
    """Return the values of a topic's options on the command line, as far as they can be used."""
    found: dict[str, Any] = {}
    for each in definitions(TOPICS[topic]):
        value = _option(config, _dest(topic, each))
        if value is None and not each.switch and not each.repeated:
            value = _last(config, each.flag)
        with suppress(SettingsError):
            if value is not None:
                found[each.name] = _value(each, value)
    return found


def _last(config: pytest.Config, flag: str) -> str | None:
    """Return the last value of an option on a command line that could not be parsed."""
    words = [str(each) for each in config.invocation_params.args]
    found = [
        after if word == flag else word.removeprefix(f"{flag}=")
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word == flag or word.startswith(f"{flag}=")
    ]
    return found[-1] if found else None


def _page(config: pytest.Config) -> str | None:
    """Return the value of --html where the option is pytest-html's."""
    page: str | None = getattr(config.option, "htmlpath", None)
    return page


def _option(config: pytest.Config, dest: str) -> Any:
    """Return what the command line has; None if it has none, or no such option was added."""
    return config.getoption(dest, None)


def _words(config: pytest.Config) -> dict[tuple[str, Setting], Any]:
    """Return the options on the command line, with their text."""
    return {
        (name, each): value
        for name, topic in TOPICS.items()
        for each in definitions(topic)
        if (value := _option(config, _dest(name, each))) is not None
    }


def _given(config: pytest.Config) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {}
    for (name, each), value in _words(config).items():
        given.setdefault(name, {})[each.name] = _value(each, value)
    return given


def _value(setting: Setting, given: Any) -> Any:
    """Return the value of an option; raise SettingsError for one that is not allowed."""
    if setting.switch:
        return given
    try:
        return tuple(map(setting.value, given)) if setting.repeated else setting.value(given)
    except ValueError as error:
        raise SettingsError(f"{setting.flag}: {error}") from error


def settings_file(config: pytest.Config) -> Path:
    """Return the settings file, which need not exist unless an option names it."""
    if named := _option(config, _SETTINGS):
        return Path(named)
    return (config.inipath or config.rootpath / "pytest.ini").parent / FILE


def _file(config: pytest.Config) -> dict[str, dict[str, Any]]:
    file = settings_file(config)
    return read_file(file) if _option(config, _SETTINGS) or file.is_file() else {}
