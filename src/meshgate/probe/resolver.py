"""Addresses of a name, from a given resolver."""

import ipaddress

from dns.exception import DNSException
from dns.resolver import Resolver


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
