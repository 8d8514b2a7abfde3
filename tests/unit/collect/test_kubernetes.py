"""Reading the API server: whole lists, and every refusal in words that say what to do."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import PAGE, Cluster, NoCluster
from meshgate.snapshot.items import KINDS
from tests import fakes
from tests.builders import as_api, pod
from tests.conftest import Serve
from tests.fakes import Answer, Answers, Request, Server, answer, refusal

PODS = KINDS["pods"]
FILTERS = KINDS["envoy_filters"]

Connect = Callable[..., Cluster]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """A Cluster at an address, with little patience."""

    def cluster(server: str, *, patience: float = 0.0, timeout: float = 5.0) -> Cluster:
        config = fakes.kubeconfig(tmp_path / "kubeconfig", server)
        return Cluster(config=str(config), timeout=timeout, patience=patience)

    return cluster


@pytest.fixture
def answering(serve: Serve, connect: Connect) -> Callable[[Answers], tuple[Cluster, Server]]:
    """A Cluster whose API server answers so."""

    def cluster(answers: Answers) -> tuple[Cluster, Server]:
        server = serve(answers)
        return connect(server.url), server

    return cluster


Answering = Callable[[Answers], tuple[Cluster, Server]]


# --- lists --------------------------------------------------------------------------------------


def test_all_pages_of_a_list_are_read_in_order(answering: Answering) -> None:
    pods = [pod(f"web-{n}") for n in range(3)]
    pages = {"": (pods[:1], "second"), "second": (pods[1:2], "third/="), "third/=": (pods[2:], "")}

    def page(request: Request) -> Answer:
        found, more = pages[request.query.get("continue", [""])[0]]
        return answer(as_api(found, more))

    cluster, server = answering({PODS.path: page})

    assert list(cluster.objects(PODS)) == pods
    assert [request.query["limit"] for request in server.requests] == [[str(PAGE)]] * 3


def test_our_token_is_sent(answering: Answering) -> None:
    cluster, server = answering({PODS.path: answer(as_api([]))})

    assert cluster.objects(PODS) == ()
    assert server.requests[0].headers["authorization"] == "Bearer a-token"


def test_the_version_is_the_servers_own(answering: Answering) -> None:
    cluster, _ = answering({"/version": answer(fakes.GIT_VERSION)})

    assert cluster.version() == "v1.34.4"


def test_a_kind_that_a_cluster_may_lack_has_no_objects_there(answering: Answering) -> None:
    cluster, _ = answering({})

    assert cluster.objects(FILTERS) == ()


def test_a_kind_that_every_cluster_has_is_missed(answering: Answering) -> None:
    cluster, _ = answering({})

    with pytest.raises(ReadError, match="does not know /api/v1/pods"):
        cluster.objects(PODS)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "why", "remedy", "transient"),
    [
        (refusal(401, "Unauthorized"), "401 Unauthorized", "renew the token", False),
        (refusal(403, "pods is forbidden"), "no right to list pods: pods is", "`list pods`", False),
        (refusal(410, "too old"), "answered 410 .* too old", "run again", True),
        (refusal(429, "slow down"), "answered 429 .* slow down", "run again", True),
        (refusal(500, "etcd is gone"), "answered 500 .* etcd is gone", "health", True),
        (Answer(503, b"<html>\xff no"), "answered 503 .*<html>", "health", True),
        (refusal(400, "bad"), "answered 400 .* bad", "health", False),
        (Answer(302, headers={"Location": "/login"}), "answered 302", "health", False),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else None,
)
def test_a_refusal_says_why_and_what_to_do(
    answering: Answering, refused: Answer, why: str, remedy: str, transient: bool
) -> None:
    cluster, _ = answering({PODS.path: refused})

    with pytest.raises(ReadError, match=why) as raised:
        cluster.objects(PODS)

    assert remedy in raised.value.remedy
    assert raised.value.transient is transient


@pytest.mark.parametrize("second", [refusal(500, "etcd is gone"), refusal(410, "too old")])
def test_a_list_that_breaks_off_is_no_list(answering: Answering, second: Answer) -> None:
    def page(request: Request) -> Answer:
        return second if "continue" in request.query else answer(as_api([pod("web-1")], "more"))

    cluster, _ = answering({PODS.path: page})

    with pytest.raises(ReadError):
        cluster.objects(PODS)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Log in</html>",
        b"",
        b'{"items": null}',
        b'{"items": [{"metadata": {}}]}',
        b'{"items": [{"metadata": {"name": "\xff"}}]}',
    ],
    ids=["a page", "nothing", "no list", "no name", "not UTF-8"],
)
def test_an_answer_that_is_none_of_kubernetes_is_no_list(answering: Answering, body: bytes) -> None:
    cluster, _ = answering({PODS.path: Answer(200, body)})

    with pytest.raises(ReadError, match="cannot decode the answer to list pods"):
        cluster.objects(PODS)


def test_a_server_that_is_none_of_kubernetes_has_no_version(answering: Answering) -> None:
    cluster, _ = answering({"/version": Answer(200, b"<html>Log in</html>")})

    with pytest.raises(ReadError, match="cannot decode the answer to get /version"):
        cluster.version()


# --- no answer ----------------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_server_that_is_not_there_is_given_up_after_our_patience(
    connect: Connect, closed_port: int
) -> None:
    began = time.monotonic()
    cluster = connect(f"http://me:pass-word@127.0.0.1:{closed_port}/x?token=1", patience=0.7)

    with pytest.raises(ReadError, match="Connection refused") as raised:
        cluster.objects(PODS)

    assert 0.7 <= time.monotonic() - began < 5
    assert f"cannot reach the API server 127.0.0.1:{closed_port}: " in raised.value.why
    assert "pass-word" not in raised.value.why
    assert "--kubeconfig" in raised.value.remedy
    assert cluster.requests > 1


def test_a_server_that_hangs_up_once_is_asked_again(connect: Connect) -> None:
    body = b'{"items": []}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_the_second() -> None:
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

        thread = threading.Thread(target=answer_the_second)
        thread.start()
        cluster = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", patience=20)

        assert cluster.objects(PODS) == ()
        assert cluster.requests == 2
        thread.join()


def test_a_server_that_does_not_answer_in_time_is_given_up(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)

        with pytest.raises(ReadError, match="timed out"):
            cluster.objects(PODS)


def test_what_tls_does_not_trust_is_given_up_at_once(serve: Serve, connect: Connect) -> None:
    plain = serve({})
    began = time.monotonic()
    cluster = connect(plain.url.replace("http:", "https:"), patience=60)

    with pytest.raises(ReadError, match="SSL"):
        cluster.objects(PODS)

    assert cluster.requests == 1
    assert time.monotonic() - began < 30


# --- no cluster ---------------------------------------------------------------------------------


def test_a_kubeconfig_that_is_missing_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(NoCluster):
        Cluster(config=str(tmp_path / "missing"))


@pytest.mark.parametrize("content", ["", "hello", "[1, 2]", "a: b: c", "{}", "\x00"])
def test_a_file_that_is_no_kubeconfig_is_no_cluster(tmp_path: Path, content: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(content)

    with pytest.raises(NoCluster) as raised:
        Cluster(config=str(file))

    assert "\n" not in str(raised.value)


def test_a_context_that_is_missing_is_no_cluster(tmp_path: Path) -> None:
    config = fakes.kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")

    with pytest.raises(NoCluster, match="other"):
        Cluster(config=str(config), context="other")


def test_the_source_is_named_by_its_context(connect: Connect) -> None:
    assert connect("http://127.0.0.1:1").source == "context fake"
