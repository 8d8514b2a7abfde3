"""Bursts, against a server on loopback."""

import socket
import threading
import time
from collections.abc import Callable

import pytest

from meshgate.probe import burst
from meshgate.settings.target import Target
from meshgate.snapshot.retry_after import Burst
from tests.conftest import Serve
from tests.support.fakes import Answer, Request


def after(allowed: int, **headers: str) -> Callable[[Request], Answer]:
    """Answers 200 so many times, and 429 from then on."""
    left = iter(range(allowed))
    return lambda request: Answer(429 if next(left, None) is None else 200, headers=headers)


def one(text: str, most: int = 20) -> Burst:
    (seen,) = burst.ask([text], most)
    return seen


def test_it_ends_with_the_first_no(serve: Serve) -> None:
    server = serve({"/": after(3, **{"Retry-After": "20"})})

    seen = one(f"{server.url}/")

    assert (seen.status, seen.statuses, seen.retry_after) == (429, {200: 3}, ("20",))
    assert server.asked == ["GET /"] * 4


def test_it_ends_when_enough_was_sent(serve: Serve) -> None:
    server = serve({"/": after(100)})

    seen = one(f"{server.url}/", most=5)

    assert (seen.status, seen.statuses) == (200, {200: 4})
    assert len(server.asked) == 5


def test_another_address_keeps_the_host(serve: Serve) -> None:
    server = serve({"/path": Answer(503)})

    seen = one(f"http://shop.example.com/path via {server.url.removeprefix('http://')}")

    assert (seen.status, seen.retry_after) == (503, ())
    assert server.requests[0].headers["host"] == "shop.example.com"


def test_no_answer_is_told() -> None:
    seen = one("http://127.0.0.1:1/")

    assert seen.status == 0
    assert "refused" in seen.error


def test_a_stream_that_never_ends_is_an_answer() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def stream() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(2048)
            connection.sendall(b"HTTP/1.1 429 X\r\nRetry-After: 5\r\nContent-Length: 9\r\n\r\n")
            over.wait(10)

    threading.Thread(target=stream, daemon=True).start()
    seen = one(f"http://127.0.0.1:{server.getsockname()[1]}/")
    over.set()
    server.close()

    assert (seen.status, seen.retry_after) == (429, ("5",))


def test_a_target_that_answers_too_slowly_is_left(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst, "LONGEST", 0.3)

    def slow(request: Request) -> Answer:
        time.sleep(0.2)
        return Answer(200)

    seen = one(f"{serve({'/': slow}).url}/")

    assert "longer than 0 s in total" in seen.error


@pytest.mark.parametrize(
    "text", ["shop.example.com", "ftp://a/", "http://", "http://me:pw@a/", "http://a/ via b"]
)
def test_what_is_not_a_target(text: str) -> None:
    with pytest.raises(ValueError, match="not a target"):
        Target.parse(text)
