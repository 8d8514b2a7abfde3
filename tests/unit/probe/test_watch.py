"""A stream of requests that are really sent, until it is told to stop."""

import socket
import threading

import msgspec

from meshgate.probe.client import Planned
from meshgate.probe.traffic import Traffic
from meshgate.probe.watch import Stream, problem, watched
from meshgate.snapshot.ingress import Exchange, Request, Watch
from tests.conftest import Serve
from tests.support.fakes import Answer


def asked(path: str, **of: object) -> Request:
    given = {"vantage": "inside", "service": "Service a/b", "gateway": "Gateway a/b", "port": 80}
    more = {"route": "VirtualService a/b route c", "host": "a.b", "path": path}
    return Request(**{**given, **more, **of})  # type: ignore[arg-type]


def test_every_trouble_is_kept_with_its_reason(serve: Serve) -> None:
    server = serve({"/well": Answer(200), "/ill": Answer(503, b"no healthy upstream")})
    host, port = server.url.removeprefix("http://").split(":")
    planned = [
        Planned(asked(path), "a way", lambda: socket.create_connection((host, int(port)), 5))
        for path in ("/well", "/ill")
    ]
    stream = Stream(planned, Traffic(rate=200.0, deadline=30.0), slow_after=10_000)
    kept: list[Watch] = []
    enough = threading.Event()

    def keep(seen: Watch) -> None:
        kept.append(seen)
        if seen.sent >= 20:
            stream.stop.set()
            enough.set()

    stream.run(keep, every=0.01)

    assert enough.is_set()
    last = kept[-1]
    assert last.sent >= 20
    assert {each.why for each in last.troubles} == {"503 UH"}
    assert {each.asked for each in last.troubles} == {"GET http://a.b:80/ill from inside"}
    assert abs(len(last.troubles) * 2 - last.sent) <= 16
    assert last.began < last.last


def test_a_grpc_server_that_breaks_off_a_get_is_no_trouble() -> None:
    got = Exchange(request=asked("/", grpc=True), status=503, reason="UF (remote reset)")

    assert problem(got, 1000) == ("", False)
    assert problem(msgspec.structs.replace(got, request=asked("/")), 1000)[0]


def test_only_what_a_backend_answers_is_watched() -> None:
    requests = (
        asked("/"),
        asked("/", kind="connect"),
        asked("/", route=""),
        asked("/", expected=301),
        asked("/", declared=True),
    )

    kept = watched([Planned(each, "a way", lambda: socket.socket()) for each in requests])

    assert [each.request for each in kept] == [requests[0]]
