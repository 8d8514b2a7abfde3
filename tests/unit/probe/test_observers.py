"""The observers, against an API server on loopback whose pods are on loopback too."""

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.probe.observer import program
from meshgate.probe.observer.calls import Target
from meshgate.probe.observers import Called, Observers, Plan
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import ANY, Answer, Request, answer, refusal

NAMESPACE = "istio-verification-probes"
PLAN = Plan(
    image="example.test/meshgate:1",
    namespace=NAMESPACE,
    called=(Called(Target("target/0", "http1", "api.payments", 80), "payments/api", True),),
    rate=10,
    slow_after=1000,
    seconds=600,
)
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SEEN = {"sent": 7, "answered": "2026-01-02T12:00:00.000+00:00", "failing": ""}


class Kubernetes:
    """Jobs, their pods, and an injector that adds the proxy of `version`."""

    def __init__(self) -> None:
        self.version = "1.30.4"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.services: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {"phase": "Running", "podIP": "127.0.0.1"}

    def __call__(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        match request.verb:
            case "POST" if request.path == PODS:
                assert request.query["dryRun"] == ["All"]
                return answer(self._injected(json.loads(request.body)), 201)
            case "POST" if request.path == JOBS:
                job = json.loads(request.body)
                job["metadata"]["uid"] = "uid"
                job["proxy"] = self.version
                self.jobs[job["metadata"]["name"]] = job
                return answer(job, 201)
            case "POST" if name == "services":
                self.services.append(json.loads(request.body))
                return answer({}, 201)
            case "DELETE" if name in self.jobs:
                assert request.query["propagationPolicy"] == ["Background"]
                del self.jobs[name]
                return answer({})
            case "GET" if request.path == JOBS:
                return answer({"items": list(self.jobs.values())})
            case "GET" if request.path == PODS:
                return answer({"items": [self._pod(each) for each in self.jobs.values()]})
        return refusal(404, "not found")

    def _injected(self, pod: dict[str, Any], version: str = "") -> dict[str, Any]:
        image = f"docker.io/istio/proxyv2:{version or self.version}"
        pod["spec"]["containers"].append({"name": "istio-proxy", "image": image})
        return pod

    def _pod(self, job: dict[str, Any]) -> dict[str, Any]:
        template = json.loads(json.dumps(job["spec"]["template"]))
        template["metadata"]["name"] = job["metadata"]["name"]
        return {**self._injected(template, job["proxy"]), "status": self.status}


def connected(folder: Path, url: str) -> Cluster:
    config = fakes.kubeconfig(folder / "kubeconfig", url)
    return Cluster(config=str(config), patience=0)


@pytest.fixture
def kubernetes() -> Kubernetes:
    return Kubernetes()


@pytest.fixture
def cluster(serve: Serve, kubernetes: Kubernetes, tmp_path: Path) -> Cluster:
    server = serve({ANY: kubernetes})
    return connected(tmp_path, server.url)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What every observer on loopback has seen; the test may change it."""
    data: dict[str, Any] = {"target/0": SEEN, "peer/b:http1": {**SEEN, "caller": "spiffe://x"}}

    class Fixed(program.Observer):
        def evidence(self) -> dict[str, Any]:
            return data

    server: ThreadingHTTPServer = program.evidence_server(Fixed([], 1, 1), 0, "127.0.0.1")
    monkeypatch.setattr(program, "EVIDENCE", server.server_address[1])
    with fakes.running(server):
        yield data


def test_one_observer_for_each_version_of_the_proxy(
    cluster: Cluster, kubernetes: Kubernetes, evidence: dict[str, Any]
) -> None:
    own = Observers(cluster, PLAN)
    own.begin()
    own.step()
    own.step()
    assert [each.proxy for each in own.seen] == ["1.30.4"]
    kubernetes.version = "1.31.0"
    own.step()
    own.step()

    assert [(each.name, each.proxy, each.ended) for each in own.seen] == [
        ("a", "1.30.4", ""),
        ("b", "1.31.0", ""),
    ]
    found = {(each.observer, each.target): each for each in own.flows}
    called = found["a", "http1://api.payments:80/"]
    assert (called.subject, called.service, called.sent, called.declared) == (
        *("Service payments/api", "payments/api", 7, True),
    )
    peer = found["a", "http1 to observer b"]
    assert (peer.peer, peer.caller) == ("b", "spiffe://x")
    assert [each["spec"]["selector"]["meshgate.dev/observer"] for each in kubernetes.services] == [
        *"ab"
    ]
    own.end()
    assert kubernetes.jobs == {}


def test_a_pod_is_injected_like_any_other_and_confined(
    cluster: Cluster, kubernetes: Kubernetes
) -> None:
    own = Observers(cluster, PLAN)
    own.step()

    ((name, job),) = kubernetes.jobs.items()
    spec, metadata = job["spec"], job["spec"]["template"]["metadata"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 600)
    assert not any("inject" in each for each in (*metadata["labels"], *metadata["annotations"]))
    assert metadata["annotations"] == {
        "traffic.sidecar.istio.io/excludeInboundPorts": str(program.EVIDENCE)
    }
    assert spec["template"]["spec"]["automountServiceAccountToken"] is False
    (container,) = spec["template"]["spec"]["containers"]
    assert "ports" not in container
    given = json.loads(container["command"][-1])
    hosts = {each["host"] for each in given["targets"]}
    assert hosts == {"api.payments", *(f"{name[:-1]}{slot}.{NAMESPACE}" for slot in "bc")}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"phase": "Failed"}, "its pod ended"),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {"name": "observe", "state": {"waiting": {"reason": "ErrImagePull"}}}
                ],
            },
            "container observe is in ErrImagePull",
        ),
    ],
)
def test_an_observer_that_ended_says_why_and_keeps_what_it_has_seen(
    cluster: Cluster,
    kubernetes: Kubernetes,
    evidence: dict[str, Any],
    status: dict[str, Any],
    why: str,
) -> None:
    own = Observers(cluster, PLAN)
    own.step()
    before = own.flows
    kubernetes.status = status
    own.step()

    assert [each.ended for each in own.seen] == [why]
    assert own.flows == before
    assert before


def test_what_a_killed_watch_left_is_deleted(cluster: Cluster, kubernetes: Kubernetes) -> None:
    first = Observers(cluster, PLAN)
    first.step()
    assert len(kubernetes.jobs) == 1

    Observers(cluster, PLAN).begin()

    assert kubernetes.jobs == {}


def test_without_a_sidecar_there_is_no_observer(
    cluster: Cluster, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_injected", lambda pod, version="": pod)
    own = Observers(cluster, PLAN)
    own.step()

    assert own.seen == ()


def test_a_missing_right_is_named(serve: Serve, tmp_path: Path) -> None:
    server = serve({ANY: lambda request: refusal(403, "forbidden")})
    own = Observers(connected(tmp_path, server.url), PLAN)

    with pytest.raises(ReadError, match=f"no right to create pods in {NAMESPACE}"):
        own.step()
