"""The client of HBONE: TLS to port 15008 of a pod, and an HTTP/2 CONNECT that opens a tunnel.

All requests through ztunnel or a waypoint use a `Tunnel`.  An open one proves little by
itself: a waypoint answers CONNECT with 200 for every address.
"""

import io
import socket
import ssl
from contextlib import suppress
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error

from meshgate.probe.pace import RequestDeadline

PORT = 15008
ALPN = ("h2",)
OPEN = 200  # the answer to a CONNECT that opened a tunnel


class Tunnel:
    """The stream of one CONNECT, with as much of a socket as http.client needs.

    Args:
        connection: TLS to port 15008, with the ALPN protocol h2.
        deadline: of everything that is sent and received.
    """

    def __init__(self, connection: ssl.SSLSocket, deadline: RequestDeadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http2.initiate_connection()
        self._id = self._http2.get_next_available_stream_id()
        self._status = 0
        self._received = b""
        self._ended = False
        self._accepted = False

    @property
    def accepted(self) -> bool:
        """Whether the server has spoken HTTP/2: with TLS 1.3 it may refuse a certificate later."""
        return self._accepted

    def open(self, authority: str) -> int:
        """Send CONNECT for an `address:port`; return the status that answers it.

        Raises TimeoutError after the deadline, OSError (ConnectionError if the server closes the
        connection or resets the stream without an answer) or H2Error.
        """
        self._http2.send_headers(self._id, [(":method", "CONNECT"), (":authority", authority)])
        self._flush()
        while not self._status and not self._ended:
            self._receive()
        if not self._status:
            raise ConnectionError("the stream was reset")
        return self._status

    def refusal(self, most: int) -> str:
        """Return the body of an answer to CONNECT other than 200, as far as it arrives."""
        with suppress(OSError, H2Error):
            while not self._ended and len(self._received) < most:
                self._receive()
        return self._received[:most].decode(errors="replace")

    def sendall(self, data: bytes) -> None:
        """Send data into the tunnel; raise TimeoutError after the deadline."""
        size = self._http2.max_outbound_frame_size
        for start in range(0, len(data), size):
            self._http2.send_data(self._id, data[start : start + size])
            self._flush()

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return the reader of what comes out of the tunnel."""
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Leave the connection open: its owner closes it."""

    def read(self, most: int) -> bytes:
        """Return what is there, or nothing at the end; raise TimeoutError after the deadline."""
        while not self._received and not self._ended:
            self._receive()
        found, self._received = self._received[:most], self._received[most:]
        return found

    def _flush(self) -> None:
        self._connection.settimeout(self._deadline.check())
        self._connection.sendall(self._http2.data_to_send())

    def _receive(self) -> None:
        self._connection.settimeout(self._deadline.check())
        data = self._connection.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed")
        self._accepted = True
        for event in self._http2.receive_data(data):
            if isinstance(event, ResponseReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self._status = int(headers.get(":status", 0))
            elif isinstance(event, DataReceived):
                self._received += event.data
                self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded | StreamReset):
                # a server that has answered resets the stream, as the tunnel is still open to it
                self._ended = True
        with suppress(OSError):  # the other side may have answered before it closed
            self._flush()


class _Reader(io.RawIOBase):
    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._tunnel.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def connected(address: str, deadline: RequestDeadline) -> socket.socket:
    """Return a TCP connection to port 15008 of an address; raise OSError without one."""
    return socket.create_connection((address, PORT), deadline.check())
