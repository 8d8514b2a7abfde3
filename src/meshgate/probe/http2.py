"""One request over HTTP/2, on a connection that is there."""

import socket
import time
from collections.abc import Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error

Headers = list[tuple[str, str]]


def ask(
    connection: socket.socket, headers: Sequence[tuple[str, str]], timeout: float, most: int
) -> tuple[Headers, bytes]:
    """Sends headers, `:method` and the like among them; what came back, of the body `most` bytes.

    Raises OSError where there is no answer.
    """
    try:
        return _ask(connection, headers, time.monotonic() + timeout, most)
    except H2Error as error:
        raise ConnectionError(f"HTTP/2: {error or type(error).__name__}") from error


def _ask(
    connection: socket.socket, headers: Sequence[tuple[str, str]], end: float, most: int
) -> tuple[Headers, bytes]:
    http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http2.initiate_connection()
    http2.send_headers(http2.get_next_available_stream_id(), list(headers), end_stream=True)
    connection.sendall(http2.data_to_send())
    answered: Headers = []
    body = b""
    while time.monotonic() < end:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("HTTP/2: the connection was closed")
        for event in http2.receive_data(data):
            if isinstance(event, ResponseReceived):
                answered = [(str(name), str(value)) for name, value in event.headers]
            elif isinstance(event, DataReceived):
                body += event.data
                http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamReset | ConnectionTerminated):
                raise ConnectionError(f"HTTP/2: broken off with error {event.error_code}")
            if isinstance(event, StreamEnded) or len(body) >= most:
                return answered, body[:most]
        connection.sendall(http2.data_to_send())
    raise TimeoutError("HTTP/2: the answer did not end in time")
