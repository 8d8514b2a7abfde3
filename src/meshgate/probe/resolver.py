"""Addresses of a name, and a connection to one of them within a total time."""

import ipaddress
import socket
from collections.abc import Sequence

from dns.exception import DNSException
from dns.resolver import Resolver

from meshgate.deadline import Deadline, bounded


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Return a connection to a host; raise OSError, also if it takes longer than `seconds`.

    The system's resolver has no time limit: it is called in a thread that is abandoned.  All
    addresses of the host share the time.

    Args:
        host: a name or an address.
        port: its port.
        seconds: for name resolution and connection together.

    Returns:
        The connected socket.
    """
    deadline = Deadline(seconds)
    if literal(host):
        return connect_first([host], port, deadline)
    try:
        found = bounded(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), seconds, f"DNS {host}"
        )
    except TimeoutError as error:
        raise TimeoutError(f"cannot resolve {host} within {seconds:g} s") from error
    return connect_first([str(address[0]) for *_, address in found], port, deadline)


def connect_first(hosts: Sequence[str], port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to the first address that accepts one; raise OSError if none does.

    Args:
        hosts: addresses, tried in this order.
        port: the port of all of them.
        deadline: until when.

    Returns:
        The connected socket.
    """
    last: OSError = OSError("the name has no address")
    for number, host in enumerate(hosts):
        if not deadline.left:
            raise TimeoutError("timed out") from last
        try:
            # one address that does not answer must leave time for the others
            return socket.create_connection((host, port), deadline.left / (len(hosts) - number))
        except OSError as error:
            last = error
    raise last


def addresses(name: str, resolver: str, timeout: float) -> list[str]:
    """Return IPv4 before IPv6 addresses; raise OSError if there are none.

    Args:
        name: a host name.
        resolver: `ADDRESS[:PORT]`.
        timeout: seconds for each of the two queries.

    Returns:
        At least one address.
    """
    asked = Resolver(configure=False)
    address, port = parse_resolver(resolver)
    asked.nameservers, asked.port, asked.lifetime = [address], port, timeout
    found: list[str] = []
    try:
        for kind in ("A", "AAAA"):
            found += [str(each) for each in asked.resolve(name, kind, raise_on_no_answer=False)]
    except DNSException as error:
        raise OSError(f"{resolver} does not resolve {name}: {error}") from error
    if not found:
        raise OSError(f"{resolver} has no address for {name}")
    return found


def parse_resolver(resolver: str) -> tuple[str, int]:
    """Return address and port; raise ValueError if it is neither."""
    address, _, port = resolver.rpartition(":")
    if "." in resolver and address:
        return str(ipaddress.ip_address(address)), int(port)
    if resolver.startswith("["):
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)
    return str(ipaddress.ip_address(resolver)), 53


def literal(host: str) -> bool:
    """Return whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
