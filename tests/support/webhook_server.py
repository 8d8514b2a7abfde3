"""A webhook server on loopback that speaks TLS, as istiod does."""

import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509

from meshgate.semantics.webhooks import Backend
from tests.support import webhook_builders as build
from tests.support.fakes import running

Answer = Callable[[str, dict[str, Any]], tuple[int, bytes]]


class Istiod:
    """A webhook server that keeps what it was asked."""

    def __init__(self, folder: Path, answer: Answer, name: str = build.NAME) -> None:
        served = build.issued(
            "istiod",
            build.ROOT,
            ca=False,
            begins=datetime.now(UTC),
            sans=[x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
        )
        (folder / "pem").write_bytes(served.pem.encode() + served.key_pem)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((self.path, body))
                status, words = answer(self.path, body["request"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(words)))
                self.end_headers()
                self.wfile.write(words)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that does not trust us hangs up."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @contextmanager
    def serving(self) -> Iterator["Istiod"]:
        with running(self._server):
            yield self

    def dial(self, backend: Backend) -> socket.socket:
        """A connection to it, whatever the endpoint's address says."""
        return socket.create_connection(("127.0.0.1", self._server.server_address[1]), 5)
