"""Declared pairs (`--pairs`): read from a YAML file, and matched with pods."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from meshgate.semantics.hosts import fully_qualified
from meshgate.semantics.selectors import fronts
from meshgate.semantics.workloads import Port, hashed, ports, target
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair
from meshgate.snapshot.kubernetes import Pod, Service
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


class Targets(NamedTuple):
    """The pods that get a declared request, or why there is none."""

    ports: tuple[Port, ...]
    missing: str = ""


def targets(
    pair: DeclaredPair, pods: Iterable[Pod], services: Iterable[Service], sample: int
) -> Targets:
    """Return the ports that a declared request is sent to: those of running pods with a sidecar.

    Args:
        pair: the declared pair.
        pods: the pods of the mesh.
        services: all Services.
        sample: the maximum number of pods; 0 for all.

    Returns:
        The ports, the same ones every time; with a reason if there is none.
    """
    namespace, _, name = pair.service.partition("/")
    service = next(
        (e for e in services if (e.metadata.namespace, e.metadata.name) == (namespace, name)), None
    )
    if service is None:
        return Targets((), f"Service {pair.service} does not exist")
    exposed = [each for each in service.spec.ports if each.port == pair.port]
    if not exposed:
        numbers = ", ".join(str(each.port) for each in service.spec.ports)
        return Targets((), f"Service {pair.service} has no port {pair.port} (it has {numbers})")
    behind = [pod for pod in pods if fronts(service, pod)]
    found = [
        each
        for each in ports(behind, [service])
        if not each.bypass and target(exposed[0], each.pod) == each.number
    ]
    if not found:
        return Targets(
            (), f"Service {pair.service} has no running pod whose sidecar captures the port"
        )
    chosen = sorted(found, key=lambda each: hashed(each.key))[: sample or None]
    return Targets(tuple(sorted(chosen, key=lambda each: each.key)))
