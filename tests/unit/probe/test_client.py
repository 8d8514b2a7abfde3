"""A client that meets gateways and backends that are unusual."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from meshgate.probe.client import CLOSED, Client, Planned
from meshgate.probe.traffic import Traffic
from meshgate.snapshot.ingress import Exchange, Request
from tests.support.builders import AT, after

Serve = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nserver: istio-envoy\r\n"


@contextmanager
def serving(serve: Serve) -> Iterator[tuple[str, int]]:
    """A server that treats every connection so."""

    def loop(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    serve(connection)
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=loop, args=(listener,), daemon=True).start()
        yield listener.getsockname()


def seen(serve: Serve, timeout: float = 1.0, **request: object) -> Exchange:
    given = {"vantage": "inside", "service": "Service a/b", "gateway": "Gateway a/b", "port": 80}
    asked = Request(**{**given, "host": "a.example.com", **request})  # type: ignore[arg-type]
    with serving(serve) as address:
        planned = Planned(asked, "a way", lambda: socket.create_connection(address, 5))
        return Client(Traffic(timeout=timeout)).send(planned)


def drip(connection: socket.socket, head: bytes) -> None:
    connection.recv(4096)
    connection.sendall(head)
    while True:
        connection.sendall(b": ping\n\n")
        time.sleep(0.05)


def test_an_endless_stream_is_an_answer() -> None:
    events = HEAD + b"content-type: text/event-stream\r\n"
    begun = time.monotonic()

    known = seen(lambda each: drip(each, events + b"x-envoy-upstream-service-time: 3\r\n\r\n"))
    unknown = seen(lambda each: drip(each, events + b"\r\n"))

    assert (known.status, known.upstream, known.error) == (200, True, "")
    assert (unknown.status, unknown.error) == (200, "")
    assert time.monotonic() - begun < 5


def test_a_header_that_cannot_be_sent_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASS", "s3cr3t\nX-Forged: 1")

    got = seen(lambda each: drip(each, HEAD + b"\r\n"), headers={"x-version": "${PASS}"})

    assert got.stage == "request"
    assert "not valid HTTP" in got.error
    assert "s3cr3t" not in got.error


def test_an_answer_that_does_not_end_in_time_is_none() -> None:
    got = seen(lambda each: drip(each, HEAD + b"content-length: 1000000\r\n\r\n"), timeout=0.5)

    assert got.stage == "request"
    assert "no complete answer within 0.5 s" in got.error
    assert got.milliseconds < 3000


def test_headers_that_drip_are_no_answer() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(HEAD)
        while True:
            connection.sendall(b"x: y\r\n")
            time.sleep(0.1)

    assert "no complete answer" in seen(serve, timeout=0.5).error


@pytest.mark.parametrize(
    ("serve", "stage", "error"),
    [
        (lambda connection: None, "stream", CLOSED),
        (lambda connection: connection.sendall(b"hello"), "", ""),
        (lambda connection: time.sleep(1.5), "", ""),
    ],
    ids=["closed at once", "greets", "waits"],
)
def test_a_tcp_connection_is_open_unless_it_is_closed_at_once(
    serve: Serve, stage: str, error: str
) -> None:
    got = seen(serve, timeout=3, kind="connect", backends=("ledger.shop.svc.cluster.local:5432",))

    assert (got.stage, got.error) == (stage, error)


def odd_certificate(folder: Path) -> Path:
    """A certificate with the same extension twice: OpenSSL serves it, RFC 5280 forbids it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old-appliance")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5, AT, after(1e6))
    for number in (b"\x2a\x03\x04", b"\x2a\x03\x05"):
        oid = x509.ObjectIdentifier(f"1.2.3.{number[2]}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), False)
    der = builder.sign(key, SHA256()).public_bytes(serialization.Encoding.DER)
    doubled = der.replace(b"\x06\x03\x2a\x03\x05", b"\x06\x03\x2a\x03\x04")
    file = folder / "odd.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_text(ssl.DER_cert_to_PEM_cert(doubled) + private.decode())
    return file


def test_a_certificate_that_cannot_be_decoded_is_recorded(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(odd_certificate(tmp_path))

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(100)

    got = seen(serve, kind="connect", tls="PASSTHROUGH", port=443)

    assert got.certificate is None
    assert "Duplicate" in got.unreadable
    assert got.error == ""
