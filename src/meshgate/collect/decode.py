"""From the JSON of a list to structs, object by object: one odd object is named, the rest is kept.

Kubernetes takes `null` for a field that is absent, and stores free-form parts that are nested to
any depth.  Both are removed before an object counts as undecodable.
"""

import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, Generic, TypeVar, get_args

import msgspec

from meshgate.snapshot.base import Base
from meshgate.snapshot.model import Undecodable

T = TypeVar("T")

# No field that is read is deeper; msgspec itself ends at about 1,000.
DEEPEST = 100

# one decoder after the other, see snapshot/model.py
_DECODERS = threading.Lock()
# a string, or a bracket outside of strings
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]')


class _ListMeta(Base, frozen=True):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, Generic[T], frozen=True):
    items: tuple[T, ...] = ()
    metadata: _ListMeta = _ListMeta()


class _RawPage(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...] = ()
    metadata: _ListMeta = _ListMeta()


class Page(msgspec.Struct, frozen=True):
    """One page of a list; `position` is its `continue` token, empty on the last page."""

    objects: tuple[Any, ...]
    undecodable: tuple[Undecodable, ...]
    position: str


def page(body: bytes, kind: Any, name: str) -> Page:
    """Decode one page of a list of `name` (`pods`) into structs of the type `kind`.

    Raises ValueError for what is not a list at all.

    Args:
        body: the response, JSON.
        kind: the type of each object.
        name: the resource, such as `pods`, for messages.

    Returns:
        The objects, those that cannot be decoded, and the position of the next page.
    """
    with _DECODERS:
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Page[kind])
    try:
        found = decoder.decode(body)
    except (ValueError, RecursionError):
        return _one_by_one(body, kind, name)
    return Page(found.items, (), found.metadata.continue_)


def _one_by_one(body: bytes, kind: Any, name: str) -> Page:
    shallow, cut = _without_depth(body)
    found = msgspec.json.decode(shallow, type=_RawPage)
    objects, undecodable = [], []
    for raw in found.items:
        value = msgspec.json.decode(raw)
        if not isinstance(value, dict):
            raise ValueError(f"an object of the list is a {type(value).__name__}")
        if cut and _is_free_form(kind) and _holds_mark(value):
            undecodable.append(_named(name, value, "", f"nested deeper than {DEEPEST} levels"))
            continue
        try:
            clean = msgspec.json.encode(_without_nulls(value))
            objects.append(msgspec.json.decode(clean, type=kind))
        except msgspec.ValidationError as error:
            why, _, where = str(error).partition(" - at ")
            undecodable.append(_named(name, value, _field(where), why))
    return Page(tuple(objects), tuple(undecodable), found.metadata.continue_)


def _field(where: str) -> str:
    """Return the path of a field: `spec.ports[0]` of "`key` in `$.spec.ports[0]`"."""
    return where.rpartition("`$")[2].strip("`.")


def _named(kind: str, value: dict[str, Any], field: str, why: str) -> Undecodable:
    metadata = value.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    namespace, name = names.get("namespace"), names.get("name")
    return Undecodable(
        kind=kind,
        name="/".join(str(each) for each in (namespace, name or "(no name)") if each),
        field=field,
        why=why,
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value


_MARK = "meshgate: too deep"
_PART = b'"' + _MARK.encode() + b'"'


def _without_depth(body: bytes) -> tuple[bytes, bool]:
    """Return the JSON with each part below DEEPEST levels replaced, and whether there was one."""
    parts = list(_shallow(body))
    return b"".join(parts), _PART in parts


def _shallow(body: bytes) -> Iterator[bytes]:
    depth, start = 0, 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth == DEEPEST + 1:
                yield body[start : token.start()]
                yield _PART
        elif token[0] in (b"}", b"]"):
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    if depth <= DEEPEST:
        yield body[start:]


def _holds_mark(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_mark, value.values()))
    if isinstance(value, list):
        return any(map(_holds_mark, value))
    return bool(value == _MARK)


@cache
def _is_free_form(kind: Any) -> bool:
    """Whether a value of the type may hold parts of any form."""
    if kind is Any:
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any(_is_free_form(field.type) for field in msgspec.structs.fields(kind))
    return any(map(_is_free_form, get_args(kind)))
