"""Declared pairs (`--pairs`): read from a YAML file, and written to one."""

import re
from collections.abc import Iterable

import msgspec

from meshgate.semantics.hosts import fully_qualified
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair
from meshgate.snapshot.redact import text

_ACCOUNT = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+")
_TARGET = re.compile(r"([a-z0-9-]+/[a-z0-9-]+):(\d+) ([A-Z]+) (/\S*)")


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    from_: str = msgspec.field(name="from")
    to: str
    expect: int | str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    pairs: tuple[_Row, ...]


def read_pairs(yaml: str) -> tuple[DeclaredPair, ...]:
    """Return the pairs of a YAML file; raise ValueError if one is invalid, and say which."""
    found: dict[str, DeclaredPair] = {}
    for number, row in enumerate(msgspec.yaml.decode(yaml, type=_File).pairs, 1):
        try:
            pair = _pair(row)
        except ValueError as error:
            raise ValueError(
                f"pair {number} (from {row.from_} to {text(row.to)}): {error}"
            ) from error
        if pair.key in found:
            raise ValueError(f"pair {number} (from {pair.key}): it is declared twice")
        found[pair.key] = pair
    return tuple(found.values())


def _pair(row: _Row) -> DeclaredPair:
    if not _ACCOUNT.fullmatch(row.from_):
        raise ValueError("`from` must be a ServiceAccount, NAMESPACE/NAME")
    matched = _TARGET.fullmatch(row.to)
    if matched is None or not 0 < int(matched[2]) <= 65535:
        raise ValueError("`to` must be NAMESPACE/SERVICE:PORT METHOD /PATH")
    if text(matched[4]) != matched[4]:
        raise ValueError("the path contains what looks like a credential")
    expect = str(row.expect)
    status = expect.isdigit() and 100 <= int(expect) <= 599
    if not status and expect not in (ALLOWED, DENIED):
        raise ValueError("`expect` must be `denied`, `allowed` or a status between 100 and 599")
    return DeclaredPair(
        caller=row.from_,
        service=matched[1],
        port=int(matched[2]),
        method=matched[3],
        path=matched[4],
        expect=expect,
    )


def write_pairs(pairs: Iterable[DeclaredPair]) -> str:
    """Return the pairs as YAML, as `read_pairs` reads them."""
    rows = [
        f"  - {{ from: {each.caller}, to: {_quoted(each.target)}, expect: {each.expect} }}"
        for each in pairs
    ]
    return "\n".join(["pairs:" if rows else "pairs: []", *rows]) + "\n"


def _quoted(words: str) -> str:
    return msgspec.json.encode(words).decode()


def full_name(pair: DeclaredPair, domain: str) -> str:
    """Return the full name of a pair's Service, in a cluster with this domain."""
    namespace, _, name = pair.service.partition("/")
    return fully_qualified(name, namespace, domain)
