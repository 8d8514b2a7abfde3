"""What a watch notes of the API server's events: pods that come and go, and changed objects."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect.happenings import Happenings
from meshgate.collect.kubernetes import Cluster
from meshgate.snapshot.kubernetes import Metadata, Pod, Service, ServiceSpec
from meshgate.snapshot.watch import Happening
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import ANY, Answer, Request, answer

API = Service(
    metadata=Metadata(name="api", namespace="payments"), spec=ServiceSpec(selector={"app": "api"})
)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def feed(serve: Serve, tmp_path: Path) -> Happenings:
    server = serve({ANY: answer({})})
    config = fakes.kubeconfig(tmp_path / "kubeconfig", server.url)
    return Happenings(Cluster(config=str(config), patience=0), (API,))


def pod(ready: bool = True, deleted: bool = False, labels: Any = None) -> dict[str, Any]:
    config = json.dumps({"terminationDrainDuration": "1s", "other": "kept nowhere"})
    env = [{"name": "PROXY_CONFIG", "value": config}]
    proxy = {"name": "istio-proxy", "env": env}
    metadata: dict[str, Any] = {
        "name": "api-6c9d-x",
        "namespace": "payments",
        "uid": "one",
        "labels": {"app": "api", "pod-template-hash": "6c9d", **(labels or {})},
        "creationTimestamp": (NOW + timedelta(hours=1)).isoformat(),
        "ownerReferences": [{"kind": "ReplicaSet", "name": "api-6c9d", "controller": True}],
    }
    if deleted:
        metadata["deletionTimestamp"] = (NOW + timedelta(seconds=30)).isoformat()
        metadata["deletionGracePeriodSeconds"] = 30
    condition = {"type": "Ready", "status": "True" if ready else "False", "reason": "NotYet"}
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "app"}], "initContainers": [proxy]},
        "status": {"phase": "Running", "conditions": [condition]},
    }


def noted(feed: Happenings, *events: tuple[str, dict[str, Any]]) -> list[Happening]:
    for type, each in events:
        feed.pod(type, json.dumps(each).encode())
    return list(feed.seen)


def test_a_pod_that_terminates_is_noted_with_its_services_and_its_drain(feed: Happenings) -> None:
    (found,) = noted(
        feed,
        ("MODIFIED", pod()),
        ("MODIFIED", pod(deleted=True)),
        ("MODIFIED", pod(ready=False, deleted=True)),
    )

    assert (found.subject, found.what) == ("Pod payments/api-6c9d-x", "was terminating")
    assert found.at == NOW
    assert found.until is None
    assert (found.detail, found.workload, found.services, found.role) == (
        "terminationDrainDuration 1s",
        "Deployment payments/api",
        ("payments/api",),
        "",
    )
    (gone,) = noted(feed, ("DELETED", pod(ready=False, deleted=True)))
    assert gone.until is not None


def test_a_new_pod_starts_until_it_is_ready_and_a_known_one_does_not(feed: Happenings) -> None:
    (found,) = noted(feed, ("ADDED", pod(ready=False)))
    assert (found.what, found.until) == ("was starting", None)

    (found,) = noted(feed, ("MODIFIED", pod()))
    assert found.until is not None

    found_then = noted(feed, ("MODIFIED", pod(ready=False)))
    assert {each.what: each.detail for each in found_then} == {
        "was starting": "",
        "was not Ready": "not Ready: NotYet",
    }


def test_a_pod_that_was_ready_before_the_watch_can_lapse(serve: Serve, tmp_path: Path) -> None:
    config = fakes.kubeconfig(tmp_path / "kubeconfig", serve({ANY: answer({})}).url)
    before = msgspec.convert(pod(), Pod)
    feed = Happenings(Cluster(config=str(config), patience=0), (API,), (before,))

    (found,) = noted(feed, ("MODIFIED", pod(ready=False)))

    assert found.what == "was not Ready"


@pytest.mark.parametrize(
    ("labels", "role"),
    [
        ({"app": "istiod"}, "istiod"),
        ({"meshgate.dev/observer": "a"}, "observer"),
        ({"gateway.networking.k8s.io/gateway-name": "shop"}, "gateway"),
    ],
)
def test_the_role_of_a_pod(feed: Happenings, labels: dict[str, str], role: str) -> None:
    (found,) = noted(feed, ("MODIFIED", pod(deleted=True, labels=labels)))

    assert found.role == role


def test_configuration_that_existed_and_a_changed_status_are_not_noted(feed: Happenings) -> None:
    def config(type: str, generation: int) -> None:
        metadata = {"name": "cut", "namespace": "shop", "uid": "u", "generation": generation}
        feed.config(type, json.dumps({"kind": "EnvoyFilter", "metadata": metadata}).encode())

    config("LISTED", 1)
    config("MODIFIED", 1)
    assert list(feed.seen) == []
    config("MODIFIED", 2)
    config("DELETED", 2)

    assert [f"{each.subject} {each.what}" for each in feed.seen] == [
        "EnvoyFilter shop/cut was changed",
        "EnvoyFilter shop/cut was deleted",
    ]
    assert {each.role for each in feed.seen} == {"config"}


def watched_paths(server: fakes.Server) -> set[str]:
    return {each.path for each in server.requests if "watch" in each.query}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it was not so within 30 s"
        time.sleep(0.02)


def test_the_events_of_the_api_server_are_followed_until_it_is_stopped(
    serve: Serve, tmp_path: Path
) -> None:
    streams = iter(range(100))

    def watched(request: Request) -> Answer:
        if "watch" not in request.query:
            return answer({"metadata": {"resourceVersion": "7"}, "items": []})
        if request.path == "/api/v1/pods" and next(streams) == 0:
            assert request.query["resourceVersion"] == ["7"]
            line = json.dumps({"type": "MODIFIED", "object": pod(deleted=True)}).encode() + b"\n"
            return Answer(chunks=[line[:40], line[40:]])
        return Answer(chunks=[])

    server = serve({ANY: watched})
    config = fakes.kubeconfig(tmp_path / "kubeconfig", server.url)
    feed = Happenings(Cluster(config=str(config), patience=0), (API,))
    feed.start()

    filters = "/apis/networking.istio.io/v1alpha3/envoyfilters"
    until(lambda: bool(feed.seen) and filters in watched_paths(server))
    feed.stop.set()

    assert [each.what for each in feed.seen] == ["was terminating"]
    # the variables of a container are kept nowhere
    assert b"kept nowhere" not in msgspec.json.encode(feed.seen)
