"""The read-only view: what istioctl may read is passed on, and nothing else ever is."""

import http.client
import json
import queue
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshgate.collect.facade import Facade
from meshgate.collect.facade_changes import Changed
from meshgate.collect.kubernetes import Cluster
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import as_api, pod
from tests.support.fakes import Answer, Request, Server, answer, refusal

PODS = as_api([pod("web-1")])


@pytest.fixture
def api(serve: Serve) -> Server:
    """An API server that would give everything away."""
    return serve(
        {
            "/api/v1/pods": answer(PODS),
            "/api/v1/namespaces/shop/pods/web-1": answer(PODS["items"][0]),
            "/api/v1/secrets": answer({"items": ["secret"]}),
            "/apis": answer({"kind": "APIGroupList"}),
            "/metrics": answer("metrics"),
        }
    )


@pytest.fixture
def facade(api: Server, tmp_path: Path) -> Iterator[Facade]:
    """The view of it that istioctl is given."""
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    cluster = Cluster(config=str(config), patience=0.0)
    with Facade(cluster).serving() as facade:
        yield facade


class Client:
    """A program that was started with the view's kubeconfig."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection = http.client.HTTPConnection(self._url.netloc, timeout=10)

    def open(self, path: str, verb: str = "GET", body: str | None = None) -> Any:
        """An answer whose body was not read yet."""
        self._connection.request(verb, f"{self._url.path}{path}", body)
        return self._connection.getresponse()

    def ask(self, path: str, verb: str = "GET", body: str | None = None) -> tuple[int, Any]:
        """Status and JSON body."""
        answered = self.open(path, verb, body)
        read = answered.read()
        return answered.status, json.loads(read) if read else None

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()


@pytest.fixture
def client(facade: Facade) -> Iterator[Client]:
    """istioctl, as far as the view is concerned."""
    client = Client(facade.url)
    yield client
    client.close()


# --- passed on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/pods", "/api/v1/namespaces/shop/pods/web-1", "/apis"])
def test_reads_and_discovery_are_passed_on_with_our_own_token(
    client: Client, facade: Facade, api: Server, path: str
) -> None:
    status, body = client.ask(path)

    assert (status, body) == (200, json.loads(api.answers[path].body))  # type: ignore[union-attr]
    assert api.requests[0].headers["authorization"] == "Bearer a-token"
    assert facade.refused == ()


def test_the_query_is_passed_on(client: Client, api: Server) -> None:
    client.ask("/api/v1/pods?labelSelector=app%3Dweb&limit=5&continue=")

    assert api.requests[0].query == {
        "labelSelector": ["app=web"],
        "limit": ["5"],
        "continue": [""],
    }


def test_the_api_server_sees_which_program_requests(facade: Facade, api: Server) -> None:
    request = urllib.request.Request(
        f"{facade.url}/api/v1/pods", headers={"User-Agent": "istioctl/1"}
    )
    with urllib.request.urlopen(request) as read:
        read.read()

    assert api.requests[0].headers["user-agent"] == "istioctl/1"


@pytest.mark.parametrize(("path", "status"), [("/api/v1/nodes", 404), ("/api/v1/services", 403)])
def test_the_api_servers_own_refusal_is_passed_on(
    client: Client, api: Server, path: str, status: int
) -> None:
    api.answers[path] = refusal(status, "its own words")
    api.answers["/api/v1"] = answer({"resources": [{"name": "services"}]})

    assert client.ask(path) == (status, json.loads(refusal(status, "its own words").body))


@pytest.mark.parametrize(
    "path",
    [
        "/apis/networking.istio.io/v1/futures",
        "/apis/gateway.networking.k8s.io/v1/listenersets",
        "/apis/gateway.networking.x-k8s.io/v1alpha1/namespaces/shop/xmeshes",
        "/apis/extensions.istio.io/v1alpha1/trafficextensions?watch=1",
    ],
)
def test_kinds_of_later_releases_are_passed_on(
    client: Client, facade: Facade, api: Server, path: str
) -> None:
    served = path.partition("?")[0]
    api.answers[served] = answer({"items": []})

    assert client.ask(path) == (200, {"items": []})
    assert facade.refused == ()


@pytest.mark.parametrize("discovery", [None, {"resources": [{"name": "gateways"}]}])
def test_a_kind_that_the_cluster_does_not_serve_is_not_a_missing_right(
    client: Client, facade: Facade, api: Server, discovery: Any
) -> None:
    root = "/apis/gateway.networking.k8s.io/v1"
    api.answers[f"{root}/listenersets"] = refusal(403, "listenersets is forbidden")
    if discovery:
        api.answers[root] = answer(discovery)

    status, _ = client.ask(f"{root}/listenersets")

    assert status == 404
    assert facade.denied == ()


def test_rights_that_we_lack_are_kept(client: Client, facade: Facade, api: Server) -> None:
    api.answers["/api/v1/services"] = refusal(403, "no")
    api.answers["/apis/apps/v1/deployments"] = refusal(403, "no")
    api.answers["/api/v1"] = answer({"resources": [{"name": "services"}]})
    api.answers["/apis/apps/v1"] = refusal(403, "no")

    client.ask("/api/v1/services")
    client.ask("/apis/apps/v1/deployments")
    client.ask("/api/v1/pods")

    assert facade.denied == ("list deployments.apps", "list services")
    assert facade.refused == ()


def test_every_event_of_a_watch_is_passed_on_at_once(
    client: Client, api: Server, tmp_path: Path
) -> None:
    events: queue.Queue[bytes] = queue.Queue()
    api.answers["/api/v1/pods"] = Answer(chunks=iter(events.get, b""))
    events.put(b'{"type":"ADDED"}\n')

    watch = client.open("/api/v1/pods?watch=true")

    assert watch.readline() == b'{"type":"ADDED"}\n'
    events.put(b'{"type":"DELETED"}\n')
    assert watch.readline() == b'{"type":"DELETED"}\n'
    events.put(b"")
    assert watch.read() == b""


def test_open_watches_end_with_the_view(api: Server, tmp_path: Path) -> None:
    left: queue.Queue[bool] = queue.Queue()

    def watch(request: Request) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield b"{}\n"
            left.put(request.left(10))

        return Answer(chunks=chunks())

    api.answers["/api/v1/pods"] = watch
    config = fakes.kubeconfig(tmp_path / "another", api.url)
    with Facade(Cluster(config=str(config))).serving() as facade:
        client = Client(facade.url)
        assert client.open("/api/v1/pods?watch=1").readline() == b"{}\n"

    assert left.get(timeout=20), "the API server still serves a watch that nobody reads"
    client.close()


def test_watches_of_secrets_end_with_the_view(api: Server, tmp_path: Path) -> None:
    config = fakes.kubeconfig(tmp_path / "another", api.url)
    with Facade(Cluster(config=str(config))).serving() as facade:
        client = Client(facade.url)
        watch = client.open("/api/v1/secrets?watch=1")

    assert watch.read() == b""
    client.close()


def test_a_program_that_hangs_up_leaves_no_trace(
    client: Client, api: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = threading.Event()

    def watch(request: Request) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield b"{}\n"
            while not request.left(0.01):
                yield b"{}\n" * 100
            gone.set()

        return Answer(chunks=chunks())

    api.answers["/api/v1/pods"] = watch
    opened = client.open("/api/v1/pods?watch=1")
    opened.readline()
    opened.close()
    client.close()

    assert gone.wait(10)
    assert capfd.readouterr() == ("", "")


def test_an_api_server_that_is_gone_is_told(tmp_path: Path) -> None:
    with Server({}).serving() as gone:
        config = fakes.kubeconfig(tmp_path / "kubeconfig", gone.url)
    with Facade(Cluster(config=str(config), patience=0.0)).serving() as facade:
        client = Client(facade.url)
        status, body = client.ask("/api/v1/pods")
        client.close()

    assert status == 503
    assert "cannot reach the API server" in body["message"]


# --- secrets ------------------------------------------------------------------------------------

SECRETS = ["/api/v1/secrets", "/api/v1/namespaces/shop/secrets", "/api/v1/secrets?limit=500"]


@pytest.mark.parametrize("path", SECRETS)
def test_a_list_of_secrets_is_empty_and_nobody_is_asked(
    client: Client, facade: Facade, api: Server, path: str
) -> None:
    status, body = client.ask(path)

    assert status == 200
    assert (body["kind"], body["items"]) == ("SecretList", [])
    assert api.requests == []
    assert facade.refused == ()


@pytest.mark.parametrize("value", ["1", "true"])
def test_a_watch_of_secrets_stays_open_and_says_nothing(
    facade: Facade, api: Server, value: str
) -> None:
    client = Client(facade.url)
    watch = client.open(f"/api/v1/secrets?watch={value}")

    assert watch.status == 200
    facade.closing.set()
    assert watch.read() == b""
    assert api.requests == []
    client.close()


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_secret_is_not_written(client: Client, api: Server, verb: str) -> None:
    status, _ = client.ask("/api/v1/namespaces/shop/secrets/web", verb, "{}")

    assert status == 403
    assert api.requests == []


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
def test_writing_is_refused_and_kept(
    client: Client, facade: Facade, api: Server, verb: str
) -> None:
    status, body = client.ask("/api/v1/namespaces/shop/pods/web-1?dryRun=All", verb, "{}")

    assert status == 403
    assert "read-only" in body["message"]
    assert facade.refused == (f"{verb} /api/v1/namespaces/shop/pods/web-1",)
    assert api.requests == []


@pytest.mark.parametrize("verb", ["HEAD", "OPTIONS"])
def test_other_verbs_are_refused(facade: Facade, api: Server, verb: str) -> None:
    client = Client(facade.url)

    assert client.open("/api/v1/pods", verb).status == 403
    assert api.requests == []
    client.close()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/shop/pods/web-1/log",
        "/api/v1/namespaces/shop/pods/web-1/exec?command=sh",
        "/api/v1/namespaces/shop/pods/web-1/portforward",
        "/api/v1/namespaces/shop/services/web:80/proxy/",
        "/api/v1/namespaces/shop/status",
        "/api/v1/nodes/node/proxy/pods",
        "/apis/apps/v1/namespaces/shop/deployments/web/scale",
        "/api/v1/namespaces/shop/pods/web-1%2Flog",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/apps/v1/secrets",
        "/apis/networking.istio.io/v1/secrets",
        "/apis/batch/v1/jobs",
        "/api/v1/namespaces/shop/finalize",
        "/metrics",
        "/logs/",
        "/",
        "/apis/../metrics",
        "/api/v1/namespaces/../secrets",
        "/api/v1/namespaces/shop/pods/..",
        "/api/v1/pods/./web-1",
        "//api/v1/secrets",
        "/api/v1//secrets",
    ],
)
def test_what_is_not_on_the_list_is_refused_and_kept(
    client: Client, facade: Facade, api: Server, path: str
) -> None:
    status, body = client.ask(path)

    assert status == 403
    assert "the read-only view does not serve GET /" in body["message"]
    assert facade.refused == facade.unserved == (f"GET {urlsplit(path).path}",)
    assert api.requests == []


def test_a_program_does_not_wait_for_a_lease(client: Client, facade: Facade, api: Server) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader"

    status, _ = client.ask(path)

    assert status == 403
    assert facade.refused == (f"GET {path}",)
    assert facade.unserved == ()
    assert api.requests == []


def test_a_streamed_list_is_not_served(client: Client, facade: Facade, api: Server) -> None:
    status, _ = client.ask("/api/v1/pods?watch=1&sendInitialEvents=true")

    assert status == 422, "the client would not fall back to a list"
    assert api.requests == []
    assert facade.refused == ()


# --- strangers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/", "/wrong"])
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_who_does_not_know_this_runs_address_is_turned_away(
    facade: Facade, api: Server, prefix: str, verb: str
) -> None:
    address = facade.url.removesuffix(facade.prefix)
    stranger = Client(f"{address}{prefix}")

    status, _ = stranger.ask("/api/v1/pods", verb)

    assert status == 401
    assert api.requests == []
    assert facade.refused == ()
    stranger.close()


def test_every_run_has_an_address_of_its_own(api: Server, facade: Facade, tmp_path: Path) -> None:
    config = fakes.kubeconfig(tmp_path / "another", api.url)
    with Facade(Cluster(config=str(config))).serving() as other:
        assert other.prefix != facade.prefix
        assert len(other.prefix) > 20


def test_it_listens_on_loopback_alone(facade: Facade) -> None:
    assert urlsplit(facade.url).hostname == "127.0.0.1"


def test_its_kubeconfig_leads_there_and_holds_no_credential(facade: Facade) -> None:
    config = json.loads(facade.kubeconfig())

    assert [each["cluster"] for each in config["clusters"]] == [{"server": facade.url}]
    assert "users" not in config


# --- other than it is ---------------------------------------------------------------------------

SHOP = {"name": "istio", "namespace": "istio-system", "resourceVersion": "7"}
MAPS = {
    "kind": "ConfigMapList",
    "metadata": {"resourceVersion": "9"},
    "items": [
        {"metadata": SHOP, "data": {"mesh": "live"}},
        {"metadata": {"name": "other", "namespace": "shop"}, "data": {}},
        {"metadata": {"name": "unwanted", "namespace": "shop"}, "data": {}},
    ],
}
TARGET = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "target"}}


@pytest.fixture
def changed(api: Server, tmp_path: Path) -> Iterator[Client]:
    """A program that is shown another ConfigMap than there is, and one less."""
    api.answers["/api/v1/configmaps"] = answer(MAPS)
    api.answers["/api/v1/namespaces/istio-system/configmaps"] = answer(MAPS | {"items": []})
    api.answers["/api/v1/namespaces/istio-system/configmaps/istio"] = answer(MAPS["items"][0])  # type: ignore[index]
    api.answers["/api/v1/namespaces/shop/configmaps/unwanted"] = answer(MAPS["items"][2])  # type: ignore[index]
    config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
    view = Changed(
        {("", "configmaps", "istio-system", "istio"): TARGET},
        frozenset({("", "configmaps", "shop", "unwanted")}),
    )
    with Facade(Cluster(config=str(config), patience=0.0), view).serving() as facade:
        client = Client(facade.url)
        yield client
        client.close()


def data(body: Any) -> dict[str, Any]:
    """The objects of a list: their data by name."""
    return {item["metadata"]["name"]: item["data"] for item in body["items"]}


def test_a_list_has_the_other_object_and_not_the_hidden_one(changed: Client) -> None:
    _, body = changed.ask("/api/v1/configmaps")

    assert data(body) == {"istio": {"mesh": "target"}, "other": {}}
    assert {item["metadata"].get("resourceVersion") for item in body["items"]} == {None, "9"}


@pytest.mark.parametrize(
    ("query", "seen"),
    [("", {"istio"}), ("?fieldSelector=metadata.name%3Distio", {"istio"})]
    + [(f"?{each}", set()) for each in ("fieldSelector=metadata.name%3Dx", "labelSelector=a%3Db")],
)
def test_an_object_that_the_cluster_lacks_is_in_the_lists_that_it_belongs_to(
    changed: Client, query: str, seen: set[str]
) -> None:
    _, body = changed.ask(f"/api/v1/namespaces/istio-system/configmaps{query}")

    assert set(data(body)) == seen


def test_single_objects_are_what_the_lists_say(changed: Client) -> None:
    assert changed.ask("/api/v1/namespaces/istio-system/configmaps/istio") == (200, TARGET)
    assert changed.ask("/api/v1/namespaces/shop/configmaps/unwanted")[0] == 404


def test_a_watch_tells_nothing_of_what_is_not_seen_as_it_is(changed: Client, api: Server) -> None:
    events = [{"type": "MODIFIED", "object": item} for item in MAPS["items"]]
    lines = "\n".join(map(json.dumps, events)) + "\n"
    api.answers["/api/v1/configmaps"] = Answer(200, lines.encode())

    read = changed.open("/api/v1/configmaps?watch=1").read().decode().splitlines()

    assert [json.loads(line)["object"]["metadata"]["name"] for line in read] == ["other"]


def test_what_is_changed_still_cannot_be_written(changed: Client) -> None:
    path = "/api/v1/namespaces/istio-system/configmaps/istio"

    assert changed.ask(path, "PUT", "{}")[0] == 403
