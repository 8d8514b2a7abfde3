"""Redaction: what may be a credential never reaches a snapshot or a report.

The first line is the model: fields that are not named there are never decoded.  At capture time
every string loses what has the form of a credential (keys, tokens, user info of URLs), free text
loses what it calls one (`password=...`), and headers, query parameters and the free-form parts of
objects lose a value if their name says so.  At output time `shown` does the same once more for
every text that leaves the process, also for what comes from options and not from the mesh.
"""

import operator
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import cache, lru_cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

REDACTED = "[redacted]"

# Sentences that others composed: what they call a credential is one.
FREE_TEXT = frozenset(
    {
        *("message", "last_error", "why", "error", "denied", "distrust", "words", "refused"),
        *("stuck", "unmade", "unused", "unreadable", "failing", "detail", "ended", "unusable"),
    }
)

# what a credential is called, alone or behind other words: client_secret, x-api-key, accessToken
_CALLED = (
    r"(?i:password|passwd|passphrase|pwd|secret|token|api[_-]?key"
    r"|(?:access|private|secret|signing|encryption)[_-]?key)"
)
_BORDER = r"(?:[._-]|[a-z0-9](?=[A-Z]))"
_NAME = re.compile(rf"(?:.*{_BORDER})?{_CALLED}")

# headers and query parameters that carry credentials besides
_HEADER = re.compile(
    r"(?i:(?:proxy-)?authorization|(?:set-)?cookie|.*(?:credentials?|session|session[_-]?id"
    r"|signature|sig|auth|jwt|key))"
)
_IN_QUERY = re.compile(r"(?<=[?&#;])([^=?&#;\s]+)=([^&#;\s\"'<>]+)")
_PARAMETERS = re.compile(r"[?#;]")

_SHAPES = (
    # PEM blocks that hold a private key, whole or cut off
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    # JSON Web Tokens, whole or cut off: ServiceAccount tokens among them
    re.compile(r"\beyJ[\w-]{5,}\.[\w-]*(?:\.[\w-]*)?"),
    re.compile(r"(?i)(?<=\bbearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?<=\bbasic )[\w+/=]{8,}"),
    # user:password@, or a token alone, in a URL
    re.compile(r"(?<=://)[^/?#\s\"'<>]+(?=@)"),
    # a password that contains what a URL cannot
    re.compile(r"(?<=://)[^/?#\s@:\"'<>]+:(?!\d+/)[^\s@\"'<>]{1,256}(?=@)"),
    # tokens of GitHub, GitLab, Slack and others, and AWS' key ids
    re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|hvs\.|sk_live_)[\w-]{8,}"),
    # the same without a scheme
    re.compile(r"(?<![\w.+-])[\w.+-]+:[^\s/@:\"'<>]+(?=@(?!sha\d+:)[\w.-])"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"),
)
# none of these in a string: none of the shapes
_HINT = re.compile(
    r"eyJ|PRIVATE KEY|(?i:bearer|basic) |://|gh[pousr]_|github_pat_|glpat-|xox|hvs\.|sk_live_"
    r"|AKIA|ASIA|:[^\s/@:]+@"
)

# A name, alone or with words before it, and the same with words before it or clear without them.
_ANY_NAME = rf"(?<![\w-])(?:[\w-]*{_BORDER})?{_CALLED}"
_CLEAR_NAME = rf"(?<![\w-])(?:[\w-]*{_BORDER}{_CALLED}|(?i:password|passwd|passphrase))"
# A quoted value, also within a quoted text (\") and also if it is cut off; or one word; or words up
# to the next delimiter, name or end of line; or the lines of a YAML block.
_QUOTE = r"\\*[\"']"
_QUOTED = (
    r"(?:\"(?:\\.|[^\"\\])*\"?|'(?:\\.|''|[^'\\])*'?"
    r"|(?P<{0}>\\+[\"'])(?:(?!(?P={0}))[^\n])*(?:(?P={0}))?)"
)
_WORD = r"[^\s,;&\"'}\\]+"
_WORDS = r"[^\n,;&\"'}\\]+?(?=(?<=\S)\s+[\w.-]+\s*[=:]|[\n,;&\"'}\\]|\Z)"
_BLOCK = r"[|>][+-]?\d*[ \t]*\n(?:[ \t]+[^\n]*(?:\n|\Z))+"
# Headers whose value has several words, or contains quotes.
_HEADERS = r"(?i:(?:proxy-)?authorization|(?:set-)?cookie)"
_OF_HEADER = (
    rf"(?:(?P<outer>[\"']){_HEADERS}\s*:\s*(?:(?!(?P=outer))[^\n])*"  # 'Cookie: a=b'
    rf"|(?<![\w-]){_HEADERS}(?:{_QUOTE}\s*:\s*{_QUOTED.format('in_header')}|\s*:(?!:)[^\n]+))"
)
# {"name": "DB_PASSWORD", "value": "..."}, in JSON or YAML
_PAIRED = (
    rf"(?<![\w-])(?:name|key){_QUOTE}?\s*[=:]\s*(?:{_QUOTE})?(?:[\w-]*{_BORDER})?{_CALLED}"
    rf"(?:{_QUOTE})?[\s,]*(?:{_QUOTE})?value(?:{_QUOTE})?\s*[=:]\s*"
    rf"(?:{_QUOTED.format('in_pair')}|{_WORD})"
)
# --client-secret VALUE
_FLAG = rf"(?<![\w-])--(?:[\w-]*{_BORDER})?{_CALLED}\s+(?:{_QUOTED.format('in_flag')}|{_WORD})"

_NAMED = re.compile(
    rf"{_OF_HEADER}|{_PAIRED}|{_FLAG}"
    rf"|{_ANY_NAME}(?:{_QUOTE})?\s*[=:]\s*(?:{_BLOCK}|{_QUOTED.format('assigned')}|{_WORDS})"
    rf"|{_CLEAR_NAME}\s+{_QUOTED.format('spaced')}"
)

# the same in a text of ours, where `NAME: words` may be an object and what is wrong with it
_ASSIGNED = re.compile(
    rf"{_OF_HEADER}|{_PAIRED}|{_FLAG}"
    rf"|{_ANY_NAME}(?:{_QUOTE}\s*:\s*|=)(?:{_QUOTED.format('assigned')}|{_WORD})"
    rf"|{_CLEAR_NAME}\s+{_QUOTED.format('spaced')}"
)
# none of these in a text: none of the above
_ASSIGNMENT = re.compile(r"[=:\"']|--")

T = TypeVar("T")


def is_credential(name: str) -> bool:
    """Return whether the value of something with this name is a credential, whatever it is."""
    return bool(_NAME.fullmatch(name))


def is_secret_header(name: str) -> bool:
    """Return whether a header or a query parameter of this name may carry a credential."""
    return is_credential(name) or bool(_HEADER.fullmatch(name))


def text(value: str) -> str:
    """Return free text with everything that looks like, or is called, a credential replaced."""
    return _NAMED.sub(REDACTED, shaped(value))


@lru_cache(maxsize=1024)  # the pods of a workload are alike
def shaped(value: str) -> str:
    """Return a string with everything that has the form of a credential replaced."""
    if _HINT.search(value):
        for pattern in _SHAPES:
            value = pattern.sub(REDACTED, value)
    return _without_secret_parameters(value) if _PARAMETERS.search(value) else value


def shown(value: str) -> str:
    """Return a text for an output, without what may be a credential."""
    value = shaped(value)
    return _ASSIGNED.sub(REDACTED, value) if _ASSIGNMENT.search(value) else value


def _without_secret_parameters(value: str) -> str:
    return _IN_QUERY.sub(
        lambda found: f"{found[1]}={REDACTED}" if is_secret_header(found[1]) else found[0], value
    )


def redacted(value: T) -> T:
    """Return the same structs without credentials; what has none is returned as it is."""
    return _walk(value)  # type: ignore[no-any-return]


def _walk(value: Any) -> Any:
    # a large mesh is not built twice: what does not change stays the same object
    if isinstance(value, msgspec.Struct):
        replace = _known_replacement if _is_hashable(type(value)) else _replacement
        replaced = replace(value)
        return value if replaced is None else replaced
    if isinstance(value, str):
        return shaped(value)
    if isinstance(value, tuple):
        items = tuple(map(_walk, value))
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, list):
        return list(map(_walk, value))
    if isinstance(value, dict):
        return _form(value)
    return value


def _replacement(struct: msgspec.Struct) -> msgspec.Struct | None:
    """Return the struct without its credentials; None if it has none."""
    changed = dict(_changed(struct))
    return msgspec.structs.replace(struct, **changed) if changed else None


# the containers, conditions and owners of a workload's pods are equal
_known_replacement = lru_cache(maxsize=4096)(_replacement)


def _entries(value: dict[Any, Any], change: Callable[[Any], Any]) -> dict[Any, Any]:
    entries = {key: change(item) for key, item in value.items()}
    return value if all(entries[key] is value[key] for key in entries) else entries


def _changed(struct: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    secret = _has_name(type(struct)) and _is_named_secret(struct)
    for name in _speaking(type(struct)):
        before = getattr(struct, name)
        if not before:
            continue
        if secret and name in ("value", "values"):
            after: Any = _emptied(before)
        elif isinstance(before, str):
            after = text(before) if name in FREE_TEXT else shaped(before)
        elif name in _BY_NAME and isinstance(before, dict):
            after = _headers(before)
        elif name in _LABELS and isinstance(before, dict):
            after = _entries(before, _walk)
        else:
            after = _walk(before)
        if after is not before and after != before:
            yield name, after


# fields that map the names of headers or query parameters to values or matches
_BY_NAME = frozenset({"headers", "query_params", "without_headers"})
# fields whose values are compared with each other, and are never credentials
_LABELS = frozenset({"labels", "match_labels", "selector", "source_labels"})


def _headers(value: dict[str, Any]) -> dict[str, Any]:
    found = {
        name: _emptied(each) if is_secret_header(name) else _walk(each)
        for name, each in value.items()
    }
    return value if found == value else found


def _emptied(value: Any) -> Any:
    """Return a value, or the strings of a match, redacted."""
    if isinstance(value, str):
        return REDACTED if value else value
    if isinstance(value, tuple | list):
        return type(value)(map(_emptied, value))
    if isinstance(value, msgspec.Struct):
        strings = {
            name: REDACTED
            for name in value.__struct_fields__
            if isinstance(getattr(value, name), str) and getattr(value, name)
        }
        return msgspec.structs.replace(value, **strings)
    return value


@cache
def _has_name(kind: type[msgspec.Struct]) -> bool:
    return not {"name", "key"}.isdisjoint(kind.__struct_fields__)


def _is_named_secret(struct: msgspec.Struct) -> bool:
    """Return whether a struct is a match or a condition on a header or parameter (`name`, `value`).

    A condition of an AuthorizationPolicy has `request.headers[NAME]` as its `key`, and `values`.
    """
    name, key = getattr(struct, "name", None), getattr(struct, "key", None)
    if isinstance(name, str) and hasattr(struct, "value"):
        return is_secret_header(name)
    if isinstance(key, str) and hasattr(struct, "values") and "[" in key:
        return is_secret_header(key.partition("[")[2].rstrip("]"))
    return False


# how free-form parts of Envoy's configuration name a header and its value
_NAMES, _VALUES = ("key", "name", "header_name", "headerName"), ("value", "values", "exact_match")


def _form(value: dict[Any, Any]) -> dict[Any, Any]:
    """Return a mapping without the values that their name, or a name beside them, calls secret."""
    named = any(
        isinstance(value.get(name), str) and is_secret_header(value[name]) for name in _NAMES
    )
    entries = {
        key: REDACTED
        if isinstance(item, str)
        and item
        and isinstance(key, str)
        and (is_credential(key) or (named and key in _VALUES))
        else _walk(item)
        for key, item in value.items()
    }
    return value if all(entries[key] is value[key] for key in entries) else entries


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


@cache
def _is_hashable(struct: type[msgspec.Struct]) -> bool:
    """Return whether each value of the type has a hash: it contains no mapping and no list."""
    fields = msgspec.structs.fields(struct)
    return struct.__struct_config__.frozen and all(_has_hash(field.type) for field in fields)


_SCALARS = (str, int, float, bool, type(None), date, datetime, ...)


def _has_hash(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _is_hashable(kind)
    if get_origin(kind) in (tuple, Union, UnionType):
        return all(map(_has_hash, get_args(kind)))
    return get_origin(kind) is Literal or kind in _SCALARS
