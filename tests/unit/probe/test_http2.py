"""One request over HTTP/2, to a server that speaks it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Thread

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from hyperframe.frame import GoAwayFrame

from meshgate.probe import http2
from meshgate.probe.pace import RequestDeadline

ASKED = [(":method", "GET"), (":scheme", "http"), (":authority", "a.b"), (":path", "/x")]


def ask(connection: socket.socket, most: int, send: bytes = b"") -> http2.Answered:
    return http2.send(connection, http2.Ask(tuple(ASKED), send, most), RequestDeadline(5))


Reply = Callable[[H2Connection, int], None]


@contextmanager
def answering(reply: Reply) -> Iterator[tuple[socket.socket, list[tuple[str, str]]]]:
    """A connection to a server that replies so to the first request, and what it was asked."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    asked: list[tuple[str, str]] = []

    def serve() -> None:
        server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        server.initiate_connection()
        theirs.sendall(server.data_to_send())
        while not asked and (data := theirs.recv(65536)):
            for event in server.receive_data(data):
                if isinstance(event, RequestReceived):
                    asked.extend((str(name), str(value)) for name, value in event.headers)
                    reply(server, event.stream_id)
        theirs.sendall(server.data_to_send())
        theirs.shutdown(socket.SHUT_WR)

    thread = Thread(target=serve)
    thread.start()
    with closing(theirs), closing(ours):
        yield ours, asked
        thread.join()


def test_an_answer() -> None:
    def reply(server: H2Connection, stream: int) -> None:
        server.send_headers(stream, [(":status", "200"), ("server", "envoy")])
        server.send_data(stream, b"all is well", end_stream=True)

    with answering(reply) as (connection, asked):
        _, headers, body = ask(connection, 3)

    assert asked == ASKED
    assert headers == {":status": "200", "server": "envoy"}
    assert body == "all"


def test_a_body_is_sent_and_trailers_are_part_of_the_answer() -> None:
    def reply(server: H2Connection, stream: int) -> None:
        server.send_headers(stream, [(":status", "200")])
        server.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    with answering(reply) as (connection, asked):
        _, headers, body = ask(connection, 3, bytes(5))

    assert asked == ASKED
    assert headers == {":status": "200", "grpc-status": "0"}
    assert body == ""


def test_an_answer_after_a_farewell() -> None:
    farewell = GoAwayFrame(0, last_stream_id=1, error_code=0).serialize()

    def reply(server: H2Connection, stream: int) -> None:
        server.send_headers(stream, [(":status", "200")], end_stream=True)
        answer = server.data_to_send()
        server._data_to_send = bytearray(farewell + answer)

    with answering(reply) as (connection, _):
        _, headers, _ = ask(connection, 3)

    assert headers == {":status": "200"}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda server, stream: server.reset_stream(stream, 7), "reset with error 7"),
        (lambda server, stream: server.close_connection(1), "reset with error 1"),
        (
            lambda server, stream: server.clear_outbound_data_buffer(),
            "was closed",
        ),
    ],
)
def test_no_answer(reply: Reply, why: str) -> None:
    with answering(reply) as (connection, _), pytest.raises(OSError, match=why):
        ask(connection, 100)


def test_what_is_no_http_2() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        theirs.shutdown(socket.SHUT_WR)

        with pytest.raises(ConnectionError, match="HTTP/2"):
            ask(ours, 100)
