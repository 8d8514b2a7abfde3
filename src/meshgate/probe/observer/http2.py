"""One request over HTTP/2 in plaintext, with the standard library only.

The dynamic table of HPACK is switched off (RFC 7541, 4.2), so that a header is decoded by itself.
"""

import itertools
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK, PADDED, PRIORITY = 1, 4, 1, 8, 32
STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}  # of the static table
BODY = 4096
# of the Huffman code (RFC 7541, appendix B): the length of each symbol's code, from "a" for 5
_LENGTHS = (
    "isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibcccccccccccccc"
    "ccccccccdcdioijbkabababbbaccbbbabcbaabccccckgjixprpprrrsrssssststtrstssssqrsrsst"
    "rqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsruvvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvs"
    "vwvvwwwwwxwwwwwvz"
)
_END_OF_STRING = 256


class Answered(NamedTuple):
    """An answer; header names are lower case, trailers among them."""

    status: int
    headers: dict[str, str]
    body: bytes


def _codes() -> dict[tuple[int, int], int]:
    """Return (length, code) to symbol: the code is canonical."""
    lengths = [ord(letter) - ord("a") + 5 for letter in _LENGTHS]
    found, code, before = {}, 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda each: (lengths[each], each)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        found[before, code] = symbol
        code += 1
    return found


_CODES = _codes()


def huffman(data: bytes) -> bytes:
    """Decode a Huffman-encoded string; the padding is ignored."""
    found, code, length = bytearray(), 0, 0
    for bit in itertools.chain.from_iterable(
        ((byte >> shift) & 1 for shift in range(7, -1, -1)) for byte in data
    ):
        code, length = code << 1 | bit, length + 1
        symbol = _CODES.get((length, code))
        if symbol is not None and symbol != _END_OF_STRING:
            found.append(symbol)
            code = length = 0
    return bytes(found)


def decode(block: bytes) -> dict[str, str]:
    """Return the headers of a block; those whose name only the static table has are left out."""
    headers: dict[str, str] = {}
    reader = _Block(block)
    while reader.left:
        first = reader.peek()
        if first & 0x80:
            index = reader.number(7)
            if index in STATUSES:
                headers[":status"] = str(STATUSES[index])
        elif first & 0xE0 == 0x20:
            reader.number(5)  # the new size of the dynamic table
        else:
            index = reader.number(6 if first & 0x40 else 4)
            name = reader.string() if index == 0 else ":status" if index in STATUSES else ""
            value = reader.string()
            if index == 54:
                name = "server"
            if name:
                headers[name] = value
    return headers


class _Block:
    def __init__(self, block: bytes) -> None:
        self._block, self._at = block, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._block)

    def peek(self) -> int:
        return self._block[self._at]

    def number(self, bits: int) -> int:
        most = (1 << bits) - 1
        value = self._block[self._at] & most
        self._at += 1
        if value < most:
            return value
        for shift in itertools.count(0, 7):
            byte = self._block[self._at]
            self._at += 1
            value += (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        return value

    def string(self) -> str:
        coded = self.peek() & 0x80
        length = self.number(7)
        data = self._block[self._at : self._at + length]
        self._at += length
        return (huffman(data) if coded else data).decode(errors="replace")


def _literal(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest = len(data) - 127
    return bytes([127]) + _continued(rest) + data


def _continued(rest: int) -> bytes:
    found = bytearray()
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes([*found, rest])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def send(
    connection: socket.socket, headers: dict[str, str], body: bytes, left: Callable[[], float]
) -> Answered:
    """Send a request and return the answer; raise OSError if there is none.

    Args:
        connection: to a server that expects HTTP/2.
        headers: the pseudo-headers first.
        body: of the request; empty for none.
        left: returns the seconds left; raises TimeoutError after the deadline.

    Returns:
        Status, headers with the trailers, and the beginning of the body.
    """
    block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers.items())
    no_table = struct.pack(">HI", 1, 0) + struct.pack(">HI", 2, 0)  # nor pushed streams
    ends = 0 if body else END_STREAM
    request = PREFACE + _frame(SETTINGS, 0, 0, no_table)
    request += _frame(HEADERS, END_HEADERS | ends, 1, block)
    if body:
        request += _frame(DATA, END_STREAM, 1, body)
    connection.settimeout(left())
    connection.sendall(request)
    return _Answer(connection, left).read()


class _Answer:
    def __init__(self, connection: socket.socket, left: Callable[[], float]) -> None:
        self._connection, self._left = connection, left
        self._waiting = b""
        self._headers: dict[str, str] = {}
        self._block = b""
        self._body = b""

    def read(self) -> Answered:
        while True:
            kind, flags, stream, payload = self._next()
            if kind == SETTINGS and not flags & ACK:
                self._connection.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._connection.sendall(_frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                last, error = struct.unpack(">II", payload[:8])
                if error or last < 1:
                    raise ConnectionError(f"HTTP/2: closed with error {error}")
            elif stream == 1 and self._ends(kind, flags, payload):
                status = int(self._headers.get(":status", "0"))
                return Answered(status, self._headers, self._body)

    def _ends(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == RESET:
            raise ConnectionError(f"HTTP/2: reset with error {int.from_bytes(payload, 'big')}")
        if kind == DATA:
            self._body += _unpadded(payload, flags)
        elif kind in (HEADERS, CONTINUATION):
            payload = _unpadded(payload, flags) if kind == HEADERS else payload
            self._block += payload[5:] if kind == HEADERS and flags & PRIORITY else payload
            if flags & END_HEADERS:
                self._headers |= decode(self._block)
                self._block = b""
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            return True
        return len(self._body) >= BODY  # an answer may never end

    def _next(self) -> tuple[int, int, int, bytes]:
        head = self._exactly(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return kind, flags, stream & 0x7FFFFFFF, self._exactly(int.from_bytes(head[:3], "big"))

    def _exactly(self, count: int) -> bytes:
        while len(self._waiting) < count:
            self._connection.settimeout(self._left())
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("HTTP/2: the connection was closed")
            self._waiting += data
        data, self._waiting = self._waiting[:count], self._waiting[count:]
        return data


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
