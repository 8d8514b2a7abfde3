"""Recognize configurations that Envoy validates alike, across clusters.

Clusters with the same objects differ in the IP addresses of their pods and Services.  Envoy's
validation of a static configuration depends on whether two addresses are equal, not on which ones
they are.  So the fingerprint numbers the addresses in the order in which they occur: in endpoints,
in the names and addresses of listeners, in filter chain matches of one address, and in the domains
of virtual hosts.  Everything else counts byte by byte, except for the proxy's node, of which Envoy
needs only that it exists.  Loopback, multicast and other special addresses are not numbered.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http_pb2,
)

from meshgate.collect.shadow.envoy import Assembled
from meshgate.probe.ads import HTTP

# A text without addresses, as a digest, and the addresses in their order.
Template = tuple[bytes, tuple[str, ...]]

# An address, and a port that may follow it: in a domain after `:`, in a listener's name after `_`.
_ADDRESSES = (
    re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?:[:_]\d+)?"),
    re.compile(r"\[([0-9a-fA-F:.]+)\](?:[:_]\d+)?"),
    re.compile(r"([0-9a-fA-F:.]+)(?:_\d+)?"),
)


class Fingerprints:
    """Computes fingerprints; a resource that several configurations share is read once."""

    def __init__(self) -> None:
        self._templates: dict[tuple[bool, bytes], Template] = {}

    def of(self, configuration: Assembled) -> str:
        """Return the fingerprint of a configuration."""
        digest = hashlib.sha256()
        numbers: dict[str, int] = {}
        for listener, bodies in ((False, configuration.clusters), (True, configuration.listeners)):
            for _, body in bodies:
                template, addresses = self._template(listener, body)
                digest.update(template)
                order = [numbers.setdefault(each, len(numbers)) for each in addresses]
                digest.update(repr(order).encode())
            digest.update(b"|")
        return digest.hexdigest()

    def _template(self, listener: bool, body: bytes) -> Template:
        key = listener, body
        if key not in self._templates:
            self._templates[key] = _listener(body) if listener else _cluster(body)
        return self._templates[key]


class _Numbers:
    """The addresses of one resource, each with a number."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._found)

    def replaced(self, text: str) -> str:
        """Return the text with the number of the address that it is; unchanged if it is none."""
        for pattern in _ADDRESSES:
            match = pattern.fullmatch(text)
            if match and (address := _ordinary(match[1])):
                number = self._found.setdefault(address, len(self._found))
                family = address.partition(" ")[0]
                return f"{text[: match.start(1)]}<{family}-{number}>{text[match.end(1) :]}"
        return text


def _ordinary(text: str) -> str:
    """Return the address with its family; empty unless it is an ordinary unicast address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    special = (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
    )
    return "" if special else f"{address.version} {address}"


def _cluster(body: bytes) -> Template:
    cluster = cluster_pb2.Cluster.FromString(body)
    numbers = _Numbers()
    for locality in cluster.load_assignment.endpoints:
        for each in locality.lb_endpoints:
            _number(numbers, [each.endpoint.address])
    return _template(cluster, numbers)


def _listener(body: bytes) -> Template:
    listener = listener_pb2.Listener.FromString(body)
    numbers = _Numbers()
    listener.name = numbers.replaced(listener.name)
    _number(numbers, [listener.address, *(each.address for each in listener.additional_addresses)])
    for chain in (*listener.filter_chains, listener.default_filter_chain):
        for prefix in chain.filter_chain_match.prefix_ranges:
            whole = 128 if ":" in prefix.address_prefix else 32
            if prefix.prefix_len.value == whole:
                prefix.address_prefix = numbers.replaced(prefix.address_prefix)
        for each in chain.filters:
            if each.typed_config.type_url == HTTP:
                http = http_pb2.HttpConnectionManager.FromString(each.typed_config.value)
                for host in http.route_config.virtual_hosts:
                    host.domains[:] = [numbers.replaced(domain) for domain in host.domains]
                each.typed_config.value = http.SerializeToString(deterministic=True)
    return _template(listener, numbers)


def _number(numbers: _Numbers, addresses: Iterable[Any]) -> None:
    for each in addresses:
        if each.HasField("socket_address"):
            socket = each.socket_address
            socket.address = numbers.replaced(socket.address)


def _template(message: Any, numbers: _Numbers) -> Template:
    content = message.SerializeToString(deterministic=True)
    return hashlib.sha256(content).digest(), numbers.addresses
