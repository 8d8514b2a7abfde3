"""One request over HTTP/2, on an open connection."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

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

from meshgate.probe.pace import RequestDeadline

Headers = list[tuple[str, str]]
HEADER, GOAWAY = 9, 7  # octets of a frame's header; a frame's type (RFC 9113)


class Ask(NamedTuple):
    """A request: headers (`:method` and the like among them), a small body, and a limit.

    `most`: how many octets of the answer's body are read.
    """

    headers: tuple[tuple[str, str], ...]
    send: bytes
    most: int


class Answered(NamedTuple):
    """An answer, over any version of HTTP; header names are lower case, trailers among them."""

    status: int
    headers: dict[str, str]
    body: str


def send(
    connection: socket.socket, ask: Ask, deadline: RequestDeadline, *, whole: bool = True
) -> Answered:
    """Send a request and return the answer; raise OSError if there is none.

    Args:
        connection: where the other side agreed to HTTP/2.
        ask: what is sent.
        deadline: for all of it.
        whole: whether an answer of unknown length is read to its end, which may never come.

    Returns:
        Status, headers with the trailers, and the body as far as it was read.
    """
    try:
        headers, body = _send(connection, ask, deadline, whole)
    except H2Error as error:
        raise ConnectionError(f"HTTP/2: {error or type(error).__name__}") from error
    named = dict(headers)
    return Answered(int(named.get(":status", 0)), named, body.decode(errors="replace"))


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete frames, and the beginning of the next one."""
    frames = []
    while len(data) >= HEADER:
        length = HEADER + int.from_bytes(data[:3], "big")
        if len(data) < length:
            break
        frames.append(data[:length])
        data = data[length:]
    return frames, data


def _events(http2: H2Connection, frames: list[bytes], stream: int) -> Iterator[Event]:
    """Return the events of frames; GOAWAY is not passed to h2, which accepts nothing after it.

    A proxy that drains sends GOAWAY, and still answers the requests that it has accepted.
    """
    for frame in frames:
        if frame[3] != GOAWAY:
            yield from http2.receive_data(frame)
            continue
        last, error = (int.from_bytes(frame[at : at + 4], "big") for at in (HEADER, HEADER + 4))
        if error or last < stream:
            raise ConnectionError(f"HTTP/2: reset with error {error}")


def _send(
    connection: socket.socket, ask: Ask, deadline: RequestDeadline, whole: bool
) -> tuple[Headers, bytes]:
    http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http2.initiate_connection()
    stream = http2.get_next_available_stream_id()
    http2.send_headers(stream, list(ask.headers), end_stream=not ask.send)
    if ask.send:
        http2.send_data(stream, ask.send, end_stream=True)
    connection.settimeout(deadline.check())
    connection.sendall(http2.data_to_send())
    answered: Headers = []
    body, waiting = b"", b""
    while True:
        connection.settimeout(deadline.check())
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
                raise ConnectionError(f"HTTP/2: reset with error {event.error_code}")
            if isinstance(event, StreamEnded) or len(body) >= ask.most:
                return answered, body[: ask.most]
        if body and not whole and "content-length" not in dict(answered):
            return answered, body
        with suppress(OSError):  # the other side may have answered before it closed
            connection.sendall(http2.data_to_send())
