"""The catalogue of checks: id, stage, title, what it reads, hint and page.

The rows of the built-in checks are in checks/STAGE.toml; custom checks have the same files in a
directory of their own.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from meshgate import project
from meshgate.settings import with_flags
from meshgate.snapshot.items import expand

# in the order of an upgrade
STAGES = ("precheck", "controlplane", "ambient", "ingress", "dataplane")

# Stages that a mesh may have no object for: among others they do not close the gate then.
OPTIONAL = frozenset({"ambient"})

# a team's prefix, a dash and a number: no built-in check has a dash in its id
CUSTOM_ID = re.compile(r"[A-Z][A-Z0-9]+-\d{3}")


class UnusableChecks(ValueError):
    """Custom checks cannot be used; the message says which file is wrong, and why."""


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the catalogue.

    Attributes:
        title: a sentence that is true when the check passes.
        failure: a sentence that names the problem when it fails.
        reads: the collected items that it needs; in the file also `@group` (snapshot/items.py).
        hint: the remedy of findings that do not set one; in the file it names the option of a
            setting as `{topic.field}`.
        baseline: whether a finding that the baseline has too is only a warning.  False for
            what the upgrade is supposed to change.
        folder: the directory of a custom check; empty for a built-in one, and in the file.
    """

    id: str
    stage: str
    title: str
    failure: str = ""
    reads: tuple[str, ...]
    hint: str
    baseline: bool = True
    folder: str = ""

    @property
    def page(self) -> str:
        """Its page: relative to the project, or the path of a custom check's page."""
        return str(Path(self.folder or "docs/checks", f"{self.id}.md"))

    @property
    def text(self) -> str:
        """That page's Markdown: an installed package carries the pages with it."""
        file = project.ROOT / self.page  # a custom check's path is absolute
        if self.folder and not file.is_file():
            return f"# {self.id}: {self.title}\n"
        return file.read_text()


_custom: dict[str, Check] = {}


def checks() -> dict[str, Check]:
    """All checks by id: stage after stage, each in its file's order, custom checks last."""
    return _with_custom() if _custom else _built_in()


@cache
def _built_in() -> dict[str, Check]:
    carried = Path(str(files("meshgate").joinpath("checks")))
    return {row.id: row for stage in STAGES for row in _rows(carried / f"{stage}.toml", stage)}


@cache
def _with_custom() -> dict[str, Check]:
    rows = [*_built_in().values(), *_custom.values()]
    return {row.id: row for stage in STAGES for row in rows if row.stage == stage}


def use_custom(folders: Iterable[Path]) -> None:
    """Add the custom checks of these directories to the catalogue, in place of earlier ones.

    Each directory has the rows of its checks in STAGE.toml.  Raises UnusableChecks for a directory
    without rows, a row that is not valid, an id without a team's prefix, and an id used twice.
    """
    _custom.clear()
    _with_custom.cache_clear()
    found: dict[str, Check] = {}
    for folder in folders:
        for row in _custom_rows(folder.absolute()):
            if known := found.get(row.id):
                raise UnusableChecks(f"{folder}: {row.id} is already a check in {known.folder}")
            found[row.id] = row
    _custom.update(found)


def _custom_rows(folder: Path) -> Iterator[Check]:
    named = {f"{stage}.toml": stage for stage in STAGES}
    try:
        tables = sorted(file for file in folder.iterdir() if file.suffix == ".toml")
    except OSError as error:
        raise UnusableChecks(f"cannot read the checks in {folder}: {error.strerror}") from error
    for file in tables:
        if file.name not in named:
            raise UnusableChecks(f"{file}: name it {', '.join(named)}, by the stage of its checks")
    if not tables:
        raise UnusableChecks(f"{folder} has no catalogue rows: add {' or '.join(named)}")
    for file in tables:
        try:
            rows = list(_rows(file, named[file.name]))
        except (OSError, ValueError) as error:
            raise UnusableChecks(f"{file}: {error}") from error
        for row in rows:
            if not CUSTOM_ID.fullmatch(row.id):
                raise UnusableChecks(
                    f"{file}: {row.id} has no team prefix: use one such as PAYMENTS-001"
                )
            if not (row.reads and row.title and row.hint and row.failure):
                raise UnusableChecks(f"{file}: {row.id} needs title, failure, reads and hint")
            yield msgspec.structs.replace(row, folder=str(folder))


def _rows(file: Path, stage: str) -> Iterator[Check]:
    """Yield the rows of a file; raise ValueError for one that is not valid."""
    if not file.is_file():
        return
    for id, row in tomllib.loads(file.read_text()).items():
        if not isinstance(row, dict):
            raise ValueError(f"{id} is not a table")
        if unknown := row.keys() & {"id", "stage", "folder"}:
            raise ValueError(f"{id}: unexpected {unknown.pop()}")
        try:
            found = msgspec.convert({"id": id, "stage": stage, **row}, Check)
            yield msgspec.structs.replace(
                found, reads=expand(found.reads), hint=with_flags(found.hint)
            )
        except ValueError as error:
            raise ValueError(f"{id}: {error}") from error


def check(id: str) -> Check:
    """Return the check of this id; raise ValueError that names the ids there are."""
    try:
        return checks()[id]
    except KeyError:
        raise ValueError(f"no check {id}; there are {', '.join(checks())}") from None
