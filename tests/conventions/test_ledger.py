"""The release ledger: every id of a manifest has a class, and the classes name what exists."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from meshgate.catalogue import checks
from meshgate.semantics.releases import ledger, rules

ROOT = Path(__file__).parents[2]
MINORS = sorted(ledger())
# Changes without a release note of their own: istio.io, charts, and second halves of a change.
WITHOUT_NOTE = {
    *("metric-rotation-of-proxies", "profile-1-24", "experimental-listener-sets"),
    *("image-signing-key", "backend-tls-fails-closed", "tcp-listeners"),
}
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
    for section in manifest(minor).values():
        for name, (_, text) in section.items():
            kind, _, detail = text.partition(":")
            assert kind in KINDS, f"{name} is not classified: {text!r}"
            assert detail, name
            assert kind != "rule" or detail in rules(), name
            assert kind != "check" or detail in checks(), name


@pytest.mark.parametrize("minor", MINORS)
def test_a_manifest_lists_notes_variables_profiles_and_crds(minor: str) -> None:
    assert all(manifest(minor)[section] for section in ("note", "variable", "profile", "crd"))


@pytest.mark.parametrize("minor", MINORS)
def test_every_rule_is_named_by_a_manifest_or_has_no_note(minor: str) -> None:
    named = {
        text.removeprefix("rule:")
        for each in MINORS
        for section in manifest(each).values()
        for _, text in section.values()
    }

    assert ledger()[minor].rule.keys() - named <= WITHOUT_NOTE


@pytest.mark.parametrize("minor", MINORS)
def test_a_variable_that_a_remedy_names_is_an_opt_out_or_a_parameter(minor: str) -> None:
    for name, rule in ledger()[minor].rule.items():
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", rule.do))
        assert named <= {*rule.unless, *rule.names}, name


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
