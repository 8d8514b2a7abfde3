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
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from meshgate import __version__
from meshgate.facts.ingress.declared_requests import VARIABLE, planned_request
from meshgate.facts.ingress.tls_versions import VERSIONS
from meshgate.probe import http2, prober
from meshgate.probe.resolver import addresses, literal, parse_resolver
from meshgate.probe.traffic import Traffic
from meshgate.semantics.certificates import described
from meshgate.semantics.requests import PlannedRequest, planned_requests
from meshgate.semantics.topology import Entrypoint, GatewayTopology, Listener
from meshgate.snapshot.ingress import (
    INSIDE,
    OUTSIDE,
    PROBER,
    Answer,
    Exchange,
    Expected,
    Ingress,
    Request,
    Vantage,
)
from meshgate.snapshot.redact import text

AGENT = f"meshgate/{__version__} (verifies an Istio upgrade)"
BODY = 64 * 1024
# PROXY protocol, version 1, of a connection that speaks for nobody else
UNPROXIED = b"PROXY UNKNOWN\r\n"

# an empty message, as gRPC frames one: not compressed, and no bytes long
NOTHING_SAID = bytes(5)

Connect = Callable[[], socket.socket]
# To where a host is served from a vantage point.
Dial = Callable[[str], socket.socket]
# From inside: to a Service's port; raises OSError, or Unreadable for good.
Enter = Callable[[Entrypoint], socket.socket]


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
        return f"{verb}{asked.url}{headers}{asked.way} by {self.way} ({asked.vantage})"


def plan(
    topology: GatewayTopology, traffic: Traffic, enter: Enter
) -> tuple[list[Planned], list[Vantage]]:
    """Every request that would be sent, and the points that it would be sent from."""
    planned: list[Planned] = []
    for listener in topology.listeners:
        sent: list[tuple[PlannedRequest, Answer | None]]
        identified = traffic.identity is not None
        sent = [
            (each, None) for each in planned_requests(topology, listener, identified=identified)
        ]
        sent += [
            (made._replace(certificate=identified and listener.tls == "MUTUAL"), each)
            for each in traffic.answers
            if (made := planned_request(each, listener))
        ]
        for entrypoint in topology.entrypoints(listener):
            for vantage, service, way, dial in _vantages(entrypoint, listener, traffic, enter):
                proxied = traffic.proxy_protocol and vantage == INSIDE
                planned += [
                    Planned(
                        each.request(listener, vantage, service),
                        way,
                        partial(dial, each.host),
                        proxied,
                        answer.expect if answer else Expected(),
                    )
                    for each, answer in sent
                    if (vantage in answer.vantages if answer else _goes(each, vantage, way))
                ]
    unique = {(each.request.key, each.way): each for each in planned}
    outside = any(each.request.vantage == OUTSIDE for each in planned)
    why = "no Service has a LoadBalancer address, and no --ingress-url leads to a listener"
    vantages = [Vantage(name=INSIDE), Vantage(name=OUTSIDE, unused="" if outside else why)]
    if traffic.prober:
        vantages.append(Vantage(name=PROBER))
    return list(unique.values()), vantages


BY_NAME = "its public name"


def _goes(planned_request: PlannedRequest, vantage: str, way: str) -> bool:
    """Whether what was derived is sent this way too."""
    named = "meshgate-probe" not in planned_request.host  # which no DNS has
    if vantage == PROBER:
        # it sends GET alone, without headers of ours, and follows redirects
        return (
            named
            and planned_request.kind == "request"
            and planned_request.method == "GET"
            and not (
                planned_request.headers
                or planned_request.certificate
                or planned_request.http2
                or planned_request.expected // 100 == 3
            )
        )
    if vantage == OUTSIDE:
        return not planned_request.tls_version and (named or BY_NAME not in way)
    return True


def _vantages(
    entrypoint: Entrypoint, listener: Listener, traffic: Traffic, enter: Enter
) -> Iterator[tuple[str, str, str, Dial]]:
    """A vantage point, what leads in from there, that with the port, and how a host is reached."""
    name = entrypoint.subject
    yield INSIDE, name, f"{name} port {entrypoint.port}", lambda host: enter(entrypoint)
    for second in entrypoint.addresses[1:]:  # a Service of both families
        only = entrypoint._replace(addresses=(second,))
        there = f"{name} ({second})"
        yield INSIDE, there, f"{there} port {entrypoint.port}", partial(_entering, enter, only)
    given = [url for url in traffic.urls if _leads(url, entrypoint, listener)]
    for url in given:
        parts = urlsplit(url.rpartition("=")[2])
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = parts.hostname or ""
        yield OUTSIDE, name, f"{address}:{port}", partial(_dial, traffic, port, address)
    if traffic.resolver and not given:
        way = f"{BY_NAME}, as {traffic.resolver} has it, port {entrypoint.port}"
        yield OUTSIDE, name, way, partial(_dial, traffic, entrypoint.port, "")
    elif not given:
        for each in entrypoint.outside:
            yield (
                OUTSIDE,
                name,
                f"{each}:{entrypoint.port}",
                partial(_dial, traffic, entrypoint.port, each),
            )
    if traffic.prober and listener.tls not in ("MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH"):
        yield PROBER, name, traffic.prober, _never


def _entering(enter: Enter, entrypoint: Entrypoint, host: str) -> socket.socket:
    return enter(entrypoint)


def _never(host: str) -> socket.socket:
    raise OSError("the prober connects, not we")


def _dial(traffic: Traffic, port: int, address: str, host: str) -> socket.socket:
    """A connection to an address, or without one to the host's own."""
    name = address or host
    if not traffic.resolver or literal(name):
        return socket.create_connection((name, port), traffic.timeout)
    last = OSError(f"{name} has no address")
    for each in addresses(name, traffic.resolver, traffic.timeout):
        try:
            return socket.create_connection((each, port), traffic.timeout)
        except OSError as error:
            last = error
    raise last


def _leads(url: str, entrypoint: Entrypoint, listener: Listener) -> bool:
    """Whether an address given by the person is one of this door."""
    name, _, address = url.rpartition("=")
    parts = urlsplit(address)
    if (parts.scheme == "https") != bool(listener.tls):
        return False
    if name:
        return entrypoint.subject.partition(" ")[2] == name
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return port in (entrypoint.port, entrypoint.node_port)


class Pace:
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
    client = Client(traffic)
    pace = Pace(traffic.rate, traffic.deadline)

    def one(each: Planned) -> Exchange | None:
        return client.send(each) if pace.wait() else None

    with ThreadPoolExecutor(max_workers=workers) as pool:
        seen = list(pool.map(one, planned[: traffic.limit]))
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
    )


class Client:
    """Carries out one planned request after another; several threads share it."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        shown = {False: None, True: traffic.identity}
        # made before there are threads: what they share is not changed any more
        self._contexts = {
            (alpn, certificate): _context(list(alpn), identity)
            for alpn in (HTTP1, HTTP2, ANY)
            for certificate, identity in shown.items()
        }
        self._versions = {version: _only(version) for version in VERSIONS}
        self._trusting = {
            certificate: _trusting(traffic.ca, identity) for certificate, identity in shown.items()
        }

    def _context(self, request: Request) -> ssl.SSLContext:
        if request.tls_version:
            return self._versions[request.tls_version]
        alpn = ANY if request.kind == "connect" else HTTP2 if request.http2 else HTTP1
        return self._contexts[alpn, request.certificate]

    def send(self, planned: Planned) -> Exchange:
        """One request: what came back, or how far it came."""
        request = planned.request
        seen = Exchange(request=request)
        start = time.monotonic()
        stage = "connect"
        if request.vantage == PROBER:
            try:
                return prober.ask(self._traffic.prober, request, self._traffic.timeout, AGENT)
            except prober.Silent as error:
                return msgspec.structs.replace(seen, stage=PROBER, error=str(error))
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
                    context = self._context(request)
                    with context.wrap_socket(connection, server_hostname=request.host) as secured:
                        seen = _shaken(seen, secured)
                        stage = "request"
                        if request.tls == "MUTUAL" and not request.tls_version:
                            self._await_refusal(secured)
                        if not request.http2 or seen.alpn == "h2":
                            seen = self._ask(seen, secured, planned.expect)
            if request.tls and request.kind == "connect" and not request.tls_version:
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
                trusting = self._trusting[planned.request.certificate]
                with trusting.wrap_socket(connection, server_hostname=planned.request.host):
                    return ""
        except ssl.SSLCertVerificationError as error:
            return error.verify_message or str(error)

    def _ask(self, seen: Exchange, connection: socket.socket, expect: Expected) -> Exchange:
        request = seen.request
        if request.kind != "request":
            return seen
        default = 443 if request.tls else 80
        host = request.host if request.port == default else f"{request.host}:{request.port}"
        given = {name: _filled(value) for name, value in request.headers.items()}
        answer = (self._http2 if request.http2 else self._http1)(request, connection, host, given)
        body = answer.body
        upstream = answer.headers.get("x-envoy-upstream-service-time") is not None
        reason = _reason(answer.status, body)
        # a gRPC server's own Envoy tells of it in the same words
        told = not upstream or (request.grpc and reason.startswith("UF"))
        return msgspec.structs.replace(
            seen,
            status=answer.status,
            server=answer.headers.get("server", ""),
            location=_plain(answer.headers.get("location", "")),
            upstream=upstream,
            reason=reason if told else "",
            headers={
                name.lower(): text(value)
                for name in expect.headers
                if (value := answer.headers.get(name.lower())) is not None
            },
            body_holds=expect.body in body,
        )

    def _http1(
        self, request: Request, connection: socket.socket, host: str, given: dict[str, str]
    ) -> "Answered":
        http = HTTPConnection(request.host, request.port, timeout=self._traffic.timeout)
        http.sock = connection
        headers = {"Host": host, "User-Agent": AGENT, "Connection": "close", **given}
        sent = _filled(request.send).encode() if request.send else None
        http.request(request.method, request.path, body=sent, headers=headers)
        answer = http.getresponse()
        body = answer.read(BODY).decode(errors="replace")
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, found, body)

    def _http2(
        self, request: Request, connection: socket.socket, host: str, given: dict[str, str]
    ) -> "Answered":
        headers = {
            ":method": request.method,
            ":scheme": "https" if request.tls else "http",
            ":authority": host,
            ":path": request.path,
            "user-agent": AGENT,
            **{name.lower(): value for name, value in given.items()},
        }
        called = request.grpc and request.declared
        if called:
            headers |= {"content-type": "application/grpc", "te": "trailers"}
        send = NOTHING_SAID if called else b""
        found, body = http2.ask(
            connection, list(headers.items()), self._traffic.timeout, BODY, send
        )
        named = dict(found)
        return Answered(int(named.get(":status", 0)), named, body.decode(errors="replace"))


class Answered(NamedTuple):
    """An answer, over whichever version of HTTP; the headers' names are in small letters."""

    status: int
    headers: dict[str, str]
    body: str


HTTP1, HTTP2, ANY = ("http/1.1",), ("h2",), ("h2", "http/1.1")


def _context(alpn: list[str], identity: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whatever is served is looked at
    context.set_alpn_protocols(alpn)
    if identity:
        context.load_cert_chain(identity)
    return context


def _only(version: str) -> ssl.SSLContext:
    """A client that offers this version alone, old ones too."""
    context = _context(list(HTTP1))
    with warnings.catch_warnings():
        # that the old ones are old is why they are tried
        warnings.simplefilter("ignore", DeprecationWarning)
        chosen = ssl.TLSVersion[version.replace(".", "_") if "." in version else "TLSv1"]
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version, context.minimum_version = chosen, chosen
    return context


def _trusting(ca: Path | None, identity: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False  # names are compared by facts, in words of their own
    if ca:
        context.load_verify_locations(ca)
    if identity:
        context.load_cert_chain(identity)
    return context


def unusable(traffic: Traffic) -> str:
    """Why what was given cannot be sent with, or nothing."""
    try:
        _trusting(traffic.ca, None)
    except (OSError, ssl.SSLError) as error:
        return f"cannot use the roots {traffic.ca}: {error}"
    try:
        _trusting(None, traffic.identity)
    except (OSError, ssl.SSLError) as error:
        return f"cannot use the client's certificate {traffic.identity}: {error}"
    try:
        _ = parse_resolver(traffic.resolver) if traffic.resolver else None
    except ValueError as error:
        return f"the resolver {traffic.resolver} is no ADDRESS[:PORT]: {error}"
    if traffic.prober and urlsplit(traffic.prober).scheme not in ("http", "https"):
        return f"the prober {traffic.prober} is no URL"
    return ""


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


def _reason(status: int, body: str) -> str:
    """Envoy's own word for what it answered by itself, as its access log would flag it."""
    if status == 404 and not body:
        return "NR"
    if status == 503:
        if "no healthy upstream" in body:
            return "UH"
        if "upstream connect error" in body or "reset before headers" in body:
            found = re.search(r"(?:reset|transport failure) reason: ([\w ,.:'-]{1,80})", body)
            return f"UF ({found.group(1).strip()})" if found else "UF"
        return "" if body else "NC"
    return ""
