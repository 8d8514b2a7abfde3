"""Values of a type in which every string is the same text."""

from datetime import UTC, date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec


def filled(kind: Any, text: str) -> Any:
    """Return a value of a type: every string in it, except for keys of maps, is `text`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return kind(**{each.name: filled(each.type, text) for each in fields})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin in (tuple, list):
        return origin([filled(arguments[0], text)])
    if origin is dict:
        key = 1 if arguments[0] is int else "key-of-a-map"
        return {key: filled(arguments[1], text)}
    if origin in (Union, UnionType):
        return filled(next(each for each in arguments if each is not NoneType), text)
    if kind is Any:
        return {"inner": [{"words": text, "password": text, "key": "cookie", "value": text}]}
    plain: dict[Any, Any] = {str: text, int: 1, bool: True, bytes: b"x", float: 1.0}
    plain |= {datetime: datetime(2026, 1, 2, tzinfo=UTC), date: date(2026, 1, 2)}
    return plain[kind]
