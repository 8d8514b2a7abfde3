"""The catalogue of checks: id, stage, claim, what it reads, hint and page (catalogue.toml)."""

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

STAGES = ("precheck", "controlplane", "ingress", "dataplane")


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row; `claim` is an affirmative sentence, `reads` names items of collect/plan.py.

    `baseline`: whether what was wrong before the upgrade already only warns.
    """

    id: str
    stage: str
    claim: str
    reads: tuple[str, ...]
    hint: str
    baseline: bool = True

    @property
    def page(self) -> str:
        """Its page, relative to the project."""
        return f"docs/checks/{self.id}.md"


@cache
def checks() -> dict[str, Check]:
    """All checks by id, in the catalogue's order."""
    rows = tomllib.loads(files("meshgate").joinpath("catalogue.toml").read_text())
    return {name: msgspec.convert({"id": name, **row}, Check) for name, row in rows.items()}


def check(id: str) -> Check:
    """The check of this id; raises ValueError that names the ids there are."""
    try:
        return checks()[id]
    except KeyError:
        raise ValueError(f"no check {id}; there are {', '.join(checks())}") from None
