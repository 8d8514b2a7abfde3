"""The catalogue of checks: id, stage, claim, what it reads, hint and page (checks/STAGE.toml)."""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from meshgate.snapshot.items import expand

STAGES = ("precheck", "controlplane", "ingress", "dataplane")


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the catalogue.

    Attributes:
        title: a sentence that is true when the check passes.
        failure: a sentence that names the problem when it fails.
        reads: the collected items that it needs; in the file also `@group` (snapshot/items.py).
        hint: the remedy of findings that do not set one.
        baseline: whether a finding that the baseline has too is only a warning.  False for
            what the upgrade is supposed to change.
    """

    id: str
    stage: str
    title: str
    failure: str = ""
    reads: tuple[str, ...]
    hint: str
    baseline: bool = True

    @property
    def page(self) -> str:
        """Its page, relative to the project."""
        return f"docs/checks/{self.id}.md"

    @property
    def text(self) -> str:
        """That page's Markdown: an installed package carries the pages with it."""
        carried = files("meshgate").joinpath("pages", f"{self.id}.md")
        if carried.is_file():
            return carried.read_text()
        return Path(__file__).parents[2].joinpath(self.page).read_text()


@cache
def checks() -> dict[str, Check]:
    """All checks by id: stage after stage, each in its file's order."""
    return {id: row for stage in STAGES for id, row in _rows(stage)}


def _rows(stage: str) -> Iterator[tuple[str, Check]]:
    file = files("meshgate").joinpath("checks", f"{stage}.toml")
    if file.is_file():
        for id, row in tomllib.loads(file.read_text()).items():
            found = msgspec.convert({"id": id, "stage": stage, **row}, Check)
            yield id, msgspec.structs.replace(found, reads=expand(found.reads))


def check(id: str) -> Check:
    """Return the check of this id; raise ValueError that names the ids there are."""
    try:
        return checks()[id]
    except KeyError:
        raise ValueError(f"no check {id}; there are {', '.join(checks())}") from None
