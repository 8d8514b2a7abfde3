"""Istio's mesh config: which fields istiod cannot parse, and whether it uses them.

istiod parses the whole mesh config or nothing of it: with one field of the wrong type it keeps
what it has, and starts with its defaults (pkg/config/mesh/meshwatcher in Istio 1.31).
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

# As Go's time.ParseDuration, with which istiod parses durations.
_DURATION = re.compile(r"[-+]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}

_WORDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}

# The enum's name in `enum VALUES`.
_ENUM = "enum"


@cache
def schema() -> dict[str, dict[str, str]]:
    """Return the types of the fields by message (mesh_config.toml)."""
    text = files("meshgate.semantics").joinpath("mesh_config.toml").read_text()
    return {message: dict(fields) for message, fields in tomllib.loads(text).items()}


def unparsable(config: Any) -> list[str]:
    """Return the fields of a mesh config that istiod cannot parse, each with the reason.

    `config` is the decoded YAML.  Unknown fields are not examined: istiod ignores them.
    """
    if config is None:
        return []
    return [f"{path}: {why}" for path, why in _faults("MeshConfig", config, "")]


def _faults(kind: str, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and reason of each value that does not have the type `kind`."""
    modifier, _, inner = kind.partition(" ")
    if value is None:
        return
    if modifier == "list":
        if not isinstance(value, list):
            yield path, f"is {_words(value)}, not a list"
            return
        for index, each in enumerate(value):
            yield from _faults(inner, each, f"{path}[{index}]")
    elif modifier == "map" or kind in schema():
        if not isinstance(value, dict):
            yield path or "the mesh config", f"is {_words(value)}, not an object"
            return
        for name, each in value.items():
            known = inner if modifier == "map" else _field(kind, str(name))
            if known:
                yield from _faults(known, each, f"{path}.{name}".lstrip("."))
    elif not _fits(kind, value):
        yield path, f"is {_words(value)}, not {_expected(kind)}"


def _field(message: str, name: str) -> str:
    """Return a field's type; protobuf accepts both spellings of its name."""
    fields = schema()[message]
    first, *others = name.split("_")
    camel = first + "".join(each[:1].upper() + each[1:] for each in others)
    return fields.get(name) or fields.get(camel, "")


def _fits(kind: str, value: Any) -> bool:
    match kind.partition(" ")[0]:
        case "duration":
            return isinstance(value, str) and bool(_DURATION.fullmatch(value))
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return _is_number(value, r"-?\d+") and float(value).is_integer()
        case "number":
            return _is_number(value, r"-?\d+(\.\d+)?([eE][-+]?\d+)?|NaN|-?Infinity")
        case "enum":
            is_number = isinstance(value, int) and not isinstance(value, bool)
            return is_number or value in kind.split()[1:]
    return True


def _is_number(value: Any, pattern: str) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(pattern, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: Any) -> str:
    return _WORDS.get(type(value), "a number")


def _expected(kind: str) -> str:
    name, _, values = kind.partition(" ")
    if name == _ENUM:
        return f"one of {', '.join(values.split())}"
    return {"int": "an integer", "bool": "a boolean", "duration": 'a duration such as "10s"'}.get(
        name, f"a {name}"
    )


# --- what istiod uses ---------------------------------------------------------------------------


def different(config: Any, effective: Any) -> list[str]:
    """Return the fields of a mesh config to which istiod has another value, as dotted paths.

    Args:
        config: the decoded YAML of the ConfigMap.
        effective: the decoded answer of istiod's /debug/mesh, which leaves out zero values.

    Returns:
        Fields of known scalar types, lists of strings, and named elements of lists; istiod's
        defaults for what the ConfigMap does not mention are not compared.
    """
    if not isinstance(config, dict) or not isinstance(effective, dict):
        return []
    return sorted(_differences("MeshConfig", config, effective, ""))


def _differences(kind: str, wanted: Any, used: Any, path: str) -> Iterator[str]:
    if wanted is None:
        return
    if kind in schema():
        if not isinstance(wanted, dict):
            return  # not parsable
        present = used if isinstance(used, dict) else {}
        for name, each in wanted.items():
            known = _field(kind, str(name))
            if known:
                camel = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), str(name))
                yield from _differences(known, each, present.get(camel), f"{path}.{camel}")
    elif kind.startswith("list ") and "name" in schema().get(kind[5:], {}):
        yield from _lacking(wanted, used, path.lstrip("."))
    elif kind == "list string":
        # istiod adds other trust domain aliases
        if isinstance(wanted, list) and not set(map(str, wanted)) <= set(map(str, used or [])):
            yield path.lstrip(".")
    elif kind.partition(" ")[0] in ("duration", "string", "bool", "int", "number", "enum") and (
        _normal(kind, wanted) != _normal(kind, used)
    ):
        yield path.lstrip(".")


def _lacking(wanted: Any, used: Any, path: str) -> Iterator[str]:
    """Yield the elements of a list that istiod lacks, by their name."""
    present = {each.get("name") for each in used or () if isinstance(each, dict)}
    for each in wanted if isinstance(wanted, list) else ():
        if isinstance(each, dict) and each.get("name") not in present:
            yield f"{path}[{each.get('name')}]"


def _normal(kind: str, value: Any) -> Any:
    """Return a value such that equal values are equal; a missing one is the zero value."""
    name, *values = kind.split()
    if name == "duration":
        return round(seconds(str(value or "0")), 9)
    if name in ("int", "number"):
        try:
            return float(value or 0)
        except (TypeError, ValueError):
            return value
    if name == "enum":
        number = value or 0
        return values[number] if isinstance(number, int) and number < len(values) else number
    return value or ("" if name == "string" else False)


def seconds(duration: str) -> float:
    """Return the seconds of a duration that istiod can parse."""
    sign = -1 if duration.startswith("-") else 1
    return sign * sum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(duration))
