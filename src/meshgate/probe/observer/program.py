"""The observer: sends requests to its targets at a bounded rate, and serves what it has seen.

It also serves the other observers: HTTP with the caller's identity, a stream, a WebSocket, an echo.
"""

import base64
import hashlib
import http.server
import itertools
import json
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from meshgate.probe.observer.calls import (
    LONG_LIVED,
    Interrupted,
    Target,
    call,
    hold,
    targets,
    words,
)
from meshgate.probe.observer.evidence import Flow
from meshgate.probe.peer import named

HTTP, ECHO, EVIDENCE = 8080, 9000, 8079
WORKERS = 8
BEAT = 1.0  # seconds between two lines of the stream that is served
AGAIN = (0.2, 5.0)  # seconds until a connection is opened again: at first, at most
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455


class Observer:
    """Sends the requests.

    Args:
        called: the targets.
        rate: requests per second, over all targets except long-lived connections.
        slow_after: milliseconds from which on an answer is slow.
        clock: the time in seconds since the epoch.
    """

    def __init__(
        self,
        called: list[Target],
        rate: float,
        slow_after: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._flows = {each.key: Flow(slow_after) for each in called}
        self._short = [each for each in called if each.kind not in LONG_LIVED]
        self._long = [each for each in called if each.kind in LONG_LIVED]
        self._gap = 1 / rate if rate else 0.0
        self._turns = itertools.cycle(self._short)
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self.stop = threading.Event()

    def start(self) -> None:
        """Start sending, in threads that never delay the end of the process."""
        works = [self._work for _ in range(WORKERS if self._short else 0)]
        works += [lambda each=each: self._keep(each) for each in self._long]  # type: ignore[misc]
        for work in works:
            threading.Thread(target=work, daemon=True).start()

    def evidence(self) -> dict[str, Any]:
        """Return what was seen so far, by the targets' keys."""
        return {key: flow.as_data() for key, flow in self._flows.items()}

    def _work(self) -> None:
        while not self.stop.is_set():
            with self._lock:
                turn = max(self._next, time.monotonic())
                self._next = turn + self._gap
                target = next(self._turns)
            if self.stop.wait(max(0.0, turn - time.monotonic())):
                return
            at, began = self._clock(), time.monotonic()
            seen = call(target)
            took = (time.monotonic() - began) * 1000
            self._flows[target.key].note(at, took, seen.why, seen.caller)

    def _keep(self, target: Target) -> None:
        flow, pause = self._flows[target.key], AGAIN[0]
        while not self.stop.is_set():
            began = time.monotonic()
            at = self._clock()

            def opened(at: float = at, began: float = began) -> None:
                flow.note(at, (time.monotonic() - began) * 1000)

            try:
                hold(target, opened, self.stop.is_set)
                return
            except Interrupted as error:
                flow.interrupted(self._clock(), str(error))
                pause = AGAIN[0]
            except Exception as error:  # whatever it is, it is evidence
                flow.unopened(f"cannot be opened: {words(error)}")
                pause = min(2 * pause, AGAIN[1])
            self.stop.wait(pause)


class _Http(http.server.BaseHTTPRequestHandler):
    """What the other observers call."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
        elif self.headers.get("upgrade", "").lower() == "websocket":
            self._websocket()
        else:
            caller = named(self.headers.get("x-forwarded-client-cert", ""))
            _send(self, json.dumps({"caller": caller}).encode())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"5\r\nbeat\n\r\n")
            self.wfile.flush()
            time.sleep(BEAT)

    def _websocket(self) -> None:
        key = self.headers.get("sec-websocket-key", "") + _ACCEPT
        accepted = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
        self.send_response(101)
        for name, value in {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Accept": base64.b64encode(accepted).decode(),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        while self.rfile.read(6):  # a ping: masked and empty
            self.wfile.write(b"\x8a\x00")
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)
            self.wfile.flush()


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: a client that goes away is what is observed elsewhere."""


class _HttpServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing, as above."""


def _send(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def evidence_server(
    observer: Observer, port: int = EVIDENCE, host: str = ""
) -> http.server.ThreadingHTTPServer:
    """Return the server of the evidence; it takes no other request.

    Args:
        observer: whose evidence is served.
        port: the port; 0 for any.
        host: the address; empty for all.

    Returns:
        The server, which does not serve yet.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _send(self, json.dumps(observer.evidence(), separators=(",", ":")).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return _HttpServer((host, port), Handler)


def servers(
    host: str = "", http_port: int = HTTP, echo_port: int = ECHO
) -> tuple[http.server.ThreadingHTTPServer, socketserver.ThreadingTCPServer]:
    """Return what the other observers call: HTTP, and an echo of lines.

    Args:
        host: the address; empty for all.
        http_port: of HTTP; 0 for any.
        echo_port: of the echo; 0 for any.

    Returns:
        Both servers, which do not serve yet.
    """
    return _HttpServer((host, http_port), _Http), _Threads((host, echo_port), _Echo)


def main(given: str) -> None:
    """Run until SIGTERM.

    Args:
        given: JSON with `targets`, `rate` and `slowAfter`.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    asked = json.loads(given)
    observer = Observer(targets(asked["targets"]), asked["rate"], asked["slowAfter"])
    for server in servers():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    observer.start()
    evidence_server(observer).serve_forever()
