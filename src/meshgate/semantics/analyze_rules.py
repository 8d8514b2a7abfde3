"""Messages of `istioctl analyze` that other evidence disproves: the rows of analyze_rules.toml."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

from meshgate.semantics.analyze_configuration import Configuration
from meshgate.semantics.analyze_evidence import EVIDENCE
from meshgate.semantics.versions import Version
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.snapshot.model import Before


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of analyze_rules.toml; `evidence` is a key of EVIDENCE in analyze_evidence.py."""

    code: str
    pattern: str
    evidence: str
    reason: str


class Newer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that istioctl has `since` a minor version."""

    code: str
    since: str
    reason: str


class Unchanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code whose message follows from the version of istioctl and from a few objects."""

    code: str
    depends_on: Literal["object", "kind"]
    reason: str


class _Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]
    newer: tuple[Newer, ...]
    unchanged: tuple[Unchanged, ...]


@cache
def _rules() -> _Rules:
    text = files("meshgate.semantics").joinpath("analyze_rules.toml").read_text()
    return msgspec.convert(tomllib.loads(text), _Rules)


def rules() -> tuple[Rule, ...]:
    """Return the rules about messages that the configuration can disprove."""
    return _rules().rule


def newer_than(code: str, istioctl: str) -> str:
    """Return why an istioctl of this version cannot report a code; empty if it can."""
    version = Version.parse(istioctl)
    for each in _rules().newer:
        since = Version.parse(f"{each.since}.0")
        if each.code == code and version and since and version[:2] < since[:2]:
            return f"the baseline was analyzed by istioctl {istioctl} ({each.reason})"
    return ""


def only_newer(message: AnalysisMessage, istioctl: str, before: Before, now: dict[str, str]) -> str:
    """Return why a message is new only because istioctl is newer than the baseline's; else empty.

    Args:
        message: a message that the baseline's istioctl did not report.
        istioctl: the version of the istioctl that reports it.
        before: the baseline.
        now: the present objects, as `before.specs` has them.

    Returns:
        The reason.
    """
    version, former = Version.parse(istioctl), Version.parse(before.analyzed_by)
    if not (version and former and former < version and message.origin in before.specs):
        return ""
    since = f"istioctl {before.analyzed_by}, which analyzed the baseline, did not report it"
    kind = message.origin.partition(" ")[0]
    for each in (each for each in _rules().unchanged if each.code == message.code):
        if each.depends_on == "kind" and _of(kind, now) == _of(kind, before.specs):
            return f"{since}, and no {kind} has changed since ({each.reason})"
        if each.depends_on == "object" and now.get(message.origin) == before.specs[message.origin]:
            return f"{since}, and the object has not changed since ({each.reason})"
    return ""


def _of(kind: str, specs: dict[str, str]) -> dict[str, str]:
    return {name: spec for name, spec in specs.items() if name.startswith(f"{kind} ")}


def disproof(message: AnalysisMessage, configuration: Configuration) -> str:
    """Return the evidence that a message is wrong, and why the analyzer reports it; else empty."""
    for rule in rules():
        if rule.code == message.code and (found := re.search(rule.pattern, message.message)):
            evidence = EVIDENCE[rule.evidence](message.origin, found.groupdict(), configuration)
            if evidence:
                return f"{evidence} ({rule.reason})"
    return ""
