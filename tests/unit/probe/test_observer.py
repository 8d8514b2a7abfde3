"""The observer on loopback: what it sends, what it keeps, and how it travels."""

import contextlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import msgspec
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from meshgate.probe.observer import calls, evidence, http2, program, source
from meshgate.probe.observer.calls import Target
from meshgate.probe.watch import flow
from meshgate.snapshot.watch import Flow
from tests.conftest import Serve
from tests.support.fakes import Answer

BEGIN = 1_767_355_200.0  # 2026-01-02 12:00:00 UTC
ENVOY = {"server": "envoy"}
BEHIND = {**ENVOY, "x-envoy-upstream-service-time": "1"}


def seen(data: evidence.Flow) -> Flow:
    return flow(data.as_data(), target="a", kind="http1", subject="Service a/b")


# --- evidence -----------------------------------------------------------------------------------


def test_losses_are_counted_with_their_times_and_neighbors_are_one_interval() -> None:
    kept = evidence.Flow(1000)
    kept.note(BEGIN, 3)
    for second in (10, 11, 12, 40):
        kept.note(BEGIN + second, 1, "503 no healthy upstream")
    kept.note(BEGIN + 41, 2500)

    found = seen(kept)

    assert found.sent == 6
    assert [(each.count, f"{each.first:%M:%S}", f"{each.last:%M:%S}") for each in found.lost] == [
        (3, "00:10", "00:12"),
        (1, "00:40", "00:40"),
    ]
    assert (found.losses, found.failing) == (4, "")
    assert [each.why for each in found.slow] == ["slower than 1000 ms"]
    assert sum(sum(each.counts) for each in found.buckets) == 2


def test_what_never_worked_is_not_lost() -> None:
    kept = evidence.Flow(1000)
    kept.note(BEGIN, 1, "no answer in time")

    found = seen(kept)

    assert (found.sent, found.losses, found.answered) == (0, 0, None)
    assert found.failing == "no answer in time"


def test_the_size_does_not_depend_on_the_time() -> None:
    kept = evidence.Flow(1000)
    for second in range(6 * 3600):
        # a loss every minute, each with another reason
        kept.note(BEGIN + second, second % 700, f"{second}" if second % 60 == 30 else "")

    found = seen(kept)

    assert len(found.buckets) <= evidence.BUCKETS
    assert sum(sum(each.counts) for each in found.buckets) == 6 * 3600 - 360
    assert (len(found.lost), found.losses) == (evidence.INTERVALS, 360)
    assert len(msgspec.json.encode(found)) < 32_000


# --- requests -----------------------------------------------------------------------------------


@pytest.fixture
def peer() -> Iterator[tuple[int, int]]:
    """The ports of what an observer serves: HTTP, and an echo."""
    serving = program.servers("127.0.0.1", 0, 0)
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in serving]
    for thread in threads:
        thread.start()
    yield serving[0].server_address[1], int(serving[1].server_address[1])
    for server in serving:
        server.shutdown()
        server.server_close()


def target(kind: str, port: int, path: str = "/", **of: Any) -> Target:
    return Target(kind, kind, "127.0.0.1", port, path, **{"method": "GET", **of})


def test_a_peer_answers_each_kind_of_request(peer: tuple[int, int]) -> None:
    http, echo = peer

    assert calls.call(target("http1", http)) == ("", "")
    assert calls.call(target("tcp", echo, echo=True)).why == ""


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Answer(200, headers=BEHIND), ""),
        (Answer(403, headers=BEHIND), ""),
        (Answer(501), ""),
        (Answer(403, b"RBAC: access denied", headers=ENVOY), "403 RBAC: access denied"),
        (Answer(404, headers=ENVOY), "404 no route"),
        (Answer(404, headers=BEHIND), ""),
        (Answer(503, b"no healthy upstream", headers=ENVOY), "503 no healthy upstream"),
        (Answer(503, b"my own words", headers=BEHIND), "503"),
    ],
    ids=map(str, range(8)),
)
def test_an_answer_is_a_loss_if_the_server_was_not_reached_or_failed(
    serve: Serve, given: Answer, why: str
) -> None:
    server = serve({"/": given})

    assert calls.call(target("http1", int(server.url.rpartition(":")[2]))).why == why


def test_a_port_without_a_server_and_a_proxy_that_closes_are_losses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]

        def close() -> None:
            closing.accept()[0].close()

        thread = threading.Thread(target=close)
        thread.start()
        assert calls.call(target("tcp", port)).why == "closed without a byte"
        thread.join()
    assert calls.call(target("tcp", port)).why == "Connection refused"


Reply = Callable[[H2Connection, int], None]


@contextlib.contextmanager
def http2_server(reply: Reply) -> Iterator[int]:
    """The port of a server that replies so to each request over HTTP/2."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
            server.initiate_connection()
            self.request.sendall(server.data_to_send())
            while data := self.request.recv(65536):
                for event in server.receive_data(data):
                    if isinstance(event, RequestReceived):
                        reply(server, event.stream_id)
                self.request.sendall(server.data_to_send())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def replying(status: str, trailers: dict[str, str] | None = None, **headers: str) -> Reply:
    def reply(server: H2Connection, stream: int) -> None:
        named = [(":status", status), *((n.replace("_", "-"), v) for n, v in headers.items())]
        server.send_headers(stream, named, end_stream=trailers is None)
        if trailers is not None:
            server.send_headers(stream, list(trailers.items()), end_stream=True)

    return reply


@pytest.mark.parametrize(
    ("kind", "reply", "why"),
    [
        ("http2", replying("200", server="envoy"), ""),
        ("http2", replying("418"), ""),
        ("http2", replying("503", server="envoy"), "503"),
        ("grpc", replying("200", {"grpc-status": "0"}), ""),
        ("grpc", replying("200", {"grpc-status": "12", "grpc-message": "Überraschung"}), ""),
        ("grpc", replying("200", grpc_status="14", grpc_message="no healthy upstream"),
         "grpc-status 14 no healthy upstream"),
        ("grpc", replying("200", grpc_status="7", grpc_message="RBAC: access denied"),
         "grpc-status 7 RBAC: access denied"),
        ("grpc", replying("200", grpc_status="7", grpc_message="my policy"), ""),
        ("grpc", replying("200"), "no grpc-status"),
        ("http2", lambda server, stream: server.reset_stream(stream, 2),
         "HTTP/2: reset with error 2"),
        ("http2", lambda server, stream: server.close_connection(7, last_stream_id=0),
         "HTTP/2: closed with error 7"),
    ],
    ids=map(str, range(11)),
)  # fmt: skip
def test_http2_and_grpc(kind: str, reply: Reply, why: str) -> None:
    with http2_server(reply) as port:
        assert calls.call(target(kind, port)).why == why


def test_every_octet_of_the_huffman_code() -> None:
    data = bytes(range(256))
    encoded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(data)

    assert http2.huffman(encoded) == data


# --- long-lived connections ---------------------------------------------------------------------


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it was not so within 10 s"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["idle", "stream", "websocket"])
def test_a_connection_is_kept_and_its_interruption_is_counted(kind: str) -> None:
    http, echo = program.servers("127.0.0.1", 0, 0)
    server: socketserver.TCPServer = echo if kind == "idle" else http
    held: list[socket.socket] = []
    accept = server.get_request

    def get_request() -> tuple[socket.socket, Any]:
        connection, address = accept()
        held.append(connection)
        return connection, address

    server.get_request = get_request  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    port, path = server.server_address[1], "/stream" if kind == "stream" else "/ws"
    observer = program.Observer([target(kind, int(port), path, echo=True)], 10, 1000)

    def found() -> Flow:
        return flow(observer.evidence()[kind], target="a", kind=kind, subject="Service a/b")

    observer.start()
    until(lambda: found().sent == 1)
    held[0].shutdown(socket.SHUT_RDWR)
    until(lambda: found().losses == 1)
    until(lambda: found().sent == 2)
    observer.stop.set()
    server.shutdown()
    thread.join()
    http.server_close()
    echo.server_close()

    assert found().lost[0].why in ("the connection was closed", "Connection reset by peer")
    assert found().failing == ""
    assert found().long_lived


# --- the program --------------------------------------------------------------------------------


def test_the_rate_is_bounded_over_all_targets(peer: tuple[int, int]) -> None:
    http, _ = peer
    both = [target("http1", http)._replace(key=name) for name in ("a", "b")]
    observer = program.Observer(both, 50, 1000)

    began = time.monotonic()
    observer.start()
    until(lambda: sum(each["sent"] for each in observer.evidence().values()) >= 20)
    took = time.monotonic() - began
    observer.stop.set()

    assert took >= 19 / 50 - 0.05
    a, b = (each["sent"] for each in observer.evidence().values())
    assert abs(a - b) <= program.WORKERS


def test_its_modules_travel_in_the_command_and_import_only_the_standard_library() -> None:
    words = source.command({"targets": [], "rate": 1, "slowAfter": 1})
    assert max(map(len, words)) < 128 * 1024  # Linux' limit for one argument
    code = words[2].replace("module.main(sys.argv[3])", "print(module.named('URI=a'))")

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *words[3:]],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "a\n"), done.stderr


def test_the_evidence_is_served(peer: tuple[int, int]) -> None:
    observer = program.Observer([target("http1", peer[0])], 50, 1000)
    observer.start()
    server = program.evidence_server(observer, 0, "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    until(lambda: observer.evidence()["http1"]["sent"] > 0)
    observer.stop.set()
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
    connection.request("GET", "/")
    data = json.loads(connection.getresponse().read())
    connection.close()
    server.shutdown()
    server.server_close()
    thread.join()

    assert data["http1"]["sent"] > 0
    assert data["http1"]["caller"] == ""
