"""Mutated input for the decoders and the checks, and a corpus to mutate.

A mutation replaces, removes, duplicates or moves a part of a JSON value, at a place and with a
value that hypothesis draws.  The corpus is the demo's recording, with every object of the lab's
manifests and of the reported cases added, so that every list has objects.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import yaml
from hypothesis import HealthCheck, Phase, settings

from meshgate.snapshot.items import KINDS, SOURCES
from meshgate.snapshot.store import load

ROOT = Path(__file__).resolve().parents[2]

# Values that programs often do not expect where another one belongs.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1.5, 1e308),
    *("", " ", "x", "*", "**", "/", "//", "a/b", "a/b/c", "../..", ".", "..", "%zz", "{", "null"),
    *("0", "-1", "65536", "9" * 20, "1.2.3", "v", "1.", "banana", "0x10", "1_0", "٣", "inf", "nan"),
    *("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "not a date"),
    "9999-12-31T23:59:59.999999999-14:00",
    *("\u202e\x1b[2J", "\x00", "é" * 300, "a" * 5000),
    *("[::", "[::1]:80", "http://", "http://[", "http://[x]:y/", "://", "tcp://a:b", "10.0.0.0/8"),
    *("(", "(?P<", "[a-z", "(a+)+$", "::", "300.1.1.1", "1e5", "100m", "10%", "-5%", "101%", "1Gi"),
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    *([], {}, [None], [[]], [{}], {"": None}, {"a": {"b": [1, {"c": None}]}}),
)


def examples(usual: int) -> settings:
    """Return the settings of a fuzz test: a fixed set of examples.

    MESHGATE_FUZZ=N runs N times as many, other ones each time.

    Args:
        usual: how many examples `make test` runs.
    """
    factor = int(os.environ.get("MESHGATE_FUZZ", "0"))
    return settings(
        max_examples=usual * max(factor, 1),
        deadline=None,
        derandomize=not factor,
        database=None,
        suppress_health_check=list(HealthCheck),  # a loaded machine is slow
        phases=(Phase.explicit, Phase.generate),  # to shrink a recording takes minutes
    )


def mutated(value: Any, random: Random) -> Any:
    """Return a copy of a JSON value with one to six mutations."""
    copy = _copy(value)
    places = list(_places(copy))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        parent, key = random.choice(places) if places else (None, None)
        if isinstance(parent, dict) and key in parent:
            _mutate(parent, key, list(parent), random)
        elif isinstance(parent, list) and isinstance(key, int) and key < len(parent):
            _mutate(parent, key, list(range(len(parent))), random)
    return copy


def mutated_bytes(body: bytes, random: Random) -> bytes:
    """Return bytes that are cut off, or have some bytes replaced, inserted or repeated."""
    data = bytearray(body)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 2:
                data[at:at] = random.choice(
                    (b"\x00", b"[" * 200, b"{", b'"', b"\xff", b"\r\n", b"9")
                )
            case _:
                data[at:at] = data[at : at + random.randrange(1, 64)]
    return bytes(data)


def _mutate(parent: Any, key: Any, keys: list[Any], random: Random) -> None:
    kind = random.randrange(10)
    if kind < 2:
        del parent[key]
    elif kind == 2:
        parent[key] = _copy(parent[random.choice(keys)])
    elif kind == 3 and isinstance(parent, list):
        parent.append(_copy(parent[key]))
    elif kind == 4 and isinstance(parent[key], str):
        text = parent[key]
        start, end = (random.randrange(len(text) + 1) for _ in range(2))
        parent[key] = (
            text[:start] + random.choice(("", "*", "/", ":", ".", "\x00", "-")) + text[end:]
        )
    elif kind == 5 and isinstance(parent, dict):
        parent[random.choice(("", "x", "*", "\u202e"))] = _copy(parent[key])
    else:
        parent[key] = _copy(random.choice(ODD))


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        entries: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    else:
        return
    for key, each in entries:
        yield value, key
        yield from _places(each)


def camel(item: str) -> str:
    """Return the name of an item in the file of a snapshot."""
    first, *others = item.split("_")
    return first + "".join(each.title() for each in others)


@cache
def corpus() -> dict[str, Any]:
    """Return a snapshot as JSON whose lists hold the objects of the lab's manifests too."""
    snapshot: dict[str, Any] = json.loads(msgspec.json.encode(load(ROOT / "demo/healthy.json.gz")))
    snapshot["read"] = sorted({*KINDS, *SOURCES})
    for item, kind in KINDS.items():
        seen = {_name(each) for each in snapshot.setdefault(camel(item), [])}
        for each in _manifests():
            group, _, _ = str(each.get("apiVersion", "")).rpartition("/")
            plural = f"{each.get('kind', '')}".lower()
            named = {plural + "s", plural[:-1] + "ies", plural + "es"}
            if group == kind.group and kind.resource in named and _name(each) not in seen:
                snapshot[camel(item)].append(each)
                seen.add(_name(each))
    return snapshot


def _name(value: dict[str, Any]) -> tuple[str, str]:
    metadata = value.get("metadata", {})
    return metadata.get("namespace", ""), metadata.get("name", "")


@cache
def _manifests() -> tuple[dict[str, Any], ...]:
    files = [
        *(ROOT / "ci/lab/manifests").rglob("*.yaml"),
        *(ROOT / "tests/lab/cases").glob("*.yaml"),
    ]
    found = [
        each for file in sorted(files) for each in yaml.safe_load_all(file.read_text()) if each
    ]
    return tuple(each for each in _copy_all(found) if isinstance(each, dict))


def _copy_all(found: list[Any]) -> list[Any]:
    copies: list[Any] = json.loads(json.dumps(found, default=str))
    return copies
