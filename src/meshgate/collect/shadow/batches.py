"""Many proxies' configurations in few starts of Envoy, where all of them are well.

Most of what proxies are given is the same, and a start costs as much as a configuration.  So those
that fit together are put into one bootstrap, each distinct resource once.  If Envoy takes that, it
would take each of them alone; if it refuses it, nothing is known and each is asked for alone.  That
holds because what Envoy looks at when it validates is a resource by itself, whether two have the
same name or address, and whether what is referred to is there:

- nothing of a member is left out, and nothing in it is changed but listeners' names and addresses;
- listeners of one member that share a name or an address stay together, and share them as before;
  listeners of different members share neither, so nothing collides that did not;
- a member joins only where no cluster has its name and is another, and only if it does not name
  (the bytes are searched) any cluster that others brought and it has not, and they none of its own;
- of the node Envoy wants no more than an id and a cluster, which every proxy has.

What does not fit these rules stays alone: a name that is twice in it, an address that is no IP.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import msgspec
from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2

from meshgate.collect.shadow.envoy import Assembled, bootstrap

# so that a batch takes a second or two, and one that is refused costs little
_MEMBERS, _BYTES = 32, 16 * 2**20

# listeners that share a name or an address, encoded
Unit = tuple[bytes, ...]


class _Member(msgspec.Struct, frozen=True):
    """One configuration as a batch sees it; `pieces` is all in it that may name a cluster."""

    clusters: dict[str, bytes]
    units: tuple[Unit, ...]
    pieces: frozenset[bytes]


class Batch:
    """Configurations that are validated together; `members` are their positions."""

    def __init__(self, first: Assembled) -> None:
        self.members: list[int] = []
        self._node = first.node
        self._clusters: dict[str, bytes] = {}
        self._units: dict[Unit, None] = {}
        self._pieces: set[bytes] = set()
        self._bytes = 0

    def takes(self, member: _Member) -> bool:
        """Whether a configuration may join."""
        if len(self.members) >= _MEMBERS or self._bytes >= _BYTES:
            return False
        known = self._clusters
        if any(known.get(name, body) != body for name, body in member.clusters.items()):
            return False
        strangers = known.keys() - member.clusters.keys()
        brought = member.clusters.keys() - known.keys()
        return not (_named(strangers, member.pieces) or _named(brought, self._pieces))

    def add(self, position: int, member: _Member) -> None:
        """Lets it join."""
        self.members.append(position)
        self._clusters |= member.clusters
        self._units |= dict.fromkeys(member.units)
        self._pieces |= member.pieces
        self._bytes = sum(map(len, self._pieces))

    def bootstrap(self) -> bytes:
        """All of it."""
        return bootstrap(self._node, self._clusters.values(), _apart(self._units))


def batches(configurations: Sequence[Assembled]) -> tuple[list[Batch], list[int]]:
    """Those that can be validated together, and the positions of those that cannot."""
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
    wanted = [name.encode() for name in names]
    return any(name in piece for piece in pieces for name in wanted)


def _sockets(listener: listener_pb2.Listener) -> list[address_pb2.SocketAddress]:
    """Its addresses."""
    also = (each.address for each in listener.additional_addresses)
    return [each.socket_address for each in (listener.address, *also)]


def _plain(listener: listener_pb2.Listener) -> bool:
    """Whether all its addresses are IP addresses."""
    if not listener.name:
        return False
    try:
        for each in _sockets(listener):
            ipaddress.ip_address(each.address)
    except ValueError:
        return False
    return True


def _units(bodies: Sequence[bytes], listeners: Sequence[listener_pb2.Listener]) -> Iterator[Unit]:
    """The listeners of one configuration, those together that share a name or an address."""
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
    """The listeners of all units, so that those of different ones share no name and no address."""
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
    """An address of the same family that no other has."""
    if ipaddress.ip_address(address).version == 6:
        return str(ipaddress.IPv6Address("fd00::") + number)
    return str(ipaddress.IPv4Address("10.0.0.0") + number)
