"""A client that carries out planned requests, and records what came back.

Every request has its own connection: what is tested is that a new client gets in.
"""

import hashlib
import os
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from meshgate import __version__
from meshgate.probe import http2, local_replies, prober
from meshgate.probe.pace import RequestDeadline, TimedConnection
from meshgate.probe.resolver import parse_resolver
from meshgate.probe.traffic import Traffic
from meshgate.semantics.certificates import UNREADABLE, described
from meshgate.semantics.declared_answers import VARIABLE
from meshgate.semantics.listeners import VERSIONS
from meshgate.settings import Ingress
from meshgate.snapshot.ingress import PROBER, Exchange, Expected, Request
from meshgate.snapshot.redact import text
from meshgate.snapshot.wire import Certificate

AGENT = f"meshgate/{__version__} (verifies an Istio upgrade)"
BODY = 64 * 1024  # octets of an answer that are read
QUIET = 1.0  # seconds after which a TCP connection that says nothing counts as open
CLOSED = "the connection was closed without a byte"
# PROXY protocol, version 1, of a connection that speaks for no other client
UNPROXIED = b"PROXY UNKNOWN\r\n"
# an empty message, as gRPC frames one: not compressed, no bytes long
EMPTY_MESSAGE = bytes(5)

Connect = Callable[[], socket.socket]


class Planned(NamedTuple):
    """A request, and how it is sent; `way` says so in words."""

    request: Request
    way: str
    connect: Connect
    proxied: bool = False
    expect: Expected = Expected()

    def __str__(self) -> str:
        request = self.request
        verb = f"{request.method} " if request.kind == "request" else "connect "
        headers = "".join(f" {name}: {value}" for name, value in sorted(request.headers.items()))
        return text(f"{verb}{request.url}{headers}{request.way} by {self.way} ({request.vantage})")


class Client:
    """Carries out one planned request after another; several threads share it."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        shown = {False: None, True: traffic.identity}
        # made before there are threads: what they share does not change any more
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
        """Send one request; return what came back, or how far it got."""
        request = planned.request
        start = time.monotonic()
        if request.vantage == PROBER:
            try:
                return prober.ask(self._traffic.prober, request, self._traffic.timeout, AGENT)
            except prober.Silent as error:
                return Exchange(request=request, stage=PROBER, error=str(error))
        seen = _Attempt(self, planned, RequestDeadline(self._traffic.timeout)).run()
        if request.tls and request.kind == "connect" and not (request.tls_version or seen.error):
            try:
                seen = msgspec.structs.replace(seen, distrust=self._distrust(planned))
            except OSError as error:
                words = f"on a second connection: {error or type(error).__name__}"
                seen = msgspec.structs.replace(seen, stage="handshake", error=words)
        took = round((time.monotonic() - start) * 1000)
        return msgspec.structs.replace(seen, milliseconds=took)

    def wrap(self, connection: socket.socket, request: Request) -> ssl.SSLSocket:
        """Make the TLS handshake that a request asks for."""
        return self._context(request).wrap_socket(connection, server_hostname=request.host)

    def _distrust(self, planned: Planned) -> str:
        """Return why the served chain leads to no known root."""
        deadline = RequestDeadline(self._traffic.timeout)
        try:
            with closing(planned.connect()) as connection:
                connection.settimeout(deadline.check())
                if planned.proxied:
                    connection.sendall(UNPROXIED)
                trusting = self._trusting[planned.request.certificate]
                with trusting.wrap_socket(connection, server_hostname=planned.request.host):
                    return ""
        except ssl.SSLCertVerificationError as error:
            return error.verify_message or str(error)


class _Attempt:
    """One request on one connection, with one deadline for all of it."""

    def __init__(self, client: Client, planned: Planned, deadline: RequestDeadline) -> None:
        self._client = client
        self._planned = planned
        self._deadline = deadline
        self._stage = "connect"
        self._seen = Exchange(request=planned.request)

    def run(self) -> Exchange:
        """Send it; return how far it got."""
        try:
            with closing(self._planned.connect()) as connection:
                self._run(connection)
        except ValueError as error:
            # its words quote the header, which may hold a credential from the environment
            words = "the request is not valid HTTP: check its path and its headers"
            if isinstance(error, UnicodeError):
                words = "the host or a header has characters that HTTP does not allow"
            return msgspec.structs.replace(self._seen, stage=self._stage, error=words)
        except (OSError, HTTPException) as error:
            alert = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
            words = str(error) or type(error).__name__
            return msgspec.structs.replace(self._seen, stage=self._stage, error=words, alert=alert)
        return self._seen

    def _run(self, connection: socket.socket) -> None:
        request = self._planned.request
        connection.settimeout(self._deadline.check())
        if self._planned.proxied:
            connection.sendall(UNPROXIED)
        if not request.tls:
            self._stage = "request"
            self._use(connection)
            return
        self._stage = "handshake"
        with self._client.wrap(connection, request) as secured:
            self._seen = _with_handshake(self._seen, secured)
            self._stage = "request"
            if request.tls == "MUTUAL" and not request.tls_version:
                self._await_refusal(secured)
            if not request.http2 or self._seen.alpn == "h2":
                self._use(secured)

    def _await_refusal(self, secured: ssl.SSLSocket) -> None:
        """With TLS 1.3 a refusal follows the handshake: read it before anything is written."""
        secured.settimeout(min(QUIET, self._deadline.check()))
        with suppress(TimeoutError):
            secured.recv(1)

    def _use(self, connection: socket.socket) -> None:
        request = self._planned.request
        if request.kind == "request":
            self._seen = self._answer(connection)
        elif not request.tls and request.backends:
            self._stage = "stream"
            self._await_close(connection)

    def _await_close(self, connection: socket.socket) -> None:
        """Envoy accepts a TCP connection before it looks for a backend, and closes it without."""
        connection.settimeout(min(QUIET, self._deadline.check()))
        with suppress(TimeoutError):
            if not connection.recv(1):
                raise ConnectionError(CLOSED)

    def _answer(self, connection: socket.socket) -> Exchange:
        request, expect = self._planned.request, self._planned.expect
        default = 443 if request.tls else 80
        host = request.host if request.port == default else f"{request.host}:{request.port}"
        given = {name: _filled(value) for name, value in request.headers.items()}
        answer = (self._http2 if request.http2 else self._http1)(connection, host, given)
        upstream = local_replies.from_upstream(answer.headers)
        reason = local_replies.reason(answer.status, answer.headers, answer.body)
        # a gRPC server's own Envoy reports a reset in the same words
        own = not upstream or (request.grpc and reason.startswith("UF"))
        return msgspec.structs.replace(
            self._seen,
            status=answer.status,
            server=answer.headers.get("server", ""),
            location=_without_query(answer.headers.get("location", "")),
            upstream=upstream,
            reason=reason if own else "",
            headers={
                name.lower(): text(value)
                for name in expect.headers
                if (value := answer.headers.get(name.lower())) is not None
            },
            body_holds=expect.body in answer.body,
        )

    def _http1(
        self, connection: socket.socket, host: str, given: dict[str, str]
    ) -> "http2.Answered":
        request = self._planned.request
        http = HTTPConnection(request.host, request.port)
        http.sock = TimedConnection(connection, self._deadline)
        headers = {"Host": host, "User-Agent": AGENT, "Connection": "close", **given}
        sent = _filled(request.send).encode() if request.send else None
        http.request(request.method, request.path, body=sent, headers=headers)
        answer = http.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        endless = answer.length is None and not request.declared
        body = b""
        if endless and local_replies.from_upstream(found):
            return http2.Answered(answer.status, found, "")  # it may be a stream that never ends
        try:
            body = answer.read1(BODY) if endless else answer.read(BODY)
        except (OSError, HTTPException):
            if not endless:
                raise
        return http2.Answered(answer.status, found, body.decode(errors="replace"))

    def _http2(
        self, connection: socket.socket, host: str, given: dict[str, str]
    ) -> "http2.Answered":
        request = self._planned.request
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
        ask = http2.Ask(tuple(headers.items()), EMPTY_MESSAGE if called else b"", BODY)
        return http2.send(connection, ask, self._deadline, whole=request.declared)


HTTP1, HTTP2, ANY = ("http/1.1",), ("h2",), ("h2", "http/1.1")


def _context(alpn: list[str], identity: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whatever is served is recorded
    context.set_alpn_protocols(alpn)
    if identity:
        context.load_cert_chain(identity)
    return context


def _only(version: str) -> ssl.SSLContext:
    """Return a client that offers this version only, old ones too."""
    context = _context(list(HTTP1))
    with warnings.catch_warnings():
        # that the old ones are deprecated is why they are tried
        warnings.simplefilter("ignore", DeprecationWarning)
        chosen = ssl.TLSVersion[version.replace(".", "_") if "." in version else "TLSv1"]
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version, context.minimum_version = chosen, chosen
    return context


def _trusting(ca: str | None, identity: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False  # facts compare the names
    if ca:
        context.load_verify_locations(ca)
    if identity:
        context.load_cert_chain(identity)
    return context


def unusable(traffic: Ingress) -> str:
    """Return why requests cannot be sent with these settings, or nothing."""
    try:
        _trusting(traffic.ca, None)
    except (OSError, ssl.SSLError) as error:
        return f"cannot use the roots {traffic.ca}: {error}"
    try:
        _trusting(None, traffic.identity)
    except (OSError, ssl.SSLError) as error:
        return f"cannot use the client certificate {traffic.identity}: {error}"
    try:
        _ = parse_resolver(traffic.resolver) if traffic.resolver else None
    except ValueError as error:
        return f"the resolver {traffic.resolver} is not ADDRESS[:PORT]: {error}"
    if traffic.prober and urlsplit(traffic.prober).scheme not in ("http", "https"):
        return f"the prober {prober.shown(traffic.prober)} is not an http or https URL"
    return ""


def _with_handshake(seen: Exchange, secured: ssl.SSLSocket) -> Exchange:
    der = secured.getpeercert(binary_form=True) or b""
    certificate: Certificate | None = None
    unreadable = ""
    try:
        certificate = described(x509.load_der_x509_certificate(der)) if der else None
    except UNREADABLE as error:
        unreadable = str(error)
    if certificate is not None and certificate.problem:
        unreadable, certificate = certificate.problem, None
    return msgspec.structs.replace(
        seen,
        tls_version=secured.version() or "",
        alpn=secured.selected_alpn_protocol() or "",
        certificate=certificate,
        unreadable=unreadable,
        fingerprint=hashlib.sha256(der).hexdigest()[:16] if der else "",
    )


def _filled(declared: str) -> str:
    """Return the text with variables replaced from the environment; the result is never kept."""
    return VARIABLE.sub(lambda found: os.environ[found[1]], declared)


def _without_query(location: str) -> str:
    """Return a redirect's target without its query, which may contain a credential."""
    return location.partition("?")[0]
