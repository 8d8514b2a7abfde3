"""Every text that leaves the process: it forges no line, and contains no credential.

What objects of the mesh and options contain is untrusted.
"""

import re
import unicodedata
from typing import Any, TypeVar

import msgspec

from meshgate.snapshot.redact import shown
from meshgate.verdict import Finding, Outcome

# control, format (bidirectional marks, zero-width characters), surrogate, line and paragraph
# separators: what moves the cursor, reorders a line, or hides in it
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_KEPT = "\n\t"
# what a CI system obeys in a log: `::error::` of GitHub, `##vso[` of Azure, `##teamcity[`.  A line
# may be wrapped before each word.
_COMMAND = re.compile(
    r"(?<!\S):(?=:[a-z][\w-]*(?:\s[^\n]*)?::)|#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE
)

T = TypeVar("T")


def visible(text: str) -> str:
    r"""Return the text for an output.

    Control characters, bidirectional marks and the start of a command for a CI system are escapes
    (`\x1b`), credentials are redacted.
    """
    text = shown(text)
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda found: _escaped(found[0]), text)
    if text.isprintable():
        return text
    return "".join(_escaped(each) if _hidden(each) else each for each in text)


def _hidden(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in _INVISIBLE


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str, limit: int | None = None) -> str:
    """Return the text on one line, cut after `limit` characters and visibly so."""
    line = visible(" ".join(text.split()))
    if limit is None or len(line) <= limit:
        return line
    return f"{line[: limit - 2].rstrip()} …"


def visible_parts(value: T) -> T:
    """Return lists, mappings and structs with every string in them made visible."""
    return _visible_parts(value)  # type: ignore[no-any-return]


def _visible_parts(value: Any) -> Any:
    match value:
        case str():
            return visible(value)
        case tuple() | list():
            return type(value)(map(_visible_parts, value))
        case dict():
            return {_visible_parts(key): _visible_parts(each) for key, each in value.items()}
        case msgspec.Struct():
            fields = {
                name: _visible_parts(getattr(value, name)) for name in value.__struct_fields__
            }
            return msgspec.structs.replace(value, **fields)
    return value


def visible_outcome(outcome: Outcome) -> Outcome:
    """Return the outcome with everything that the mesh said made visible."""
    return msgspec.structs.replace(
        outcome,
        findings=tuple(map(_visible_finding, outcome.findings)),
        warnings=tuple(map(_visible_finding, outcome.warnings)),
        why=visible(outcome.why),
        remedy=visible(outcome.remedy),
        basis=visible(outcome.basis),
    )


def _visible_finding(finding: Finding) -> Finding:
    return msgspec.structs.replace(
        finding,
        subject=visible(finding.subject),
        seen=visible(finding.seen),
        expected=visible(finding.expected),
        remedy=visible(finding.remedy),
        suppression=visible(finding.suppression),
        owner=visible(finding.owner),
        about=tuple((visible(name), visible(value)) for name, value in finding.about),
    )
