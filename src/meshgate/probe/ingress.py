"""Traffic through the gateways: planned by the topology, sent at a bounded rate, recorded."""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from meshgate.deadline import Deadline, concurrently
from meshgate.probe.client import Client, Planned, unusable
from meshgate.probe.pace import Pace
from meshgate.probe.prober import shown
from meshgate.probe.resolver import addresses, connect, connect_first, literal
from meshgate.probe.traffic import Traffic
from meshgate.semantics.declared_answers import listeners_of, planned_request
from meshgate.semantics.hosts import is_probe_name
from meshgate.semantics.planned import PlannedRequest
from meshgate.semantics.requests import requests
from meshgate.semantics.topology import Entrypoint, GatewayTopology, Listener
from meshgate.settings import flag
from meshgate.snapshot.ingress import (
    INSIDE,
    OUTSIDE,
    PROBER,
    Answer,
    Exchange,
    Expected,
    Ingress,
    Skipped,
    Vantage,
)

__all__ = ["Plan", "Planned", "plan", "send", "unusable"]

# To where a host is served from a vantage point.
Dial = Callable[[str], socket.socket]
# From inside: to a Service's port; raises OSError, or ReadError if it is not transient.
Enter = Callable[[Entrypoint], socket.socket]

BY_NAME = "its public name"
NOT_OUTSIDE = (
    f"no Service has a LoadBalancer address, and no {flag('ingress.urls')} leads to a listener"
)


class Plan(NamedTuple):
    """Every request that would be sent, from where, and what is not requested."""

    planned: list[Planned]
    vantages: list[Vantage]
    skipped: list[Skipped]


class _Way(NamedTuple):
    """How a host is reached from a vantage point, through what; `words` names it with the port."""

    vantage: str
    service: str
    words: str
    dial: Dial


def plan(topology: GatewayTopology, traffic: Traffic, enter: Enter) -> Plan:
    """Plan every request; nothing is sent.

    Args:
        topology: the gateways.
        traffic: from where, and with which identity.
        enter: connects to a Service from inside.

    Returns:
        What would be sent, each request once a way.
    """
    planned: list[Planned] = []
    skipped: list[Skipped] = []
    identified = traffic.identity is not None
    declared = [(each, listeners_of(each, topology.listeners)) for each in traffic.answers]
    for listener in topology.listeners:
        derived = requests(topology, listener, identified=identified)
        skipped += derived.skipped
        sent: list[tuple[PlannedRequest, Answer | None]] = [
            (each, None) for each in derived.planned
        ]
        sent += [
            (
                planned_request(each)._replace(certificate=identified and listener.tls == "MUTUAL"),
                each,
            )
            for each, serving in declared
            if listener in serving
        ]
        for entrypoint in topology.entrypoints(listener):
            proxied = _expects_proxy_protocol(entrypoint, traffic)
            for way in _ways(entrypoint, listener, traffic, enter):
                planned += [
                    Planned(
                        each.request(listener, way.vantage, way.service),
                        way.words,
                        partial(way.dial, each.host),
                        proxied and way.vantage == INSIDE,
                        answer.expect if answer else Expected(),
                    )
                    for each, answer in sent
                    if (way.vantage in answer.vantages if answer else _goes(each, way))
                ]
    unique = {(each.request.key, each.way): each for each in planned}
    outside = any(each.request.vantage == OUTSIDE for each in planned)
    vantages = [Vantage(name=INSIDE), Vantage(name=OUTSIDE, unused="" if outside else NOT_OUTSIDE)]
    if traffic.prober:
        vantages.append(Vantage(name=PROBER))
    return Plan(list(unique.values()), vantages, list(dict.fromkeys(skipped)))


def _expects_proxy_protocol(entrypoint: Entrypoint, traffic: Traffic) -> bool:
    """Return whether each connection to an entrypoint begins with the PROXY protocol header."""
    name = entrypoint.subject.partition(" ")[2]
    return traffic.proxy_protocol or name in traffic.proxy_protocol_services


def _goes(planned: PlannedRequest, way: _Way) -> bool:
    """Return whether a derived request is sent this way too."""
    named = not is_probe_name(planned.host)  # DNS does not know such a name
    if way.vantage == PROBER:
        # it sends GET only, without our headers, and follows redirects
        return (
            named
            and planned.kind == "request"
            and planned.method == "GET"
            and not (
                planned.headers
                or planned.certificate
                or planned.http2
                or planned.expected // 100 == 3
            )
        )
    if way.vantage == OUTSIDE:
        return not planned.tls_version and (named or BY_NAME not in way.words)
    return True


def _ways(
    entrypoint: Entrypoint, listener: Listener, traffic: Traffic, enter: Enter
) -> Iterator[_Way]:
    """Yield every way to an entrypoint, from every vantage point."""
    name = entrypoint.subject
    yield _Way(INSIDE, name, f"{name} port {entrypoint.port}", lambda host: enter(entrypoint))
    for second in entrypoint.addresses[1:]:  # a Service of both families
        only = entrypoint._replace(addresses=(second,))
        there = f"{name} ({second})"
        yield _Way(
            INSIDE, there, f"{there} port {entrypoint.port}", partial(_entering, enter, only)
        )
    given = [url for url in traffic.urls if _leads(url, entrypoint, listener)]
    for url in given:
        parts = urlsplit(url.rpartition("=")[2])
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = parts.hostname or ""
        yield _Way(OUTSIDE, name, f"{address}:{port}", partial(_dial, traffic, port, address))
    if traffic.resolver and not given:
        words = f"{BY_NAME}, as {traffic.resolver} has it, port {entrypoint.port}"
        yield _Way(OUTSIDE, name, words, partial(_dial, traffic, entrypoint.port, ""))
    elif not given:
        for each in entrypoint.outside:
            words = f"{each}:{entrypoint.port}"
            yield _Way(OUTSIDE, name, words, partial(_dial, traffic, entrypoint.port, each))
    if traffic.prober and listener.tls not in ("MUTUAL", "PASSTHROUGH"):
        yield _Way(PROBER, name, shown(traffic.prober), _never)


def _entering(enter: Enter, entrypoint: Entrypoint, host: str) -> socket.socket:
    return enter(entrypoint)


def _never(host: str) -> socket.socket:
    raise OSError("the prober connects, not this process")


def _dial(traffic: Traffic, port: int, address: str, host: str) -> socket.socket:
    """Connect to an address, or without one to the host's own."""
    name = address or host
    if not traffic.resolver or literal(name):
        return connect(name, port, traffic.timeout)
    deadline = Deadline(traffic.timeout)
    return connect_first(addresses(name, traffic.resolver, traffic.timeout), port, deadline)


def _leads(url: str, entrypoint: Entrypoint, listener: Listener) -> bool:
    """Return whether an --ingress-url leads to this entrypoint."""
    name, _, address = url.rpartition("=")
    parts = urlsplit(address)
    if (parts.scheme == "https") != bool(listener.tls):
        return False
    if name:
        return entrypoint.subject.partition(" ")[2] == name
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return port in (entrypoint.port, entrypoint.node_port)


def send(
    planned: Sequence[Planned],
    vantages: Sequence[Vantage],
    traffic: Traffic,
    workers: int = 16,
    skipped: Sequence[Skipped] = (),
) -> Ingress:
    """Send what is planned, as far as the limits allow.

    Args:
        planned: in this order.
        vantages: where it is sent from.
        traffic: the limits.
        workers: how many requests are in flight at most.
        skipped: what was not planned, for the record.

    Returns:
        What came back, and what was not sent.
    """
    client = Client(traffic)
    pace = Pace(traffic.rate, traffic.deadline)

    def one(each: Planned) -> Exchange | None:
        return client.send(each) if pace.wait() else None

    seen = concurrently(one, planned[: traffic.limit], workers)
    silent = next((each.error for each in seen if each and each.stage == PROBER), "")
    left = [each.request for each, got in zip(planned, seen, strict=False) if got is None]
    left += [each.request for each in planned[traffic.limit :]]
    return Ingress(
        vantages=tuple(
            Vantage(name=PROBER, unused=silent) if silent and each.name == PROBER else each
            for each in vantages
        ),
        exchanges=tuple(each for each in seen if each and each.stage != PROBER),
        unsent=tuple(left),
        trusted=traffic.ca is not None,
        skipped=tuple(skipped),
    )
