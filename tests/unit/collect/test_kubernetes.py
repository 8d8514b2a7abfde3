"""Reading the API server: whole lists, and every refusal in words that say what to do."""

import base64
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshgate.collect import exec_plugins
from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster, NoCluster
from meshgate.collect.lists import PAGE
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.sources import Kind
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import as_api, pod
from tests.support.fakes import Answer, Answers, Request, Server, answer, refusal

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

    with pytest.raises(ReadError, match="does not serve /api/v1/pods"):
        cluster.objects(PODS)


# --- versions -----------------------------------------------------------------------------------

TLS = KINDS["tls_routes"]
GROUP = "/apis/gateway.networking.k8s.io"


def served_at(*versions: str, resource: str = "tlsroutes", group: str = GROUP) -> Answers:
    """An API server that serves a kind, with one object, at these versions."""
    item = {"metadata": {"name": "web", "namespace": "shop"}}
    answers: dict[str, Answer] = {
        group: answer({"versions": [{"version": version} for version in versions]})
    }
    for version in versions:
        answers[f"{group}/{version}"] = answer({"resources": [{"name": resource}]})
        answers[f"{group}/{version}/{resource}"] = answer({"items": [item]})
    return answers


@pytest.mark.parametrize(
    ("versions", "read"),
    [
        (("v1",), "v1"),
        (("v1", "v1alpha3", "v1alpha2"), "v1"),
        (("v1alpha2", "v1alpha3"), "v1alpha3"),
        (("v1alpha2",), "v1alpha2"),
    ],
)
def test_a_kind_is_read_at_the_newest_version_that_is_served(
    answering: Answering, versions: tuple[str, ...], read: str
) -> None:
    cluster, _ = answering(served_at(*versions))

    found = cluster.listing(TLS)

    assert (found.version, [each.metadata.name for each in found.objects]) == (read, ["web"])


def test_a_kind_at_unknown_versions_alone_is_never_taken_for_none(answering: Answering) -> None:
    cluster, _ = answering(served_at("v2", "v3beta1"))

    with pytest.raises(ReadError, match=r"serves tlsroutes\.gateway.* only at v2, v3beta1"):
        cluster.listing(TLS)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {GROUP: answer({"versions": [{"version": "v1"}]})},
        served_at("v1", resource="httproutes"),
    ],
    ids=["no group", "no version", "other kinds of the group"],
)
def test_a_kind_that_is_not_served_has_no_version(answering: Answering, answers: Answers) -> None:
    cluster, _ = answering(answers)

    found = cluster.listing(TLS)

    assert (found.version, found.objects) == ("", ())


def test_a_kind_that_is_served_and_answers_404_is_never_taken_for_none(
    answering: Answering,
) -> None:
    answers = {**served_at("v1"), TLS.path: refusal(404, "not found")}
    cluster, _ = answering(answers)

    with pytest.raises(ReadError, match="does not serve"):
        cluster.listing(TLS)


def test_a_group_that_may_not_be_read_is_never_taken_for_none(answering: Answering) -> None:
    cluster, _ = answering({GROUP: refusal(403, "forbidden")})

    with pytest.raises(ReadError, match="no right to get /apis/gateway"):
        cluster.listing(TLS)


# --- answers without an end ---------------------------------------------------------------------


def drip(first: bytes, every: float = 0.05) -> Callable[[Request], Answer]:
    """An answer whose parts each come in time, and that never ends."""

    def chunks(request: Request) -> Iterator[bytes]:
        yield first
        while not request.left(every):
            yield b" "

    return lambda request: Answer(200, chunks=chunks(request))


@pytest.mark.parametrize("path", ["/version", PODS.path])
def test_an_answer_that_drips_for_ever_is_given_up(
    serve: Serve, connect: Connect, path: str
) -> None:
    server = serve({path: drip(b'{"items":[')})
    cluster = connect(server.url, timeout=0.5)
    began = time.monotonic()

    with pytest.raises(ReadError, match="did not finish its answer") as raised:
        cluster.get(path)

    assert time.monotonic() - began < 5
    assert raised.value.transient


def test_a_list_whose_pages_never_end_is_given_up(answering: Answering) -> None:
    cluster, server = answering({PODS.path: answer(as_api([], "again"))})

    with pytest.raises(ReadError, match="repeats the continue token of pods"):
        cluster.objects(PODS)

    assert len(server.requests) == 2


def test_a_credential_plugin_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugins, "SECONDS", 0.3)
    mark = tmp_path / "pid"
    plugin = fakes.program(tmp_path / "plugin", f"echo $$ > {mark}; exec sleep 60")
    config = json.loads(fakes.kubeconfig(tmp_path / "config", "http://127.0.0.1:1").read_text())
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    }
    (tmp_path / "config").write_text(json.dumps(config))
    began = time.monotonic()

    with pytest.raises(NoCluster, match=r"plugin did not end within 0\.3 s"):
        Cluster(config=str(tmp_path / "config"))

    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


# --- odd objects --------------------------------------------------------------------------------


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


PEERS = KINDS["peer_authentications"]


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (PODS, '{"metadata":{"name":"a"},"status":{"containerStatuses":[{"name":"c",'
         '"state":{"running":{"startedAt":null}}}]}}'),
        (PODS, '{"metadata":{"name":"a","labels":null,"annotations":null},"spec":null}'),
        (FILTERS, '{"metadata":{"name":"a"},"spec":{"configPatches":[{"patch":{"value":'
         '{"name":null,"typed_config":null}}}]}}'),
        (FILTERS, '{"metadata":{"name":"a"},"spec":{"configPatches":[{"patch":{"value":'
         + deep(5000) + "}}]}}"),
        (FILTERS, '{"metadata":{"name":"a"},"spec":{"configPatches":[{"patch":{"value":'
         + deep(100_000) + "}}]}}"),
        (PEERS, '{"metadata":{"name":"a"},"spec":{"mtls":null,"portLevelMtls":null}}'),
    ],
    ids=["startedAt", "labels", "value", "deep", "deeper", "mtls"],
)  # fmt: skip
def test_an_unusual_object_is_decoded(answering: Answering, kind: Kind, item: str) -> None:
    whole = '{"metadata":{"name":"b"},"spec":{}}'
    cluster, _ = answering({kind.path: Answer(200, f'{{"items":[{item},{whole}]}}'.encode())})

    assert [each.metadata.name for each in cluster.objects(kind)] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "item", "field"),
    [
        (PODS, '{"metadata":{"namespace":"shop"}}', "metadata"),
        (PODS, '{"metadata":7}', "metadata"),
        (PODS, '{"metadata":{"name":"a"},"status":{"phase":[]}}', "status.phase"),
        (PEERS, '{"metadata":{"name":"a"},"spec":{"portLevelMtls":{"http":{}}}}',
         "spec.portLevelMtls"),
        (FILTERS, '{"metadata":{"name":"a"},"spec":{"configPatches":[{"patch":{"value":'
         '{"name":5}}}]}}', "spec.configPatches[0].patch.value.name"),
    ],
)  # fmt: skip
def test_an_undecodable_object_is_named_with_its_field(
    answering: Answering, kind: Kind, item: str, field: str
) -> None:
    whole = '{"metadata":{"name":"b"},"spec":{}}'
    cluster, _ = answering({kind.path: Answer(200, f'{{"items":[{item},{whole}]}}'.encode())})

    found = cluster.listing(kind)

    assert [each.metadata.name for each in found.objects] == ["b"]
    assert [(each.kind, each.field) for each in found.undecodable] == [(kind.name, field)]
    with pytest.raises(ReadError, match="cannot decode " + re.escape(kind.name)):
        cluster.objects(kind)


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
        b'{"items": [{"metadata": {"name": "\xff"}}]}',
    ],
    ids=["a page", "nothing", "no list", "not UTF-8"],
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


def test_a_key_of_a_kubeconfig_is_never_left_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    config = fakes.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    written = json.loads(config.read_text())
    encoded = {each: base64.b64encode(each.encode()).decode() for each in ("certificate", "key")}
    written["users"][0]["user"] = {
        "client-certificate-data": encoded["certificate"],
        "client-key-data": encoded["key"],
    }
    config.write_text(json.dumps(written))

    for _ in range(2):  # a second connection of the same process too
        settings = Cluster(config=str(config)).api.configuration

        assert Path(settings.key_file).read_text() == "key"
        assert Path(settings.cert_file).read_text() == "certificate"
        assert list(folder.iterdir()) == []
