"""Validate many proxies' configurations with few starts of Envoy.

Most of what istiod sends to proxies is equal, and a start of Envoy takes as long as validating a
configuration.  So configurations that fit together become one bootstrap with each distinct resource
once.  If Envoy accepts it, it would accept each configuration alone.  If it rejects it, nothing is
known, and each configuration is validated alone.  This is valid because Envoy checks each resource
separately, whether two resources have the same name or address, and whether references can be
resolved:

- no resource of a member is omitted, and only listeners' names and addresses change;
- listeners of one member that share a name or an address stay together and still share them;
  listeners of different members share neither, so no new conflict arises;
- a member joins only if no cluster with the same name differs, and only if neither side names (in
  the encoded bytes) a cluster that only the other side has;
- Envoy needs only an id and a cluster of the node, which every proxy has.

A configuration that does not meet these rules is validated alone, for example with a name that
occurs twice or with an address that is not an IP address.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import msgspec
from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2

from meshgate.collect.shadow.envoy import Assembled, bootstrap

# A batch of this size takes one or two seconds, and a rejected batch costs little.
_MEMBERS, _BYTES = 32, 16 * 2**20

# Encoded listeners that share a name or an address.
Unit = tuple[bytes, ...]


class _Member(msgspec.Struct, frozen=True):
    """One configuration as a member of a batch.

    Attributes:
        clusters: encoded clusters by name.
        units: its listeners.
        pieces: every encoded resource, any of which may name a cluster.
    """

    clusters: dict[str, bytes]
    units: tuple[Unit, ...]
    pieces: frozenset[bytes]


class Batch:
    """Configurations that are validated together; `members` has their positions."""

    def __init__(self, first: Assembled) -> None:
        self.members: list[int] = []
        self._node = first.node
        self._clusters: dict[str, bytes] = {}
        self._units: dict[Unit, None] = {}
        self._pieces: set[bytes] = set()
        self._bytes = 0

    def takes(self, member: _Member) -> bool:
        """Return whether a configuration may join."""
        if len(self.members) >= _MEMBERS or self._bytes >= _BYTES:
            return False
        known = self._clusters
        if any(known.get(name, body) != body for name, body in member.clusters.items()):
            return False
        others = known.keys() - member.clusters.keys()
        added = member.clusters.keys() - known.keys()
        return not (_named(others, member.pieces) or _named(added, self._pieces))

    def add(self, position: int, member: _Member) -> None:
        """Add a configuration; `position` is its position in the caller's list."""
        self.members.append(position)
        self._clusters |= member.clusters
        self._units |= dict.fromkeys(member.units)
        self._pieces |= member.pieces
        self._bytes = sum(map(len, self._pieces))

    def bootstrap(self) -> bytes:
        """Return one encoded bootstrap of all members."""
        return bootstrap(self._node, self._clusters.values(), _apart(self._units))


def batches(configurations: Sequence[Assembled]) -> tuple[list[Batch], list[int]]:
    """Return batches of two or more configurations, and the positions of the others."""
    made: list[Batch] = []
    alone: list[int] = []
    for position, configuration in enumerate(configurations):
        member = _member(configuration)
        if member is None:
            alone.append(position)
            continue
        batch = next((each for each in made if each.takes(member)), None)
        if batch is None:
            made.append(batch := Batch(configuration))
        batch.add(position, member)
    alone += [each.members[0] for each in made if len(each.members) == 1]
    return [each for each in made if len(each.members) > 1], alone


def _member(configuration: Assembled) -> _Member | None:
    clusters = dict(configuration.clusters)
    bodies = [body for _, body in configuration.listeners]
    listeners = list(map(listener_pb2.Listener.FromString, bodies))
    if len(clusters) < len(configuration.clusters) or not all(map(_plain, listeners)):
        return None
    pieces = frozenset([*clusters.values(), *bodies])
    return _Member(clusters, tuple(_units(bodies, listeners)), pieces)


def _named(names: Iterable[str], pieces: Iterable[bytes]) -> bool:
    """Return whether a name occurs in an encoded resource."""
    wanted = [name.encode() for name in names]
    return any(name in piece for piece in pieces for name in wanted)


def _sockets(listener: listener_pb2.Listener) -> list[address_pb2.SocketAddress]:
    """Return all addresses of a listener."""
    also = (each.address for each in listener.additional_addresses)
    return [each.socket_address for each in (listener.address, *also)]


def _plain(listener: listener_pb2.Listener) -> bool:
    """Return whether a listener has a name, and all its addresses are IP addresses."""
    if not listener.name:
        return False
    try:
        for each in _sockets(listener):
            ipaddress.ip_address(each.address)
    except ValueError:
        return False
    return True


def _units(bodies: Sequence[bytes], listeners: Sequence[listener_pb2.Listener]) -> Iterator[Unit]:
    """Yield the listeners of one configuration, grouped if they share a name or an address."""
    groups: list[tuple[set[str], list[bytes]]] = []
    for body, listener in zip(bodies, listeners, strict=True):
        keys, members = {listener.name}, [body]
        keys |= {f"{each.address}/{each.port_value}" for each in _sockets(listener)}
        for group in [each for each in groups if each[0] & keys]:
            groups.remove(group)
            keys |= group[0]
            members = group[1] + members
        groups.append((keys, members))
    return (tuple(members) for _, members in groups)


def _apart(units: Iterable[Unit]) -> Iterator[bytes]:
    """Yield all listeners, renamed so that different units share no name and no address."""
    numbers = count(1)
    for position, unit in enumerate(units):
        moved: dict[str, str] = {}
        for body in unit:
            listener = listener_pb2.Listener.FromString(body)
            listener.name = f"{position}/{listener.name}"
            for socket in _sockets(listener):
                if socket.address not in moved:
                    moved[socket.address] = _like(socket.address, next(numbers))
                socket.address = moved[socket.address]
            yield listener.SerializeToString()


def _like(address: str, number: int) -> str:
    """Return the address with this number, of the same family (IPv4 or IPv6)."""
    if ipaddress.ip_address(address).version == 6:
        return str(ipaddress.IPv6Address("fd00::") + number)
    return str(ipaddress.IPv4Address("10.0.0.0") + number)
