"""Connections within a total time: names that are not resolved, and several addresses."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from meshgate.deadline import Deadline
from meshgate.probe.resolver import connect, connect_first, literal


@pytest.fixture
def listening() -> Iterator[int]:
    """A port on loopback that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system resolver that does not answer for names."""
    released, real = threading.Event(), socket.getaddrinfo

    def resolve(host: str, *more: Any, **options: Any) -> Any:
        return real(host, *more, **options) if literal(host) else released.wait(60)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield
    released.set()


@pytest.mark.usefixtures("slow_resolver")
def test_a_name_that_is_not_resolved_in_time_is_given_up() -> None:
    began = time.monotonic()

    with pytest.raises(TimeoutError, match=r"cannot resolve web\.example\.com within 0.2 s"):
        connect("web.example.com", 443, 0.2)

    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("slow_resolver")
def test_an_address_needs_no_resolver(listening: int) -> None:
    with connect_first(["127.0.0.1"], listening, Deadline(5)) as connection:
        assert connection.getpeername() == ("127.0.0.1", listening)


def test_a_name_is_resolved(listening: int) -> None:
    with connect("localhost", listening, 5) as connection:
        assert connection.getpeername()[1] == listening


def test_the_next_address_is_tried(listening: int) -> None:
    with connect_first(["::1", "127.0.0.1"], listening, Deadline(5)) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"


def test_the_addresses_share_the_time() -> None:
    began = time.monotonic()

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        queued = [socket.socket() for _ in range(4)]
        for each in queued:  # nobody accepts: further connections wait for an answer
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(OSError):  # noqa: PT011
            connect_first(["127.0.0.1"] * 8, port, Deadline(0.4))
        for each in queued:
            each.close()

    assert time.monotonic() - began < 5
