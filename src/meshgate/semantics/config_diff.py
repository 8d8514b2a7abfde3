"""How what a proxy is given differs between two istiods: by resource, by name, by meaning."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshgate.snapshot.shadow import Change

# a resource's type as people say it, by where istiod's config_dump has it
KINDS = {
    "dynamicActiveClusters": ("cluster", "cluster"),
    "staticClusters": ("cluster", "cluster"),
    "dynamicListeners": ("listener", "activeState/listener"),
    "staticListeners": ("listener", "listener"),
    "dynamicRouteConfigs": ("route", "routeConfig"),
    "staticRouteConfigs": ("route", "routeConfig"),
    "ecdsFilters": ("extension", "ecdsFilter"),
}

Resources = Mapping[tuple[str, str], Any]


def resources(dump: Any) -> dict[tuple[str, str], Any]:
    """The resources of istiod's config_dump, by type and name.  Secrets are left out."""
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


def changes(before: Resources, after: Resources, brought: Mapping[str, str]) -> tuple[Change, ...]:
    """All differences; `brought` says which object names a filter, route or header of its own."""
    found = [
        Change(
            kind=kind,
            type=key[0],
            resource=key[1],
            path=path,
            before=_shown(old),
            after=_shown(new),
            brought_by=_bringer(path or key[1], old, brought),
        )
        for key in sorted({*before, *after})
        for kind, path, old, new in _compared(before.get(key), after.get(key), "")
    ]
    return tuple(found)


def _compared(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, Any, Any]]:
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
    then, now = _named(old), _named(new)
    for name in [*then, *(name for name in now if name not in then)]:
        yield from _compared(then.get(name), now.get(name), f"{path}[{name.translate(_PLAIN)}]")
    first, second = [name for name in then if name in now], [name for name in now if name in then]
    if first != second:
        moved = [name for name, other in zip(first, second, strict=True) if name != other]
        yield "reordered", path, moved, moved


# in a path brackets and slashes are its own
_PLAIN = str.maketrans("[]/", "()|")


def _named(entries: list[Any]) -> dict[str, Any]:
    """The entries by what they are called, so that one more does not shift all the others."""
    named: dict[str, Any] = {}
    for position, entry in enumerate(entries):
        name = _name(entry) if isinstance(entry, dict) else str(entry)
        if not name or name in named:
            name = f"{name}#{position}" if name else str(position)
        named[name] = entry
    return named


def _name(entry: dict[str, Any]) -> str:
    if "name" in entry:
        return str(entry["name"])
    if header := entry.get("header"):
        return str(header.get("key", "")) if isinstance(header, dict) else ""
    if match := entry.get("filterChainMatch"):
        return json.dumps(match, sort_keys=True)
    return ""


def _bringer(path: str, old: Any, brought: Mapping[str, str]) -> str:
    names = re.findall(r"[^/\[\]]+", path)
    if isinstance(old, dict):
        names.append(_name(old))
    elif isinstance(old, list):
        names += [_name(each) if isinstance(each, dict) else str(each) for each in old]
    return next((brought[name] for name in reversed(names) if name in brought), "")


def _shown(value: Any) -> str:
    """A value that can be no secret: a number, a switch, a duration, a constant; else its size."""
    if value is None:
        return "-"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Z][A-Z0-9_]{0,40}|[0-9.]+s", value)
        return value if plain else f"(text of {len(value)})"
    return f"({len(value)} fields)" if isinstance(value, dict) else f"({len(value)} entries)"
