"""A server of HBONE on loopback that behaves as ztunnel and a waypoint do, or as neither."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived

from tests.support.webhook_builders import Issued

RESETS_STREAM, CLOSES, KEEPS_SILENT = -1, -2, -3


@dataclass
class HboneServer:
    """What it does, and what it got.

    Attributes:
        connect: the status that answers CONNECT, or one of the constants above.
        refusal: the body of that answer, if it is not 200.
        answer: what comes out of the tunnel; empty to close it, None for nothing.
        demands: whether a client needs a certificate of the mesh.
        port: where it listens.
        authorities: what CONNECT named.
        requests: what came through the tunnels.
        clients: the SPIFFE IDs of the clients.
    """

    connect: int = 200
    refusal: bytes = b""
    answer: bytes | None = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
    demands: bool = True
    port: int = 0
    authorities: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)

    @contextmanager
    def serving(
        self, folder: Path, served: Issued, root: Issued, address: str = "127.0.0.1"
    ) -> Iterator["HboneServer"]:
        """Serve with a certificate, to clients with a certificate of a root."""
        files = folder / "served.pem", folder / "served.key", folder / "root.pem"
        contents = served.pem.encode(), served.key_pem, root.pem.encode()
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files[0], files[1])
        context.set_alpn_protocols(["h2"])
        if self.demands:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(files[2])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as server:
            self.port = server.getsockname()[1]
            threading.Thread(target=self._accept, args=(server, context), daemon=True).start()
            yield self

    def _accept(self, server: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                raw, _ = server.accept()
            except OSError:
                return
            raw.settimeout(10)
            with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                names: Any = (connection.getpeercert() or {}).get("subjectAltName", ())
                self.clients += [value for _, value in names]
                self._converse(connection)

    def _converse(self, connection: ssl.SSLSocket) -> None:
        http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        while data := connection.recv(65536):
            for event in http2.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = {str(name): str(value) for name, value in event.headers}
                    self.authorities.append(headers[":authority"])
                    if self.connect == CLOSES:
                        return
                    self._connect(http2, event.stream_id)
                elif isinstance(event, DataReceived):
                    self.requests.append(event.data)
                    if self.answer is not None:
                        http2.send_data(event.stream_id, self.answer, end_stream=True)
                        # as Envoy and ztunnel do: the client's half is still open
                        http2.reset_stream(event.stream_id)
            connection.sendall(http2.data_to_send())

    def _connect(self, http2: H2Connection, stream: int) -> None:
        if self.connect == RESETS_STREAM:
            http2.reset_stream(stream)
        elif self.connect == 200:
            http2.send_headers(stream, [(":status", "200")])
        elif self.connect != KEEPS_SILENT:
            status = [(":status", str(self.connect))]
            http2.send_headers(stream, status, end_stream=not self.refusal)
            if self.refusal:
                http2.send_data(stream, self.refusal, end_stream=True)
            http2.reset_stream(stream)
