"""The second line of redaction: free text from the mesh (errors, messages) loses what looks secret.

The first line is the model: fields that are not named there are never decoded.
"""

import operator
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec

REDACTED = "[redacted]"

# Names and labels are the mesh's own vocabulary; only these hold words that somebody else composed.
FREE_TEXT = frozenset({"message", "last_error", "why", "error", "denied", "distrust", "words"})

# what a credential is called, alone or behind other words: client_secret, x-api-key, accessToken
_CALLED = r"(?i:password|passwd|secret|token|api[_-]?key|access[_-]?key)"
_BORDER = r"(?:[._-]|[a-z0-9](?=[A-Z]))"
_NAME = re.compile(rf"(?:.*{_BORDER})?{_CALLED}")

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
        rf"(?<![\w-])(?:[\w-]*{_BORDER})?{_CALLED}"
        r"[\"']?\s*[=:]\s*(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"'}]+)"
    ),
)

T = TypeVar("T")


def is_credential(name: str) -> bool:
    """Whether what is called so is a credential, whatever it looks like."""
    return bool(_NAME.fullmatch(name))


def text(value: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern in _SECRETS:
        value = pattern.sub(REDACTED, value)
    return value


def redacted(value: T) -> T:
    """The same structs with every free-text field in them passed through `text`."""
    return _walk(value)  # type: ignore[no-any-return]


def _walk(value: Any) -> Any:
    # what has nothing to hide is returned as it is: a large mesh is not built twice
    if isinstance(value, tuple):
        items = tuple(map(_walk, value))
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, dict):
        entries = {key: _walk(item) for key, item in value.items()}
        return value if all(entries[key] is value[key] for key in entries) else entries
    if isinstance(value, msgspec.Struct):
        changed = dict(_changed(value))
        return msgspec.structs.replace(value, **changed) if changed else value
    return value


def _changed(struct: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for name in _speaking(type(struct)):
        before = getattr(struct, name)
        if before:
            after = text(before) if isinstance(before, str) else _walk(before)
            if after is not before:
                yield name, after


@cache
def _speaking(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a struct that are free text, or in whose value there can be some."""
    return tuple(
        field.name
        for field in msgspec.structs.fields(struct)
        if field.name in FREE_TEXT or _holds_structs(field.type)
    )


def _holds_structs(kind: Any) -> bool:
    """Whether a value of that type can have a struct in it that has something to say."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return bool(_speaking(kind))
    return kind is Any or any(map(_holds_structs, get_args(kind)))
