"""The second line of redaction: free text from the mesh (errors, messages) loses what looks secret.

The first line is the model: fields that are not named there are never decoded.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

REDACTED = "[redacted]"

# Names and labels are the mesh's own vocabulary; only these hold words that somebody else composed.
FREE_TEXT = frozenset({"message", "last_error", "why", "error", "denied", "distrust"})

_SECRETS = (
    # PEM blocks that hold a private key, whole or cut off
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    # JSON Web Tokens, whole or cut off: ServiceAccount tokens among them
    re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?"),
    re.compile(r"(?i)(?<=\bbearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?<=\bbasic )[\w+/=]{8,}"),
    # user:password@ in an address
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(
        r"(?i)(?<![\w-])(?:[\w-]*[_-])?(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)"
        r"[\"']?\s*[=:]\s*(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"'}]+)"
    ),
)

T = TypeVar("T")


def text(value: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern in _SECRETS:
        value = pattern.sub(REDACTED, value)
    return value


def redacted(value: T) -> T:
    """The same structs with every free-text field in them passed through `text`."""
    return _walk(value)  # type: ignore[no-any-return]


def _walk(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_walk(item) for item in value)
    if isinstance(value, dict):
        return {key: _walk(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **dict(_changed(value)))
    return value


def _changed(struct: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for name in struct.__struct_fields__:
        before = getattr(struct, name)
        if isinstance(before, str):
            if name in FREE_TEXT:
                yield name, text(before)
        elif before:
            yield name, _walk(before)
