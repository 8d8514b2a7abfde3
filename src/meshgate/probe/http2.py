"""One request over HTTP/2, on a connection that is there."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

Headers = list[tuple[str, str]]
HEADER, GOAWAY = 9, 7  # octets of a frame's header; a frame's type (RFC 9113)


def ask(
    connection: socket.socket,
    headers: Sequence[tuple[str, str]],
    timeout: float,
    most: int,
    send: bytes = b"",
) -> tuple[Headers, bytes]:
    """Sends headers, `:method` and the like among them, and a small body; what came back, trailers
    among the headers, of the body `most` bytes.

    Raises OSError where there is no answer.
    """
    try:
        return _ask(connection, headers, time.monotonic() + timeout, most, send)
    except H2Error as error:
        raise ConnectionError(f"HTTP/2: {error or type(error).__name__}") from error


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """The frames that are whole, and what is left of the next one."""
    frames = []
    while len(data) >= HEADER:
        length = HEADER + int.from_bytes(data[:3], "big")
        if len(data) < length:
            break
        frames.append(data[:length])
        data = data[length:]
    return frames, data


def _events(http2: H2Connection, frames: list[bytes], stream: int) -> Iterator[Event]:
    """What frames mean.  A farewell is not told to h2, which would take no more after it.

    A proxy that drains bids farewell, and answers what it has taken up all the same.
    """
    for frame in frames:
        if frame[3] != GOAWAY:
            yield from http2.receive_data(frame)
            continue
        last, error = (int.from_bytes(frame[at : at + 4], "big") for at in (HEADER, HEADER + 4))
        if error or last < stream:
            raise ConnectionError(f"HTTP/2: broken off with error {error}")


def _ask(
    connection: socket.socket,
    headers: Sequence[tuple[str, str]],
    end: float,
    most: int,
    send: bytes,
) -> tuple[Headers, bytes]:
    http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http2.initiate_connection()
    stream = http2.get_next_available_stream_id()
    http2.send_headers(stream, list(headers), end_stream=not send)
    if send:
        http2.send_data(stream, send, end_stream=True)
    connection.sendall(http2.data_to_send())
    answered: Headers = []
    body, waiting = b"", b""
    while time.monotonic() < end:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("HTTP/2: the connection was closed")
        frames, waiting = _split(waiting + data)
        for event in _events(http2, frames, stream):
            if isinstance(event, ResponseReceived | TrailersReceived):
                answered += [(str(name), str(value)) for name, value in event.headers]
            elif isinstance(event, DataReceived):
                body += event.data
                http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamReset):
                raise ConnectionError(f"HTTP/2: broken off with error {event.error_code}")
            if isinstance(event, StreamEnded) or len(body) >= most:
                return answered, body[:most]
        with suppress(OSError):  # who has closed may have answered before
            connection.sendall(http2.data_to_send())
    raise TimeoutError("HTTP/2: the answer did not end in time")
