"""The probe pair, against an API server on loopback that runs pods in no time."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.probe import pair, pair_manifests
from meshgate.probe.plan import Plaintext, Plan
from meshgate.snapshot.pair import PeerCall
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import Answer, Request, answer, refusal

PLAN = Plan(image="example.test/python:1", declared=("http://web.shop/",), seconds=1)
JOBS = f"/apis/batch/v1/namespaces/{PLAN.namespace}/jobs"
SERVICES = f"/api/v1/namespaces/{PLAN.namespace}/services"
PODS = f"/api/v1/namespaces/{PLAN.namespace}/pods"
US = f"spiffe://cluster.local/ns/{PLAN.namespace}/sa/default"

REPORTS = {
    "a": [{"status": 200, "caller": US}, {"status": 200}, {"status": 503}, {"gap": 2.5}],
    "b": [{"status": 403, "denied": True}, {"error": "timed out"}],
}


class Kubernetes:
    """Jobs, and a pod for each that `runs` says what it looks like."""

    def __init__(self, runs: Callable[[str], dict[str, Any] | None]) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.services: list[dict[str, Any]] = []
        self.made: list[dict[str, Any]] = []
        self._runs = runs

    def __call__(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        match request.verb:
            case "POST" if request.path == JOBS:
                job = json.loads(request.body)
                job["metadata"]["uid"] = f"uid-{len(self.jobs)}"
                self.jobs[job["metadata"]["name"]] = job
                self.made.append(job)
                return answer(job, 201)
            case "POST" if request.path == SERVICES:
                self.services.append(json.loads(request.body))
                return answer({}, 201)
            case "DELETE" if name in self.jobs:
                assert request.query["propagationPolicy"] == ["Background"]
                del self.jobs[name]
                return answer({})
            case "GET" if request.path == JOBS:
                return answer({"items": list(self.jobs.values())})
            case "GET" if request.path == PODS:
                return answer(
                    {"items": [pod for job in self.jobs.values() if (pod := self._pod(job))]}
                )
        return refusal(404, "not found")

    def _pod(self, job: dict[str, Any]) -> dict[str, Any] | None:
        template = job["spec"]["template"]
        status = self._runs(template["metadata"]["labels"][pair_manifests.PEER])
        if status is None:
            return None
        metadata = {"name": f"{job['metadata']['name']}-x", **template["metadata"]}
        proxy = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.29.1"}
        spec = {"containers": template["spec"]["containers"], "initContainers": [proxy]}
        return {"metadata": metadata, "spec": spec, "status": status}


def told(words: str) -> dict[str, Any]:
    """A pod whose caller ended with these words."""
    ended = {"name": pair_manifests.CALLER, "state": {"terminated": {"message": words}}}
    return {"phase": "Running", "containerStatuses": [ended]}


def waits(reason: str) -> dict[str, Any]:
    """A pod whose server waits for that."""
    status = {
        "name": pair_manifests.SERVER,
        "state": {"waiting": {"reason": reason, "message": "words"}},
    }
    return {"phase": "Pending", "containerStatuses": [status]}


@pytest.fixture
def cluster(serve: Serve, tmp_path: Path) -> Callable[[Any], Cluster]:
    """A connection to an API server that answers so."""

    def connected(kubernetes: Any) -> Cluster:
        server = serve({"*": kubernetes})
        config = fakes.kubeconfig(tmp_path / "kubeconfig", server.url)
        return Cluster(config=str(config), patience=0)

    return connected


Connected = Callable[[Any], Cluster]


def test_both_peers_report_and_nothing_is_left(cluster: Connected) -> None:
    kubernetes = Kubernetes(lambda peer: told(json.dumps(REPORTS[peer])))

    seen = pair.ask(cluster(kubernetes), PLAN)

    assert seen.calls == (
        PeerCall(peer="a", kind="peer", target="b", status=200, caller=US),
        PeerCall(peer="a", kind="declared", target="http://web.shop/", status=200),
        PeerCall(peer="a", kind="later", target="b", status=503, code=503, asked=2),
        PeerCall(peer="a", kind="later", target="b", code=429, asked=2, gap=2.5),
        PeerCall(peer="b", kind="peer", target="a", status=403, denied=True),
        PeerCall(peer="b", kind="declared", target="http://web.shop/", error="timed out"),
    )
    assert {peer.proxy_image for peer in seen.peers} == {"docker.io/istio/proxyv2:1.29.1"}
    assert not any(peer.unmade or peer.stuck for peer in seen.peers)
    assert kubernetes.jobs == {}


def test_what_is_made_ends_by_itself_and_takes_its_service_along(cluster: Connected) -> None:
    kubernetes = Kubernetes(lambda peer: told(json.dumps(REPORTS[peer])))

    pair.ask(cluster(kubernetes), PLAN)

    for job, service in zip(kubernetes.made, kubernetes.services, strict=True):
        spec, (owner,) = job["spec"], service["metadata"]["ownerReferences"]
        assert (owner["name"], owner["uid"]) == (job["metadata"]["name"], job["metadata"]["uid"])
        assert PLAN.seconds < spec["activeDeadlineSeconds"] <= PLAN.seconds + pair_manifests.GRACE
        assert spec["ttlSecondsAfterFinished"] == spec["backoffLimit"] == 0
        pod = spec["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["image"] == PLAN.image
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
        assert "sidecar.istio.io/inject" not in spec["template"]["metadata"]["labels"]


def test_pods_that_carry_the_labels_of_filters_are_called_too(cluster: Connected) -> None:
    reports = REPORTS | {"a": [*REPORTS["a"], {"status": 429, "sent": 4, "retryAfter": ["7"]}]}
    kubernetes = Kubernetes(lambda peer: told(json.dumps(reports.get(peer, []))))
    theirs = {"app": "web", pair_manifests.PEER: "not this"}

    seen = pair.ask(cluster(kubernetes), PLAN._replace(throttled=(theirs,), most=9))

    assert [each.name for each in seen.peers] == ["a", "b"]
    (tempted,) = seen.tempted
    assert (tempted.name, tempted.labels["app"], tempted.unmade) == ("c", "web", "")
    burst = next(each for each in seen.calls if each.kind == "burst")
    assert (burst.target, burst.sent, burst.retry_after) == ("c", 4, ("7",))
    asked = json.loads(
        kubernetes.made[0]["spec"]["template"]["spec"]["containers"][1]["command"][4]
    )
    assert (asked[-1]["method"], asked[-1]["most"]) == ("BURST", 9)
    assert kubernetes.jobs == {}


def test_pods_outside_the_mesh_connect_in_plaintext(cluster: Connected) -> None:
    ports = [Plaintext(f"library/catalog-{n}:80", f"http://10.0.0.{n}:80") for n in range(81)]
    outside = {"outside-0": [{"end": "refused"}] * 80, "outside-1": [{"end": "answered"}]}
    kubernetes = Kubernetes(lambda peer: told(json.dumps((REPORTS | outside)[peer])))

    seen = pair.ask(cluster(kubernetes), PLAN._replace(plaintext=tuple(ports)))

    assert [each.name for each in seen.peers] == ["a", "b"]
    assert [each.name for each in seen.outside] == ["outside-0", "outside-1"]
    ends = {each.target: each.end for each in seen.calls if each.kind == "plaintext"}
    assert (len(ends), ends["library/catalog-0:80"], ends["library/catalog-80:80"]) == (
        *(81, "refused", "answered"),
    )
    labels = kubernetes.made[-1]["spec"]["template"]["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "false"
    assert labels["istio.io/dataplane-mode"] == "none"


def test_a_pair_in_ambient_mode_is_not_asked_for_identities(cluster: Connected) -> None:
    reports = {"a": [{"status": 200, "caller": ""}, {"status": 200}], "b": [{"status": 200}]}
    kubernetes = Kubernetes(lambda peer: told(json.dumps(reports[peer])))

    seen = pair.ask(cluster(kubernetes), PLAN._replace(ambient=True))

    assert seen.ambient
    assert [each.kind for each in seen.calls] == ["peer", "declared", "peer"]
    command = kubernetes.made[0]["spec"]["template"]["spec"]["containers"][1]["command"]
    assert json.loads(command[4])[0]["method"] == "REACH"


@pytest.mark.parametrize(
    ("runs", "unmade", "stuck"),
    [
        (None, "its Job has no pod", ""),
        ({"phase": "Pending"}, "is Pending and not Ready", ""),
        (waits("ImagePullBackOff"), "container serve is in ImagePullBackOff (words)", ""),
        (told("Traceback"), "it ended with the message 'Traceback'", ""),
        (waits("PodInitializing"), "", "reported nothing within 1 s"),
    ],
)
def test_a_pod_that_tells_nothing(
    cluster: Connected, runs: dict[str, Any] | None, unmade: str, stuck: str
) -> None:
    kubernetes = Kubernetes(lambda peer: runs)

    seen = pair.ask(cluster(kubernetes), PLAN)

    for peer in seen.peers:
        assert peer.unmade.startswith(unmade) if unmade else not peer.unmade
        assert peer.stuck.startswith(stuck) if stuck else not peer.stuck
    assert seen.calls == ()
    assert kubernetes.jobs == {}


def test_what_a_killed_run_left_is_removed_and_what_another_needs_is_not(
    cluster: Connected,
) -> None:
    kubernetes = Kubernetes(lambda peer: told(json.dumps(REPORTS[peer])))
    for name, age in (("stale", 100), ("beside-us", 10)):
        job = pair_manifests.manifest(PLAN._replace(seconds=45), name, "a")
        born = datetime.now(UTC) - timedelta(seconds=age)
        job["metadata"]["creationTimestamp"] = born.isoformat()
        kubernetes.jobs[f"probe-{name}-a"] = job

    # the other one's pods are not ours to wait for
    kubernetes._runs = lambda peer: told(json.dumps(REPORTS[peer]))
    api = cluster(lambda request: _of_one_run(kubernetes, request))
    pair.ask(api, PLAN)

    assert list(kubernetes.jobs) == ["probe-beside-us-a"]


def _of_one_run(kubernetes: Kubernetes, request: Request) -> Answer:
    """Pods as the label selector of a request asks for them."""
    found = kubernetes(request)
    if request.path != PODS:
        return found
    name, _, value = request.query["labelSelector"][0].partition("=")
    items = json.loads(found.body)["items"]
    return answer({"items": [each for each in items if each["metadata"]["labels"][name] == value]})


def test_a_right_that_is_missing_is_named_and_what_was_made_is_removed(
    cluster: Connected,
) -> None:
    kubernetes = Kubernetes(lambda peer: None)

    def refuses(request: Request) -> Answer:
        refused = request.verb == "POST" and request.path == SERVICES
        return refusal(403, "forbidden") if refused else kubernetes(request)

    with pytest.raises(ReadError, match=f"no right to create services in {PLAN.namespace}"):
        pair.ask(cluster(refuses), PLAN)

    assert len(kubernetes.made) == 1
    assert kubernetes.jobs == {}
