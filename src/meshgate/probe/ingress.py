"""Traffic through the gateways: what facts plan is sent, at a bounded rate, and written down.

Every request has a connection of its own: what is proven is that a new client gets in.
"""

import hashlib
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cached_property, partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from meshgate import __version__
from meshgate.facts.certificates import described
from meshgate.facts.declared import VARIABLE, journey
from meshgate.facts.journeys import Journey, journeys
from meshgate.facts.listeners import Door, Listener, WaysIn
from meshgate.snapshot.ingress import Answer, Exchange, Expected, Ingress, Request, Vantage
from meshgate.snapshot.redact import text

AGENT = f"meshgate/{__version__} (verifies an Istio upgrade)"
INSIDE, OUTSIDE = "inside", "outside"
BODY = 64 * 1024
# PROXY protocol, version 1, of a connection that speaks for nobody else
UNPROXIED = b"PROXY UNKNOWN\r\n"

Connect = Callable[[], socket.socket]
# From inside: to a Service's port; raises OSError, or Unreadable for good.
Enter = Callable[[Door], socket.socket]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What may be sent, and where to; times in seconds.

    `urls`: addresses from outside, `[NAMESPACE/SERVICE=]http[s]://host[:port]`.
    `answers`: what somebody declared.
    `ca`: roots that the gateways' certificates must lead to, beside the public ones.
    """

    urls: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    ca: Path | None = None
    proxy_protocol: bool = False
    rate: float = 200.0
    limit: int = 5000
    deadline: float = 60.0
    timeout: float = 5.0


class Planned(NamedTuple):
    """A request, and the way that it takes."""

    request: Request
    way: str
    connect: Connect
    proxied: bool = False
    expect: Expected = Expected()

    def __str__(self) -> str:
        asked = self.request
        verb = f"{asked.method} " if asked.kind == "request" else "connect "
        headers = "".join(f" {name}: {value}" for name, value in sorted(asked.headers.items()))
        return f"{verb}{asked.url}{headers} by {self.way} ({asked.vantage})"


def plan(ways: WaysIn, traffic: Traffic, enter: Enter) -> tuple[list[Planned], list[Vantage]]:
    """Every request that would be sent, and the points that it would be sent from."""
    planned: list[Planned] = []
    for listener in ways.listeners:
        sent: list[tuple[Journey, Answer | None]]
        sent = [(each, None) for each in journeys(ways, listener)]
        sent += [(made, each) for each in traffic.answers if (made := journey(each, listener))]
        for door in ways.doors(listener):
            for vantage, service, way, connect in _vantages(door, listener, traffic, enter):
                proxied = traffic.proxy_protocol and vantage == INSIDE
                planned += [
                    Planned(
                        each.request(listener, vantage, service),
                        way,
                        connect,
                        proxied,
                        answer.expect if answer else Expected(),
                    )
                    for each, answer in sent
                    if answer is None or vantage in answer.vantages
                ]
    unique = {(each.request.key, each.way): each for each in planned}
    outside = any(each.request.vantage == OUTSIDE for each in planned)
    why = "no Service has a LoadBalancer address, and no --ingress-url leads to a listener"
    vantages = [Vantage(name=INSIDE), Vantage(name=OUTSIDE, unused="" if outside else why)]
    return list(unique.values()), vantages


def _vantages(
    door: Door, listener: Listener, traffic: Traffic, enter: Enter
) -> Iterator[tuple[str, str, str, Connect]]:
    """A vantage point, what leads in from there, that with the port, and how it is connected to."""
    timeout, name = traffic.timeout, door.subject
    yield INSIDE, name, f"{name} port {door.port}", lambda: enter(door)
    for second in door.addresses[1:]:  # a Service of both families
        only = door._replace(addresses=(second,))
        there = f"{name} ({second})"
        yield INSIDE, there, f"{there} port {door.port}", partial(enter, only)
    given = [url for url in traffic.urls if _leads(url, door, listener)]
    for url in given:
        parts = urlsplit(url.rpartition("=")[2])
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = (parts.hostname or "", port)
        yield OUTSIDE, name, f"{address[0]}:{port}", _dialling(address, timeout)
    if not given:
        for each in door.outside:
            yield OUTSIDE, name, f"{each}:{door.port}", _dialling((each, door.port), timeout)


def _dialling(address: tuple[str, int], timeout: float) -> Connect:
    return lambda: socket.create_connection(address, timeout)


def _leads(url: str, door: Door, listener: Listener) -> bool:
    """Whether an address given by the person is one of this door."""
    name, _, address = url.rpartition("=")
    parts = urlsplit(address)
    if (parts.scheme == "https") != bool(listener.tls):
        return False
    if name:
        return door.subject.partition(" ")[2] == name
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return port in (door.port, door.node_port)


class _Pace:
    """Says when the next request may go, to several threads; False after the deadline."""

    def __init__(self, rate: float, deadline: float) -> None:
        self._gap = 1 / rate
        self._next = time.monotonic()
        self._end = self._next + deadline
        self._lock = threading.Lock()

    def wait(self) -> bool:
        """Waits for a turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        if turn >= self._end:
            return False
        time.sleep(max(0.0, turn - time.monotonic()))
        return True


def send(
    planned: Sequence[Planned], vantages: Sequence[Vantage], traffic: Traffic, workers: int = 16
) -> Ingress:
    """Sends what is planned, as far as the limits allow."""
    client = _Client(traffic)
    pace = _Pace(traffic.rate, traffic.deadline)

    def one(each: Planned) -> Exchange | None:
        return client.send(each) if pace.wait() else None

    with ThreadPoolExecutor(max_workers=workers) as pool:
        seen = list(pool.map(one, planned[: traffic.limit]))
    left = [each.request for each, got in zip(planned, seen, strict=False) if got is None]
    left += [each.request for each in planned[traffic.limit :]]
    return Ingress(
        vantages=tuple(vantages),
        exchanges=tuple(each for each in seen if each),
        unsent=tuple(left),
        trusted=traffic.ca is not None,
    )


class _Client:
    """Carries out one planned request after another; several threads share it."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._any = _context(http2=False)
        self._any_http2 = _context(http2=True)

    @cached_property
    def _trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False  # names are compared by facts, in words of their own
        if self._traffic.ca:
            context.load_verify_locations(self._traffic.ca)
        return context

    def send(self, planned: Planned) -> Exchange:
        """One request: what came back, or how far it came."""
        request = planned.request
        seen = Exchange(request=request)
        start = time.monotonic()
        stage = "connect"
        try:
            with closing(planned.connect()) as connection:
                connection.settimeout(self._traffic.timeout)
                if planned.proxied:
                    connection.sendall(UNPROXIED)
                if not request.tls:
                    stage = "request"
                    seen = self._ask(seen, connection, planned.expect)
                else:
                    stage = "handshake"
                    asks = request.kind == "request"
                    context = self._any if asks else self._any_http2
                    with context.wrap_socket(connection, server_hostname=request.host) as secured:
                        seen = _shaken(seen, secured)
                        stage = "request"
                        if request.tls == "MUTUAL":
                            self._await_refusal(secured)
                        seen = self._ask(seen, secured, planned.expect)
            if request.tls and request.kind == "connect":
                seen = msgspec.structs.replace(seen, distrust=self._distrust(planned))
        except (OSError, HTTPException, ValueError) as error:
            alert = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
            words = str(error) or type(error).__name__
            seen = msgspec.structs.replace(seen, stage=stage, error=words, alert=alert)
        took = round((time.monotonic() - start) * 1000)
        return msgspec.structs.replace(seen, milliseconds=took)

    def _await_refusal(self, secured: ssl.SSLSocket) -> None:
        """With TLS 1.3 a refusal follows the handshake: it is read before anything is written."""
        secured.settimeout(min(1.0, self._traffic.timeout))
        with suppress(TimeoutError):
            secured.recv(1)
        secured.settimeout(self._traffic.timeout)

    def _distrust(self, planned: Planned) -> str:
        """Why the chain leads to no root that is known here."""
        try:
            with closing(planned.connect()) as connection:
                connection.settimeout(self._traffic.timeout)
                if planned.proxied:
                    connection.sendall(UNPROXIED)
                with self._trusting.wrap_socket(connection, server_hostname=planned.request.host):
                    return ""
        except ssl.SSLCertVerificationError as error:
            return error.verify_message or str(error)

    def _ask(self, seen: Exchange, connection: socket.socket, expect: Expected) -> Exchange:
        request = seen.request
        if request.kind != "request":
            return seen
        http = HTTPConnection(request.host, request.port, timeout=self._traffic.timeout)
        http.sock = connection
        default = 443 if request.tls else 80
        host = request.host if request.port == default else f"{request.host}:{request.port}"
        headers = {"Host": host, "User-Agent": AGENT, "Connection": "close"}
        headers |= {name: _filled(value) for name, value in request.headers.items()}
        sent = _filled(request.send).encode() if request.send else None
        http.request(request.method, request.path, body=sent, headers=headers)
        answer = http.getresponse()
        body = answer.read(BODY).decode(errors="replace")
        upstream = answer.getheader("x-envoy-upstream-service-time") is not None
        return msgspec.structs.replace(
            seen,
            status=answer.status,
            server=answer.getheader("server") or "",
            location=_plain(answer.getheader("location") or ""),
            upstream=upstream,
            reason="" if upstream else _reason(answer, body),
            headers={
                name.lower(): text(value)
                for name in expect.headers
                if (value := answer.getheader(name)) is not None
            },
            body_holds=expect.body in body,
        )


def _context(*, http2: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whatever is served is looked at
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    return context


def _shaken(seen: Exchange, secured: ssl.SSLSocket) -> Exchange:
    der = secured.getpeercert(binary_form=True) or b""
    return msgspec.structs.replace(
        seen,
        tls_version=secured.version() or "",
        alpn=secured.selected_alpn_protocol() or "",
        certificate=described(x509.load_der_x509_certificate(der)) if der else None,
        fingerprint=hashlib.sha256(der).hexdigest()[:16] if der else "",
    )


def _filled(declared: str) -> str:
    """The text with what the environment holds in place of its variables; it is kept nowhere."""
    return VARIABLE.sub(lambda found: os.environ[found[1]], declared)


def _plain(location: str) -> str:
    """A redirect's target without its query: that may hold what is nobody's business."""
    return location.partition("?")[0]


def _reason(answer: HTTPResponse, body: str) -> str:
    """Envoy's own word for what it answered by itself, as its access log would flag it."""
    if answer.status == 404 and not body:
        return "NR"
    if answer.status == 503:
        if "no healthy upstream" in body:
            return "UH"
        if "upstream connect error" in body or "reset before headers" in body:
            found = re.search(r"(?:reset|transport failure) reason: ([\w ,.:'-]{1,80})", body)
            return f"UF ({found.group(1).strip()})" if found else "UF"
        return "" if body else "NC"
    return ""
