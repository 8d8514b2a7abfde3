"""Compare the configurations that two istiods send to a proxy, by resource and by name."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshgate.snapshot.shadow import Change

# The type of a resource and its path in an entry, by field of istiod's config_dump.
KINDS = {
    "dynamicActiveClusters": ("cluster", "cluster"),
    "staticClusters": ("cluster", "cluster"),
    "dynamicListeners": ("listener", "activeState/listener"),
    "staticListeners": ("listener", "listener"),
    "dynamicRouteConfigs": ("route", "routeConfig"),
    "staticRouteConfigs": ("route", "routeConfig"),
    "ecdsFilters": ("extension", "ecdsFilter"),
}

# Resources by type and name.
Resources = Mapping[tuple[str, str], Any]


def resources(dump: Any) -> dict[tuple[str, str], Any]:
    """Return the resources of istiod's config_dump by type and name, without secrets.

    Args:
        dump: the decoded JSON of `/debug/config_dump`.
    """
    found: dict[tuple[str, str], Any] = {}
    for config in dump.get("configs", ()):
        for field, (kind, path) in KINDS.items():
            for entry in config.get(field) or ():
                body = entry
                for step in path.split("/"):
                    body = (body or {}).get(step)
                if body:
                    found[kind, str(body.get("name", ""))] = body
    return found


def changes(before: Resources, after: Resources, sources: Mapping[str, str]) -> tuple[Change, ...]:
    """Return all differences, sorted by resource.

    Args:
        before: what the running istiod sends.
        after: what the target's istiod sends.
        sources: the object (`Kind namespace/name`) that defines a filter, route or header, by the
            name of the latter.

    Returns:
        The differences.
    """
    found = [
        Change(
            kind=kind,
            type=key[0],
            resource=key[1],
            path=path,
            before=_shown(old),
            after=_shown(new),
            brought_by=_source(path or key[1], old, sources),
        )
        for key in sorted({*before, *after})
        for kind, path, old, new in _compared(before.get(key), after.get(key), "")
    ]
    return tuple(found)


def _compared(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield (kind, path, before, after) of each difference between two JSON values.

    Args:
        old: the value before; None if there was none.
        new: the value after; None if there is none.
        path: the path of both.
    """
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _compared(old.get(name), new.get(name), f"{path}/{name}")
    elif isinstance(old, list) and isinstance(new, list):
        yield from _listed(old, new, path)
    elif new is None:
        yield "removed", path, old, None
    else:
        yield ("added" if old is None else "changed"), path, old, new


def _listed(old: list[Any], new: list[Any], path: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield the differences of two lists, whose entries are matched by name.

    Args:
        old: the list before.
        new: the list after.
        path: the path of both.
    """
    then, now = _named(old), _named(new)
    for name in [*then, *(name for name in now if name not in then)]:
        yield from _compared(then.get(name), now.get(name), f"{path}[{name.translate(_PLAIN)}]")
    first, second = [name for name in then if name in now], [name for name in now if name in then]
    if first != second:
        moved = [name for name, other in zip(first, second, strict=True) if name != other]
        yield "reordered", path, moved, moved


# Brackets and slashes separate the parts of a path, so names must not contain them.
_PLAIN = str.maketrans("[]/", "()|")


def _named(entries: list[Any]) -> dict[str, Any]:
    """Return the entries by name, so that an inserted entry does not shift the others."""
    named: dict[str, Any] = {}
    for position, entry in enumerate(entries):
        name = _name(entry) if isinstance(entry, dict) else str(entry)
        if not name or name in named:
            name = f"{name}#{position}" if name else str(position)
        named[name] = entry
    return named


def _name(entry: dict[str, Any]) -> str:
    """Return the `name`, header or filter chain match of an entry; empty if it has none."""
    if "name" in entry:
        return str(entry["name"])
    if header := entry.get("header"):
        return str(header.get("key", "")) if isinstance(header, dict) else ""
    if match := entry.get("filterChainMatch"):
        return json.dumps(match, sort_keys=True)
    return ""


def _source(path: str, old: Any, sources: Mapping[str, str]) -> str:
    """Return the object that defines what is at a path; empty if unknown.

    Args:
        path: the path of the change, or the name of the resource.
        old: the value before.
        sources: objects by the names that they define.
    """
    names = re.findall(r"[^/\[\]]+", path)
    if isinstance(old, dict):
        names.append(_name(old))
    elif isinstance(old, list):
        names += [_name(each) if isinstance(each, dict) else str(each) for each in old]
    return next((sources[name] for name in reversed(names) if name in sources), "")


def _shown(value: Any) -> str:
    """Return a value as text if it cannot be a secret, else its size.

    Numbers, booleans, durations and constants cannot be secrets.
    """
    if value is None:
        return "-"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Z][A-Z0-9_]{0,40}|[0-9.]+s", value)
        return value if plain else f"(text of {len(value)})"
    return f"({len(value)} fields)" if isinstance(value, dict) else f"({len(value)} entries)"
