"""One request of each kind, and long-lived connections."""

import base64
import contextlib
import http.client
import json
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from meshgate.probe.observer import http2

TIMEOUT = 5.0  # seconds of a request, and of opening a connection
QUIET = 0.5  # seconds after which a TCP connection that says nothing counts as open
SILENT = 10.0  # seconds without a byte after which a stream is interrupted
PING = 2.0  # seconds between two pings of a WebSocket
AGENT = "meshgate (watches an Istio upgrade)"
LINE = b"meshgate\n"
UNAVAILABLE, DENIED, SLOW = "14", "7", "4"  # statuses of gRPC
GRPC_PATH = "/grpc.health.v1.Health/Check"  # the standard method that changes nothing
LONG_LIVED = ("idle", "stream", "websocket")


class Target(NamedTuple):
    """What is called: `kind` is http1, http2, grpc, tcp, idle, stream or websocket.

    `echo`: whether the server repeats a line; `method`: of http1 and http2.
    """

    key: str
    kind: str
    host: str
    port: int
    path: str = "/"
    method: str = "OPTIONS"
    echo: bool = False

    @property
    def authority(self) -> str:
        """Return `host[:port]` for a header."""
        return self.host if self.port == 80 else f"{self.host}:{self.port}"


class Seen(NamedTuple):
    """The result of one request: what is wrong, and the identity that a peer saw."""

    why: str = ""
    caller: str | None = None


def call(target: Target) -> Seen:
    """Send one request on a connection that is used for nothing else."""
    try:
        with _connected(target) as connection:
            return _CALLS[target.kind](connection, target)
    except (OSError, http.client.HTTPException, ValueError, IndexError, struct.error) as error:
        return Seen(words(error))


def words(error: BaseException) -> str:
    """Return an error in words without numbers that change."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


@contextmanager
def _connected(target: Target) -> Iterator[socket.socket]:
    with contextlib.closing(
        socket.create_connection((target.host, target.port), TIMEOUT)
    ) as connection:
        yield connection


def _left() -> Callable[[], float]:
    end = time.monotonic() + TIMEOUT

    def left() -> float:
        if (seconds := end - time.monotonic()) > 0:
            return seconds
        raise TimeoutError

    return left


def _http1(connection: socket.socket, target: Target) -> Seen:
    client = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT)
    client.sock = connection
    headers = {"Host": target.authority, "User-Agent": AGENT, "Connection": "close"}
    client.request(target.method, target.path, headers=headers)
    answer = client.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    # an application's answer may be a stream that never ends
    endless = answer.length is None and "x-envoy-upstream-service-time" in found
    return _judged(answer.status, found, b"" if endless else answer.read(2000))


def _http2(connection: socket.socket, target: Target) -> Seen:
    answer = http2.send(connection, _pseudo(target, target.method, target.path), b"", _left())
    return _judged(*answer)


def _grpc(connection: socket.socket, target: Target) -> Seen:
    path = target.path if len(target.path) > 1 else GRPC_PATH
    headers = _pseudo(target, "POST", path) | {
        "content-type": "application/grpc",
        "te": "trailers",
    }
    answer = http2.send(connection, headers, bytes(5), _left())
    status = answer.headers.get("grpc-status", "")
    message = answer.headers.get("grpc-message", "")
    if answer.status != 200:
        return _judged(*answer)
    if status in (UNAVAILABLE, SLOW) or (status == DENIED and message.startswith("RBAC")):
        return Seen(f"grpc-status {status} {message}".strip())
    return Seen() if status else Seen("no grpc-status")


def _pseudo(target: Target, method: str, path: str) -> dict[str, str]:
    return {
        ":method": method,
        ":scheme": "http",
        ":authority": target.authority,
        ":path": path,
        "user-agent": AGENT,
    }


def _judged(status: int, headers: dict[str, str], body: bytes) -> Seen:
    """Return what is wrong with an answer: a denial, no route, no backend, or its own 5xx."""
    text = body[:120].decode(errors="replace")
    if status == 403 and text.startswith("RBAC: access denied"):
        return Seen("403 RBAC: access denied")
    own = headers.get("server") == "envoy" and "x-envoy-upstream-service-time" not in headers
    if status == 404 and own:
        return Seen("404 no route")
    if status in (500, 502, 503, 504):
        return Seen(
            f"{status} {text}".strip() if own or "upstream connect" in text else f"{status}"
        )
    caller = None
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        if isinstance(answer, dict) and isinstance(answer.get("caller"), str):
            caller = answer["caller"]
    return Seen(caller=caller)


def _tcp(connection: socket.socket, target: Target) -> Seen:
    """A sidecar accepts every connection, and closes those whose server it cannot reach."""
    if target.echo:
        connection.settimeout(TIMEOUT)
        connection.sendall(LINE)
        return Seen() if connection.recv(len(LINE)) else Seen("closed without a byte")
    connection.settimeout(QUIET)
    with contextlib.suppress(TimeoutError):
        if not connection.recv(1):
            return Seen("closed without a byte")
    return Seen()


_CALLS: dict[str, Callable[[socket.socket, Target], Seen]] = {
    "http1": _http1,
    "http2": _http2,
    "grpc": _grpc,
    "tcp": _tcp,
}


class Interrupted(Exception):
    """A long-lived connection that was open ended, with the reason."""


def hold(target: Target, opened: Callable[[], None], stopped: Callable[[], bool]) -> None:
    """Open a long-lived connection and keep it until it ends or until `stopped`.

    Args:
        target: what is called.
        opened: is called once the server has answered on it.
        stopped: returns whether to stop.

    Raises:
        OSError: it could not be opened.
        Interrupted: it was open and ended.
    """
    with _connected(target) as connection:
        keep = {"idle": _idle, "stream": _stream, "websocket": _websocket}[target.kind]
        keep(connection, target, opened, stopped)


def _receive(connection: socket.socket, seconds: float) -> bytes | None:
    """Return what arrives; None if nothing does in time; raise Interrupted at the end."""
    connection.settimeout(seconds)
    try:
        data = connection.recv(65536)
    except TimeoutError:
        return None
    except OSError as error:
        raise Interrupted(words(error)) from error
    if not data:
        raise Interrupted("the connection was closed")
    return data


def _idle(
    connection: socket.socket,
    target: Target,
    opened: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    seen = _tcp(connection, target)
    if seen.why:
        raise ConnectionError(seen.why)
    opened()
    while not stopped():
        _receive(connection, 1.0)


def _head(connection: socket.socket, target: Target, headers: str) -> tuple[str, bytes]:
    """Send a GET; return the head of the answer, and what follows it."""
    connection.sendall(
        f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
        f"User-Agent: {AGENT}\r\n{headers}\r\n".encode()
    )
    left, data = _left(), b""
    while b"\r\n\r\n" not in data:
        connection.settimeout(left())
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed without an answer")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(errors="replace"), rest


def _stream(
    connection: socket.socket,
    target: Target,
    opened: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    head, _ = _head(connection, target, "Accept: */*\r\n")
    status = head.split(" ", 2)[1] if " " in head else ""
    if not status.startswith("2"):
        raise ConnectionError(f"answered {head.splitlines()[0][9:]}")
    opened()
    last, tail = time.monotonic(), b""
    while not stopped():
        data = _receive(connection, 1.0)
        if data:
            last, tail = time.monotonic(), (tail + data)[-7:]
            if tail.endswith(b"0\r\n\r\n"):
                raise Interrupted("the server ended the stream")
        elif time.monotonic() - last > SILENT:
            raise Interrupted(f"silent for {SILENT:.0f} s")


def _websocket(
    connection: socket.socket,
    target: Target,
    opened: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    head, _ = _head(
        connection,
        target,
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n",
    )
    if " 101 " not in head.splitlines()[0]:
        raise ConnectionError(f"answered {head.splitlines()[0][9:]}")
    opened()
    heard = asked = time.monotonic()
    while not stopped():
        if time.monotonic() - asked >= PING:
            asked = time.monotonic()
            try:
                connection.sendall(b"\x89\x80" + secrets.token_bytes(4))  # a masked, empty ping
            except OSError as error:
                raise Interrupted(words(error)) from error
        data = _receive(connection, 0.5)
        if data:
            heard = time.monotonic()
            if data[0] & 0x0F == 8:
                raise Interrupted("the server closed the WebSocket")
        elif time.monotonic() - heard > SILENT:
            raise Interrupted(f"silent for {SILENT:.0f} s")


def targets(data: list[dict[str, Any]]) -> list[Target]:
    """Return the targets of JSON data."""
    return [Target(**each) for each in data]
