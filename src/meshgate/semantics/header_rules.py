"""Where a piece of Envoy's configuration adds Retry-After to an answer, or honors it.

The same code reads an EnvoyFilter's patch, which may use `headers_to_add`, and the configuration
that istiod generates from it, which uses `headersToAdd`.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from meshgate.snapshot.retry_after import HeaderRule

HEADER = "retry-after"
_LONGEST = 60

_VALUE = r"""(?:"([^"]*)"|'([^']*)'|(\d+)(?=\s*[),;}])|)"""
_ADDS = re.compile(
    rf"""(?ix) (?: : (?:add|replace) \( \s* ["']{HEADER}["'] \s* ,
               | \[ \s* ["']{HEADER}["'] \s* \] \s* = ) \s* {_VALUE}"""
)

# What a script's conditions may hold that compare nothing but the status of the answer.
_CONDITION = re.compile(r"\b(?:else)?if\b(.*?)\bthen\b", re.DOTALL)
_STATUS = re.compile(rf"""(?i)\w+(?::headers\(\))?:get\(\s*["'](?::status|{HEADER})["']\s*\)""")
_STATUS_VARIABLE = re.compile(rf"(?i)(\w+)\s*=\s*(?:tonumber\(\s*)?{_STATUS.pattern[4:]}")
_WORDS = frozenset({"or", "and", "not", "tonumber", "tostring", "nil"})
_NAME = re.compile(r"[A-Za-z_]\w*")
_CODE = re.compile(r"""==\s*["']?(\d{3})\b""")


def header_rules(config: Any, side: str = "") -> tuple[HeaderRule, ...]:
    """Return every place of a decoded configuration that is about Retry-After, once, sorted.

    Args:
        config: decoded JSON or YAML of any shape.
        side: INBOUND or OUTBOUND, where the caller knows it.
    """
    return tuple(sorted(set(_walk(config, side, "header")), key=_order))


def _order(place: HeaderRule) -> tuple[str, ...]:
    return place.kind, place.value, place.code, place.side


def _walk(node: Any, side: str, kind: str) -> Iterator[HeaderRule]:
    if isinstance(node, list):
        for each in node:
            yield from _walk(each, side, kind)
    elif isinstance(node, dict):
        side = str(node.get("trafficDirection") or node.get("traffic_direction") or side)
        if "ratelimit" in str(node.get("@type", "") or node.get("type_url", "")).lower():
            kind = "rate limit"
        for name, value in node.items():
            plain = name.replace("_", "").lower()
            if plain == "header" and isinstance(value, dict):
                yield from _header(value, side, kind)
            elif plain in ("inlinestring", "inlinecode") and isinstance(value, str):
                yield from _script(value, side)
            elif plain == "ratelimitedretrybackoff":
                yield from _back_off(value, side)
            elif not plain.startswith("request"):
                yield from _walk(
                    value, side, "local reply" if plain == "localreplyconfig" else kind
                )


def _header(header: dict[str, Any], side: str, kind: str) -> Iterator[HeaderRule]:
    if str(header.get("key", "")).lower() == HEADER:
        yield HeaderRule(kind=kind, value=_fixed(str(header.get("value", ""))), side=side)


def _fixed(value: str) -> str:
    # Envoy replaces what is between percent signs when it answers
    return "" if "%" in value else value[:_LONGEST]


def _script(source: str, side: str) -> Iterator[HeaderRule]:
    code = hashlib.sha256(source.encode()).hexdigest()[:16]
    statuses = _statuses(source)
    for found in _ADDS.finditer(source):
        value = next((each for each in found.groups() if each is not None), "")
        yield HeaderRule(
            kind="lua", value=value[:_LONGEST], code=code, side=side, statuses=statuses
        )


def _statuses(source: str) -> tuple[int, ...]:
    """Return the statuses to which a script reacts, if its conditions compare nothing else."""
    conditions = _CONDITION.findall(source)
    known = set(_STATUS_VARIABLE.findall(source)) | _WORDS
    for condition in conditions:
        plain = _STATUS.sub("", condition)
        if {*_NAME.findall(re.sub(r"""(["']).*?\1""", "", plain))} - known:
            return ()
    found = {int(each) for condition in conditions for each in _CODE.findall(condition)}
    return tuple(sorted(found))


def _back_off(config: Any, side: str) -> Iterator[HeaderRule]:
    headers = config.get("reset_headers") or config.get("resetHeaders") or []
    if any(str(each.get("name", "")).lower() == HEADER for each in headers):
        yield HeaderRule(kind="back-off", side=side)
