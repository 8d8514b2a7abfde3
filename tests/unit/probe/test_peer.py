"""What runs in the pods of the probe pair, on loopback: with a server that plays the sidecar."""

import contextlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshgate.probe import peer
from tests.conftest import Serve
from tests.support.fakes import Answer, Request

XFCC = (
    'By=spiffe://d/ns/p/sa/default;Hash=1;Subject="";URI=spiffe://d/ns/other/sa/first,'
    'By=spiffe://d/ns/p/sa/default;Hash=2;Subject="";URI=spiffe://d/ns/p/sa/default'
)
BEHIND = {"server": "envoy", "x-envoy-upstream-service-time": "1"}


@pytest.fixture
def served() -> Iterator[str]:
    """The address of one peer's server."""
    server = peer.server(0, "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def get(where: str, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    """One request, as the sidecar would pass it on."""
    connection = http.client.HTTPConnection(where, timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    try:
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


def test_the_server_says_who_called(served: str) -> None:
    _, _, stranger = get(served, "/")
    _, _, caller = get(served, "/", **{"x-forwarded-client-cert": XFCC})

    assert stranger == {"caller": ""}
    assert caller == {"caller": "spiffe://d/ns/p/sa/default"}


def test_the_server_says_not_now_once(served: str) -> None:
    first = get(served, "/later/429/7/key")
    second = get(served, "/later/429/7/key")
    another = get(served, "/later/503/7/other")

    assert (first[0], first[1]["Retry-After"]) == (429, "7")
    assert second[0] == 200
    assert second[2]["gap"] >= 0
    assert another[0] == 503


def one(url: str, method: str = "GET", seconds: float = 0) -> dict[str, Any]:
    """What the caller reports of one call."""
    (seen,) = peer.call([{"method": method, "url": url}], seconds)
    return seen


def test_what_was_called_is_told_from_the_sidecar_before_it(serve: Serve) -> None:
    server = serve(
        {
            "/caller": Answer(200, b'{"caller": "me", "other": 1}', headers=BEHIND),
            "/app": Answer(503, b"too much", headers=BEHIND),
            "/envoy": Answer(503, b"upstream connect error", headers={"server": "envoy"}),
            "/rbac": Answer(403, b"RBAC: access denied", headers=BEHIND),
        }
    )

    assert one(f"{server.url}/caller") == {"status": 200, "caller": "me"}
    assert one(f"{server.url}/app", "OPTIONS") == {"status": 503}
    words = {"local": True, "words": "upstream connect error"}
    assert one(f"{server.url}/envoy") == {"status": 503, **words}
    assert one(f"{server.url}/rbac") == {"status": 403, "denied": True}
    assert "refused" in one("http://127.0.0.1:1/")["error"]
    assert server.asked == ["GET /caller", "OPTIONS /app", "GET /envoy", "GET /rbac"]


def test_a_sidecar_that_is_not_ready_is_asked_again(serve: Serve) -> None:
    answers = iter([Answer(503, headers={"server": "envoy"}), Answer(200, b"{}", headers=BEHIND)])
    server = serve({"/": lambda request: next(answers)})

    assert one(f"{server.url}/", "OPTIONS", seconds=30) == {"status": 200}


def test_a_call_that_names_nobody_yet_is_made_again(serve: Serve) -> None:
    answers = iter([b'{"caller": ""}', b'{"caller": "me"}'])
    server = serve({"/": lambda request: Answer(200, next(answers), headers=BEHIND)})

    assert one(f"{server.url}/", seconds=30) == {"status": 200, "caller": "me"}


def test_a_peer_whose_server_is_not_up_yet_is_called_again(serve: Serve) -> None:
    up = Answer(200, b'{"caller": "me"}', headers=BEHIND)
    answers = iter([Answer(503, b"upstream connect error", headers=BEHIND), up])
    server = serve({"/": lambda request: next(answers), "/down": Answer(503, headers=BEHIND)})

    assert one(f"{server.url}/", seconds=30) == {"status": 200, "caller": "me"}
    assert one(f"{server.url}/down") == {"status": 503}


def test_a_second_try_is_left_to_the_sidecar(serve: Serve, served: str) -> None:
    asked: list[Request] = []

    def sidecar(request: Request) -> Answer:
        asked.append(request)
        get(served, request.path)
        status, _, seen = get(served, request.path)
        return Answer(status, json.dumps(seen).encode(), headers=BEHIND)

    with_it = serve({"*": sidecar})

    assert one(f"{with_it.url}/later/503/1", "LATER")["gap"] >= 0
    assert one(f"http://{served}/later/503/1", "LATER", seconds=30) == {
        "status": 503,
        "retryAfter": ["1"],
    }
    assert len(asked) == 1


def test_a_peer_without_a_sidecar_is_reached_without_an_identity(served: str) -> None:
    assert one(f"http://{served}/", "REACH", 5) == {"status": 200, "caller": ""}


def plaintext(monkeypatch: pytest.MonkeyPatch, answer: bytes | None, scheme: str) -> dict[str, Any]:
    """How a connection ends where the server answers so, or resets it for None."""
    seconds = 10 if answer is None else 0.3  # a reset comes at once, silence never ends
    monkeypatch.setattr(peer, "TIMEOUT", seconds)
    monkeypatch.setattr(peer, "HOLD", seconds)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve_once, args=(server, answer), daemon=True).start()
        return one(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", "PLAINTEXT")


def _serve_once(server: socket.socket, answer: bytes | None) -> None:
    connection, _ = server.accept()
    with connection:
        if answer is None:
            linger = struct.pack("ii", 1, 0)  # as ztunnel does
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        connection.sendall(answer)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            while connection.recv(1000):
                pass


@pytest.mark.parametrize(
    ("answer", "scheme", "end"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "http", "answered"),
        (b"", "http", "silent"),
        (b"", "tcp", "held"),
        (None, "http", "refused"),
        (None, "tcp", "refused"),
    ],
)
def test_how_a_connection_in_plaintext_ends(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, scheme: str, end: str
) -> None:
    assert plaintext(monkeypatch, answer, scheme)["end"] == end


def test_a_closed_port_is_unreachable_in_plaintext() -> None:
    assert one("tcp://127.0.0.1:1", "PLAINTEXT") == {
        "end": "unreachable",
        "error": "Connection refused",
    }


def burst(url: str, seconds: float = 30) -> dict[str, Any]:
    """What the caller reports of a burst of five."""
    (seen,) = peer.call([{"method": "BURST", "url": url, "most": 5}], seconds)
    return seen


def test_a_burst_ends_when_it_is_told_to_come_again(serve: Serve) -> None:
    known = Answer(200, b'{"caller": "me"}', headers=BEHIND)
    enough = Answer(429, b"enough", headers={**BEHIND, "retry-after": "7"})
    starting = Answer(503, b"no upstream", headers={"server": "envoy", "retry-after": "3"})
    answers = iter([starting, known, known, enough])
    server = serve({"/": lambda request: next(answers)})

    assert burst(f"{server.url}/") == {"status": 429, "retryAfter": ["7"], "sent": 3}


def test_a_burst_that_throttles_nobody_asks_to_be_refused(serve: Serve) -> None:
    known = Answer(200, b'{"caller": "me"}', headers=BEHIND)
    refused = Answer(503, b"{}", headers={**BEHIND, "retry-after": "soon"})
    mute = Answer(503, b"upstream connect error", headers=BEHIND)
    server = serve({"/": known, "/drop": mute, "/refuse/503": refused})

    assert burst(f"{server.url}/") == {"status": 503, "retryAfter": ["soon"], "sent": 7}
    assert "/refuse/429" not in " ".join(server.asked)


def test_a_server_can_be_asked_to_refuse(served: str) -> None:
    assert burst(f"http://{served}/", 0) == {"status": 429, "sent": 8}


def test_a_pod_that_is_handed_the_text_alone_reports_and_ends(serve: Serve, tmp_path: Path) -> None:
    server = serve({"/": Answer(200, b'{"caller": "me"}', headers=BEHIND)})
    text = Path(peer.__file__).read_text().replace("/dev/termination-log", f"{tmp_path}/report")
    calls = json.dumps([{"method": "GET", "url": f"{server.url}/"}])

    subprocess.run([sys.executable, "-I", "-c", text, "call", calls, "5"], check=True, timeout=60)

    assert json.loads((tmp_path / "report").read_text()) == [{"status": 200, "caller": "me"}]


def test_a_report_is_never_longer_than_the_kubelet_keeps(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve({"*": Answer(503, b"w" * 500, headers={"server": "envoy"})})
    monkeypatch.setattr(peer, "REPORT", tmp_path / "report")
    calls = [{"method": "GET", "url": f"{server.url}/{n}"} for n in range(40)]

    peer.main("call", json.dumps(calls), "0")

    report = (tmp_path / "report").read_text()
    assert len(report) <= peer.LONGEST
    assert json.loads(report) == [{"status": 503, "local": True}] * 40


def test_an_answer_that_comes_byte_by_byte_is_cut_off() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2048)
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    begun = time.monotonic()

    seen = peer._once("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.3)

    server.close()
    assert "error" in seen
    assert time.monotonic() - begun < 5
