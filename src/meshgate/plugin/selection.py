"""Which checks run: custom checks are added, and --check and --skip choose among all of them."""

import inspect
from collections.abc import Collection, Generator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from meshgate.catalogue import STAGES, UnusableChecks, checks, use_custom
from meshgate.plugin.reporting import usage_error
from meshgate.plugin.worker import check_of
from meshgate.settings import Settings, SettingsError, flag


class Selection:
    """The hooks that decide which checks run, in every process.

    Args:
        config: pytest's.
        settings: the run's.

    Raises:
        SettingsError: if the custom checks cannot be used, or an id matches no check.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._folders = [Path(each).absolute() for each in settings.run.checks]
        try:
            use_custom(self._folders)
        except UnusableChecks as error:
            raise SettingsError(str(error)) from error
        self._only = _patterns(flag("run.only"), settings.run.only)
        self._skipped = _patterns(flag("run.skip"), settings.run.skip)
        self._broken: list[str] = []
        given = {Path(str(each).partition("::")[0]).absolute() for each in config.args}
        # without its directory on the command line a custom check would never be collected
        config.args.extend(str(each) for each in self._folders if each not in given)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file of checks could not be imported."""
        if report.failed:
            lines = [line for line in report.longreprtext.splitlines() if line.strip()]
            why = lines[-1].removeprefix("E").strip() if lines else "unknown error"
            self._broken.append(f"cannot collect {report.nodeid}: {why}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Give a custom check the marker of its row's stage; raise UsageError if it has none."""
        if not any(item.path.is_relative_to(folder) for folder in self._folders):
            return
        row = check_of(item)
        if row is None:
            raise usage_error(
                f'{item.nodeid} names no catalogue row: mark it with @pytest.mark.check("ID").'
            )
        if not row.folder:
            raise usage_error(f"{item.nodeid}: {row.id} is a built-in check.")
        if other := {mark.name for mark in item.iter_markers()} & (set(STAGES) - {row.stage}):
            raise usage_error(
                f"{item.nodeid} is marked {other.pop()}, and its row is in {row.stage}.toml."
            )
        item.add_marker(row.stage)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Deselect what --check and --skip exclude, after pytest's -m and -k.

        Raises UsageError for a file that could not be imported, and if nothing is left.
        """
        if self._broken:
            raise usage_error(f"{'; '.join(self._broken)}.")
        self._compare_with_rows(items)
        result = yield
        if self._only or self._skipped:
            self._select(config, items)
        return result

    def _select(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        ids = {item: row.id for item in items if (row := check_of(item))}
        kept = [item for item in items if item in ids and self._selects(ids[item])]
        if not kept:
            raise usage_error(f"{flag('run.only')} and {flag('run.skip')} select no check.")
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def _selects(self, id: str) -> bool:
        wanted = not self._only or any(fnmatchcase(id, each) for each in self._only)
        return wanted and not any(fnmatchcase(id, each) for each in self._skipped)

    def _compare_with_rows(self, items: list[pytest.Item]) -> None:
        """Raise UsageError unless each custom row has one test function."""
        functions: dict[str, str] = {}
        for item in items:
            row = check_of(item)
            if row is None or not row.folder:
                continue
            name = _function(item)
            if functions.setdefault(row.id, name) != name:
                raise usage_error(f"{row.id} has two tests: {functions[row.id]} and {name}.")
        for row in checks().values():
            if row.folder and row.id not in functions:
                raise usage_error(
                    f"{Path(row.folder, row.stage)}.toml: {row.id} has no test in a file "
                    f"verify_*.py or check_*.py of {row.folder}."
                )


def partial_selection(selected: Collection[str]) -> tuple[str, ...]:
    """Return a note for each stage of which only some checks are selected."""
    notes = []
    for stage in STAGES:
        rows = [row.id for row in checks().values() if row.stage == stage]
        left_out = [id for id in rows if id not in selected]
        if left_out and len(left_out) < len(rows):
            notes.append(
                f"partial selection: {len(rows) - len(left_out)} of {len(rows)} checks of "
                f"{stage} (not selected: {', '.join(left_out)})"
            )
    return tuple(notes)


def _function(item: pytest.Item) -> str:
    """Return where the function of a test is, equal for all its parameters."""
    function = getattr(item, "function", None)
    line = inspect.unwrap(function).__code__.co_firstlineno if function else 0
    return f"{item.path.name}:{line}"


def _patterns(flag: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the globs of an option; raise SettingsError for one that matches no check."""
    found = tuple(each.strip().upper() for text in given for each in text.split(","))
    for each in found:
        if not any(fnmatchcase(id, each) for id in checks()):
            raise SettingsError(f"{flag}: no check has an id like {each!r}; see `meshgate list`")
    return found
