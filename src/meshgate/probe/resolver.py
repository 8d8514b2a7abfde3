"""A name's addresses, as a given resolver has them."""

import ipaddress

from dns.exception import DNSException
from dns.resolver import Resolver


def addresses(name: str, resolver: str, timeout: float) -> list[str]:
    """IPv4 before IPv6; raises OSError where it has none.  `resolver`: `ADDRESS[:PORT]`."""
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
    """Address and port; raises ValueError."""
    address, _, port = resolver.rpartition(":")
    if "." in resolver and address:
        return str(ipaddress.ip_address(address)), int(port)
    if resolver.startswith("["):
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)
    return str(ipaddress.ip_address(resolver)), 53


def literal(host: str) -> bool:
    """Whether it is an address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
