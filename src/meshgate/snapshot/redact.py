"""The second line of redaction: what may be a credential never reaches a snapshot or a report.

The first line is the model: fields that are not named there are never decoded.  Then every string
loses what has the form of a credential (keys, tokens, user info of URLs), free text loses what it
calls one (`password=...`), and headers and query parameters lose their value if their name says so.
"""

import operator
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec

REDACTED = "[redacted]"

# Sentences that others composed: what they call a credential is one.
FREE_TEXT = frozenset({"message", "last_error", "why", "error", "denied", "distrust", "words"})

# what a credential is called, alone or behind other words: client_secret, x-api-key, accessToken
_CALLED = r"(?i:password|passwd|secret|token|api[_-]?key|(?:access|private)[_-]?key)"
_BORDER = r"(?:[._-]|[a-z0-9](?=[A-Z]))"
_NAME = re.compile(rf"(?:.*{_BORDER})?{_CALLED}")

# headers and query parameters that carry credentials besides
_HEADER = re.compile(
    r"(?i:(?:proxy-)?authorization|(?:set-)?cookie|.*(?:credentials?|session|session[_-]?id"
    r"|signature|sig|auth|jwt|key))"
)
_IN_QUERY = re.compile(r"(?<=[?&])([^=&#]+)=([^&#]+)")

_SHAPES = (
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
)
# none of these in a string: none of the shapes
_HINT = re.compile(r"eyJ|PRIVATE KEY|(?i:bearer|basic) |://")

_SECRETS = (
    *_SHAPES,
    re.compile(
        rf"(?<![\w-])(?:[\w-]*{_BORDER})?{_CALLED}"
        r"[\"']?\s*[=:]\s*(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"'}]+)"
    ),
)

T = TypeVar("T")


def is_credential(name: str) -> bool:
    """Return whether the value of something with this name is a credential, whatever it is."""
    return bool(_NAME.fullmatch(name))


def is_secret_header(name: str) -> bool:
    """Return whether a header or a query parameter of this name may carry a credential."""
    return is_credential(name) or bool(_HEADER.fullmatch(name))


def text(value: str) -> str:
    """Return free text with everything that looks like, or is called, a credential replaced."""
    for pattern in _SECRETS:
        value = pattern.sub(REDACTED, value)
    return value


def shaped(value: str) -> str:
    """Return a string with everything that has the form of a credential replaced."""
    if _HINT.search(value):
        for pattern in _SHAPES:
            value = pattern.sub(REDACTED, value)
    return value


def target(path: str) -> str:
    """Return the path of a request without the values of query parameters that may be secret."""
    if "?" not in path:
        return shaped(path)
    return _IN_QUERY.sub(
        lambda found: f"{found[1]}={REDACTED}" if is_secret_header(found[1]) else found[0],
        shaped(path),
    )


def redacted(value: T) -> T:
    """Return the same structs without credentials; what has none is returned as it is."""
    return _walk(value)  # type: ignore[no-any-return]


def _walk(value: Any) -> Any:
    # a large mesh is not built twice: what does not change stays the same object
    if isinstance(value, str):
        return shaped(value)
    if isinstance(value, tuple):
        items = tuple(map(_walk, value))
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, list):
        return list(map(_walk, value))
    if isinstance(value, dict):
        return _entries(value, _walk)
    if isinstance(value, msgspec.Struct):
        changed = dict(_changed(value))
        return msgspec.structs.replace(value, **changed) if changed else value
    return value


def _entries(value: dict[Any, Any], change: Callable[[Any], Any]) -> dict[Any, Any]:
    entries = {key: change(item) for key, item in value.items()}
    return value if all(entries[key] is value[key] for key in entries) else entries


def _changed(struct: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    secret = _is_named_secret(struct)
    for name in _speaking(type(struct)):
        before = getattr(struct, name)
        if not before:
            continue
        if name in FREE_TEXT and isinstance(before, str):
            after: Any = text(before)
        elif name == "path" and isinstance(before, str):
            after = target(before)
        elif secret and name == "value":
            after = REDACTED
        elif name in _BY_NAME and isinstance(before, dict):
            after = _headers(before)
        else:
            after = _walk(before)
        if after is not before and after != before:
            yield name, after


# fields that map the names of headers or query parameters to values or matches
_BY_NAME = frozenset({"headers", "query_params"})


def _headers(value: dict[str, Any]) -> dict[str, Any]:
    found = {
        name: _emptied(each) if is_secret_header(name) else _walk(each)
        for name, each in value.items()
    }
    return value if found == value else found


def _emptied(value: Any) -> Any:
    """Return a value, or the strings of a match, redacted."""
    if isinstance(value, str):
        return REDACTED
    if isinstance(value, msgspec.Struct):
        strings = {
            name: REDACTED
            for name in value.__struct_fields__
            if isinstance(getattr(value, name), str) and getattr(value, name)
        }
        return msgspec.structs.replace(value, **strings)
    return value


def _is_named_secret(struct: msgspec.Struct) -> bool:
    """Return whether a struct is a header or query match (`name`, `value`) of a credential."""
    name = getattr(struct, "name", None)
    return isinstance(name, str) and hasattr(struct, "value") and is_secret_header(name)


@cache
def _speaking(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields of a struct that can have a string in their value."""
    return tuple(
        field.name for field in msgspec.structs.fields(struct) if _holds_strings(field.type)
    )


def _holds_strings(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return bool(_speaking(kind))
    return kind in (Any, str) or any(map(_holds_strings, get_args(kind)))
