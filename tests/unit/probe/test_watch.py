"""A stream of requests that are really sent, until it is stopped."""

import socket
import time

import msgspec

from meshgate.probe.client import Planned
from meshgate.probe.traffic import Traffic
from meshgate.probe.watch import Stream, problem, watched
from meshgate.snapshot.ingress import Exchange, Request
from tests.conftest import Serve
from tests.support.fakes import Answer


def asked(path: str, **of: object) -> Request:
    given = {"vantage": "inside", "service": "Service a/b", "gateway": "Gateway a/b", "port": 80}
    more = {"route": "VirtualService a/b route c", "host": "a.b", "path": path}
    return Request(**{**given, **more, **of})  # type: ignore[arg-type]


def test_every_loss_after_the_first_answer_is_kept_with_its_reason(serve: Serve) -> None:
    answers = iter([Answer(200)] * 3)
    ill = Answer(503, b"no healthy upstream")
    server = serve({"/well": Answer(200), "/ill": ill, "/later": lambda _: next(answers, ill)})
    host, port = server.url.removeprefix("http://").split(":")
    planned = [
        Planned(asked(path), "a way", lambda: socket.create_connection((host, int(port)), 5))
        for path in ("/well", "/ill", "/later")
    ]
    stream = Stream(planned, Traffic(rate=200.0, deadline=30.0), slow_after=10_000)

    stream.start()
    end = time.monotonic() + 20
    while stream.flows[2].losses < 5:
        assert time.monotonic() < end, stream.flows
        time.sleep(0.01)
    stream.stop.set()
    well, never, later = stream.flows

    assert (well.losses, well.target) == (0, "GET http://a.b:80/well from inside")
    assert (well.subject, well.service, well.kind) == ("Gateway a/b", "a/b", "gateway")
    assert (never.sent, never.losses, never.failing) == (0, 0, "503 UH")
    assert {each.why for each in later.lost} == {"503 UH"}
    assert later.sent == later.losses + 3


def test_a_grpc_server_that_breaks_off_a_get_is_no_trouble() -> None:
    got = Exchange(request=asked("/", grpc=True), status=503, reason="UF (remote reset)")

    assert problem(got) == ""
    assert problem(msgspec.structs.replace(got, request=asked("/"))) == "503 UF (remote reset)"


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
