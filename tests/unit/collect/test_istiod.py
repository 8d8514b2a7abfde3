"""Asking istiod: each replica by itself, only what may be asked, and never a guess."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshgate.collect import istiod_metrics as numbers
from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import MONITORING_PORT, PATHS, Direct, read
from meshgate.semantics.webhooks import Backend
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.kubernetes import Pod
from tests.conftest import Serve
from tests.support import ambient_builders, fakes
from tests.support.builders import istiod, sync
from tests.support.fakes import Answer, Answers, Request, Server

Replica = Callable[..., tuple[Pod, Server]]


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A token's file."""
    file = tmp_path / "token"
    file.write_text("a-token\n")
    return file


@pytest.fixture
def direct(token: Path) -> Direct:
    """From inside the cluster."""
    return Direct(token, timeout=5.0)


@pytest.fixture
def replica(serve: Serve) -> Replica:
    """A replica that answers so; `number` tells several apart."""

    def started(answers: Answers, number: int = 0) -> tuple[Pod, Server]:
        address = fakes.address(number)
        server = serve(answers, address, MONITORING_PORT)
        return istiod(f"istiod-{number}", ip=address), server

    return started


def only(pods: list[Pod], direct: Direct) -> IstiodReading:
    """The one reading of one replica."""
    (reading,) = read(pods, direct)
    return reading


# --- what a replica says ------------------------------------------------------------------------


def test_a_replica_says_its_version_its_clock_and_its_proxies(
    replica: Replica, direct: Direct
) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    pod, _ = replica(fakes.istiod_answers([sync()], "1.29.1-abc-Clean\n", at))

    seen = only([pod], direct)

    assert seen == IstiodReading(
        pod="istiod-0", version="1.29.1-abc-Clean", at=at, read=seen.read, proxies=(sync(),)
    )


def test_the_answer_of_a_real_istiod_is_understood(
    replica: Replica, direct: Direct, root: Path
) -> None:
    recorded = (root / "tests/fixtures/syncz.json").read_bytes()
    pod, _ = replica({"/debug/syncz": Answer(200, recorded)})

    (proxy,) = only([pod], direct).proxies

    assert proxy.proxy == "server-6db885d79f-2vx8r.demo"
    assert proxy.istio_version == "1.29.1"
    state = proxy.resources["type.googleapis.com/envoy.config.listener.v3.Listener"]
    assert state.sent != state.acked
    assert state.sent_time == datetime(2026, 11, 24, 0, 10, 58, 979767, tzinfo=UTC)
    assert state.last_error.startswith("Error adding/updating listener(s) virtualInbound")


def test_tools_that_are_connected_are_no_proxies(replica: Replica, direct: Direct) -> None:
    tools = [sync("test-1.default", version="65536.65536.65536"), sync("other.x", version="")]
    pod, _ = replica(fakes.istiod_answers([*tools, sync()]))

    assert [proxy.proxy for proxy in only([pod], direct).proxies] == ["web-1.shop"]


def test_a_ztunnel_is_a_proxy_also_without_a_version(replica: Replica, direct: Direct) -> None:
    ztunnel = ambient_builders.sync("ztunnel-1.istio-system", "ztunnel", version="")
    pod, _ = replica(fakes.istiod_answers([ztunnel]))

    assert only([pod], direct).proxies == (ztunnel,)


@pytest.mark.parametrize("body", [b"[]", b"null"])
def test_a_replica_without_proxies_is_an_answer(
    replica: Replica, direct: Direct, body: bytes
) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, body)})

    reading = only([pod], direct)

    assert (reading.proxies, reading.error, reading.denied) == ((), "", "")


def test_a_version_that_is_not_told_is_none(replica: Replica, direct: Direct) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, b"[]"), "/version": Answer(500, b"oh")})

    assert only([pod], direct).version == ""


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_clock_that_cannot_be_read_is_none(replica: Replica, direct: Direct, date: str) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, b"[]", headers={"Date": date})})

    assert only([pod], direct).at is None


def test_every_replica_is_asked_in_the_order_of_names(replica: Replica, direct: Direct) -> None:
    first, _ = replica(fakes.istiod_answers([sync("a.shop")]), 0)
    second, _ = replica(fakes.istiod_answers([sync("b.shop")]), 1)

    readings = read([second, first], direct)

    assert [(each.pod, each.proxies[0].proxy) for each in readings] == [
        ("istiod-0", "a.shop"),
        ("istiod-1", "b.shop"),
    ]


# --- what is asked ------------------------------------------------------------------------------


def test_nothing_but_what_is_on_the_list_is_asked_and_with_our_token(
    replica: Replica, direct: Direct
) -> None:
    pod, server = replica(fakes.istiod_answers([]))

    read([pod], direct)
    numbers.read([pod], direct, 0.0)

    # the mesh config, the remote clusters and ambient mode have their own readers
    assert {request.path for request in server.requests} == PATHS - {
        "/debug/mesh",
        "/debug/clusterz",
        "/debug/ambientz",
    }
    assert {request.verb for request in server.requests} == {"GET"}
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer a-token"}


@pytest.mark.parametrize("path", ["/debug/adsz", "/debug/adsz?push=true", "/quitquitquit", ""])
def test_a_path_that_is_not_on_the_list_is_not_asked(
    replica: Replica, direct: Direct, path: str
) -> None:
    pod, server = replica({})
    session = direct.session(pod)

    with pytest.raises(ValueError, match="not on the list"):
        session.get(path)

    session.close()
    assert server.requests == []


def test_no_redirection_is_followed(replica: Replica, direct: Direct) -> None:
    pod, server = replica(
        {"/debug/syncz": Answer(302, headers={"Location": "/debug/adsz?push=true"})}
    )

    assert "istiod answered 302" in only([pod], direct).denied
    assert server.asked == ["GET /debug/syncz"]


# --- refusals and silence -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "denied"),
    [
        (401, "does not accept our token (401 no)"),
        (403, "does not let us read /debug/syncz (403 no)"),
        (404, "serves no debug endpoints (404)"),
        (400, "answered 400 to /debug/syncz: no"),
    ],
)
def test_a_replica_that_refuses_us_is_no_silent_one(
    replica: Replica, direct: Direct, status: int, denied: str
) -> None:
    pod, _ = replica({"/debug/syncz": Answer(status, b"no")})

    reading = only([pod], direct)

    assert denied in reading.denied
    assert reading.error == ""


def test_a_replica_that_fails_is_a_silent_one(replica: Replica, direct: Direct) -> None:
    pod, _ = replica({"/debug/syncz": Answer(503, b"starting")})

    reading = only([pod], direct)

    assert "answered 503 to /debug/syncz: starting" in reading.error
    assert reading.denied == ""


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b'{"proxy": "x"}', b'[{"proxy": "\xff"}]', b'[{"proxy_type": "x"}]']
)
def test_an_answer_that_is_none_of_istiods_is_no_empty_list(
    replica: Replica, direct: Direct, body: bytes
) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, body)})

    assert "cannot decode /debug/syncz" in only([pod], direct).denied


def test_a_replica_that_is_not_there_is_a_silent_one(direct: Direct) -> None:
    reading = only([istiod(ip=fakes.address())], direct)

    assert "no answer: " in reading.error
    assert "refused" in reading.error


def test_a_replica_that_does_not_answer_in_time_is_a_silent_one(
    replica: Replica, token: Path
) -> None:
    release = threading.Event()

    def late(_: object) -> Answer:
        release.wait(10)
        return Answer(200, b"[]")

    pod, _ = replica({"/debug/syncz": late})

    reading = only([pod], Direct(token, timeout=0.2))

    release.set()
    assert "no complete answer to /debug/syncz within 0.2 s" in reading.error


def test_a_replica_without_an_address_is_a_silent_one(direct: Direct) -> None:
    assert "no address" in only([istiod(ip="")], direct).error


def test_one_silent_replica_does_not_keep_another_from_being_read(
    replica: Replica, direct: Direct
) -> None:
    pod, _ = replica(fakes.istiod_answers([sync()]), 0)

    silent, answering = read([pod, istiod("istiod--1", ip=fakes.address(1))], direct)

    assert silent.error
    assert answering.proxies == (sync(),)


# --- the token ----------------------------------------------------------------------------------


def test_without_a_token_nothing_is_asked(replica: Replica, tmp_path: Path) -> None:
    pod, server = replica({})

    reading = only([pod], Direct(tmp_path / "missing", timeout=5.0))

    assert "no token for istiod" in reading.denied
    assert "istio-ca" in reading.denied
    assert server.requests == []


def test_a_token_that_is_no_text_is_told(replica: Replica, token: Path) -> None:
    token.write_bytes(b"\xff\xfe")
    pod, server = replica({})

    assert "cannot read the token" in only([pod], Direct(token, timeout=5.0)).denied
    assert server.requests == []


def test_the_token_is_read_anew_for_every_capture(
    replica: Replica, direct: Direct, token: Path
) -> None:
    pod, server = replica(fakes.istiod_answers([]))
    read([pod], direct)
    token.write_text("renewed")

    read([pod], direct)

    assert server.requests[-1].headers["authorization"] == "Bearer renewed"


def test_a_token_file_that_is_a_folder_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot read the token"):
        Direct(tmp_path, timeout=5.0).session(istiod(ip="127.0.0.1"))


def test_what_a_probe_sends_leaves_at_once(replica: Replica, direct: Direct) -> None:
    replica(fakes.istiod_answers([]))
    backend = Backend("istio-system", "istiod-0", fakes.address(), MONITORING_PORT)

    with direct.dial(backend) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_answer_that_drips_for_ever_is_given_up(replica: Replica, token: Path) -> None:
    def drip(request: Request) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield b"["
            while not request.left(0.05):
                yield b" "

        return Answer(200, chunks=chunks())

    pod, _ = replica({"/debug/syncz": drip})
    began = time.monotonic()

    reading = only([pod], Direct(token, timeout=0.5))

    assert time.monotonic() - began < 5
    assert "no complete answer to /debug/syncz within 0.5 s" in reading.error


@pytest.mark.parametrize(
    "date",
    ["Foo, 99 Bar 99999 99:99:99 XYZ", "Fri, 31 Dec 9999 23:59:00 -2359", "yesterday", "-1"],
)
def test_a_date_that_no_clock_shows_is_no_date(replica: Replica, direct: Direct, date: str) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, b"[]", headers={"Date": date})})

    reading = only([pod], direct)

    assert (reading.at, reading.error, reading.denied) == (None, "", "")


def test_an_answer_that_is_nested_without_end_is_refused(replica: Replica, direct: Direct) -> None:
    pod, _ = replica({"/debug/syncz": Answer(200, b"[" * 100_000)})

    assert "cannot decode /debug/syncz" in only([pod], direct).denied
