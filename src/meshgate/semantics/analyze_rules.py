"""Messages of `istioctl analyze` that other evidence disproves: the rows of analyze_rules.toml."""

import re
import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from meshgate.semantics.analyze_evidence import EVIDENCE, Configuration
from meshgate.semantics.versions import Version
from meshgate.snapshot.istioctl import AnalysisMessage


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


class _Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]
    newer: tuple[Newer, ...]


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


def disproof(message: AnalysisMessage, configuration: Configuration) -> str:
    """Return the evidence that a message is wrong, and why the analyzer reports it; else empty."""
    for rule in rules():
        if rule.code == message.code and (found := re.search(rule.pattern, message.message)):
            evidence = EVIDENCE[rule.evidence](message.origin, found.groupdict(), configuration)
            if evidence:
                return f"{evidence} ({rule.reason})"
    return ""
