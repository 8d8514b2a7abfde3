"""The release ledger: every id of a manifest has a class, and the classes name what exists."""

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from meshgate.catalogue import checks
from meshgate.semantics.releases import ledger, rules

ROOT = Path(__file__).parents[2]
MINORS = sorted(ledger())
# Ids that nobody has classified yet.  The number may only go down.
OPEN = {"1.28": 0, "1.29": 33, "1.30": 79, "1.31": 26}
KINDS = {"rule", "check", "undetectable", "irrelevant"}

Rows = dict[str, tuple[str, str]]


def manifest(minor: str) -> dict[str, Rows]:
    return tomllib.loads((ROOT / f"ci/ledger/{minor}.toml").read_text())


def pages() -> ModuleType:
    """The program that writes the pages."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "ci/ledger/pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("minor", MINORS)
def test_every_id_has_a_class_that_names_what_exists(minor: str) -> None:
    unclassified = 0
    for section in manifest(minor).values():
        for name, (_, text) in section.items():
            kind, _, detail = text.partition(":")
            unclassified += text == "open"
            assert text == "open" or kind in KINDS, name
            assert text == "open" or detail, name
            assert kind != "rule" or detail in rules(), name
            assert kind != "check" or detail in checks(), name

    assert unclassified <= OPEN[minor]


@pytest.mark.parametrize("minor", MINORS)
def test_the_watched_crds_are_those_of_the_release(minor: str) -> None:
    watched = {name: version for name, (version, _) in manifest(minor)["crd"].items()}
    known = {name: crd.version for name, crd in ledger()[minor].crd.items()}

    assert {name: known.get(name) for name in watched} == watched


def test_every_variable_of_a_profile_is_an_opt_out_of_its_rule() -> None:
    for name, (_, text) in manifest(MINORS[-1])["profile"].items():
        version, _, variable = name.partition("/")
        if text.startswith("rule:") and not variable.startswith("cni."):
            rule = rules()[text.removeprefix("rule:")]
            assert variable in rule.unless, name
            newest = int(rule.profile.partition(".")[2])
            # Istio 1.31 still renders this variable, which it no longer reads
            if variable != "PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY":
                assert int(version.partition(".")[2]) <= newest, name


@pytest.mark.parametrize("minor", MINORS)
def test_the_pages_are_up_to_date(minor: str) -> None:
    written = (ROOT / f"docs/releases/{minor}.md").read_text()

    assert written == pages().page(minor, ledger()[minor]), "run `make ledger`"
