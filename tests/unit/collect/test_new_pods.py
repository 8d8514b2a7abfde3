"""The pods that a restart would create: templates sent to an injector, and what is kept of them."""

import json
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from meshgate.collect import new_pods
from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.lists import Listing
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Annotations, Owner, Pod
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.new_pods import NewPod, NewPods
from meshgate.snapshot.sources import Kind
from tests.conftest import Serve
from tests.support import fakes
from tests.support import webhook_builders as build
from tests.support.builders import sidecar
from tests.support.fakes import Request, answer, refusal
from tests.support.webhook_server import Istiod

PROXY = {
    "name": "istio-proxy",
    "image": "hub/proxyv2:1.31.0",
    "env": [{"name": "TOKEN", "value": "planted"}],
    "resources": {"requests": {"cpu": "100m"}},
    "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": None},
    "lifecycle": {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}},
}
PATCH = [
    {"op": "add", "path": "/spec/containers/0", "value": PROXY},
    {
        "op": "add",
        "path": "/spec/containers/1/readinessProbe/httpGet/path",
        "value": "/app-health/app/readyz",
    },
]
APP = {
    "name": "app",
    "env": [{"name": "PASSWORD", "value": "planted"}],
    "ports": [{"containerPort": 80, "hostPort": 8080}],
    "readinessProbe": {"httpGet": {"path": "/ready?token=planted", "host": "127.0.0.1"}},
}


def injecting(path: str, request: dict[str, Any]) -> tuple[int, bytes]:
    """Add the proxy, unless an annotation is invalid."""
    annotations = request["object"]["metadata"]["annotations"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": "invalid" not in annotations}
    if response["allowed"]:
        response["patch"] = b64encode(json.dumps(PATCH).encode()).decode()
    else:
        response["status"] = {"message": "annotations validation failed"}
    return 200, json.dumps({"response": response}).encode()


def workload(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    """A Deployment."""
    annotations = more.pop("annotations", {})
    template = {
        "metadata": {"labels": {"app": name}, "annotations": annotations},
        "spec": {"containers": [APP], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"metadata": metadata, "spec": {"replicas": 4, "template": template, **more}}


@pytest.fixture
def read(serve: Serve, tmp_path: Path) -> Any:
    """Reads the new pods of a cluster with these Deployments and pods."""

    def started(
        *deployments: dict[str, Any],
        dry_run: Any = None,
        pods: tuple[Pod, ...] = (),
        bodies: tuple[dict[str, Any], ...] = (),
        jobs: tuple[dict[str, Any], ...] = (),
    ) -> NewPods:
        def shop_pods(request: Request) -> fakes.Answer:
            if request.verb == "GET":
                return answer({"items": list(bodies)})
            created: fakes.Answer = dry_run(request) if callable(dry_run) else dry_run
            return created

        lists = {f"/apis/apps/v1/{name}": answer({}) for name in ("statefulsets", "daemonsets")}
        answers = {
            **lists,
            "/apis/apps/v1/deployments": answer({"items": list(deployments)}),
            "/apis/batch/v1/cronjobs": answer({}),
            "/apis/batch/v1/jobs": answer({"items": list(jobs)}),
            "/api/v1/namespaces/shop/pods": shop_pods,
        }
        config = fakes.kubeconfig(tmp_path / "kubeconfig", serve(answers).url)
        found = Items(
            pods=pods,
            namespaces=(build.namespace(injection="enabled"), build.namespace("legacy")),
            mutating_webhooks=(build.injector(),),
            services=(build.service(),),
            endpoint_slices=(build.slice_of(),),
        )
        with Istiod(tmp_path, injecting).serving() as server:
            context: Any = SimpleNamespace(
                cluster=Cluster(config=str(config), patience=0.0),
                expectations=Expectations(),
                transport=server,
                settings=SimpleNamespace(probes=SimpleNamespace(dry_run_pods=dry_run is not None)),
            )
            return new_pods.read(context, found)

    return started


def only(found: NewPods) -> NewPod:
    """The one pod."""
    (pod,) = found.pods
    return pod


def test_a_template_is_injected_and_described(read: Any) -> None:
    pod = only(read(workload("web")))

    assert (pod.workload, pod.injected) == ("Deployment shop/web", True)
    assert (pod.replicas, pod.surge, pod.unavailable) == (4, 1, 1)
    assert pod.volumes == ("hostPath",)
    proxy, app = pod.containers
    assert (proxy.injected, proxy.requests, proxy.hooks) == (True, {"cpu": "100m"}, ("postStart",))
    assert proxy.security is not None
    assert proxy.security.capabilities is not None
    assert proxy.security.capabilities.add == ("NET_ADMIN",)
    assert (app.injected, app.host_ports, app.hosts) == (False, (8080,), ("127.0.0.1",))
    assert app.probes == {"readinessProbe": "httpGet /app-health/app/readyz"}


def test_no_value_of_a_variable_or_a_query_is_kept(read: Any) -> None:
    assert b"planted" not in msgspec.json.encode(read(workload("web")))


def test_the_injectors_refusal_is_kept(read: Any) -> None:
    pod = only(read(workload("web", annotations={"invalid": "yes"})))

    assert (pod.injected, pod.refused) == (False, "annotations validation failed")


def test_a_workload_outside_the_mesh_is_only_named(read: Any) -> None:
    found = read(workload("web"), workload("batch", "legacy"))

    assert only(found).workload == "Deployment shop/web"
    assert found.others == ("Deployment legacy/batch",)


@pytest.mark.parametrize(
    ("strategy", "rollout"),
    [
        ({"type": "Recreate"}, (4, 0, 4)),
        ({"rollingUpdate": {"maxSurge": "30%", "maxUnavailable": 0}}, (4, 2, 0)),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}}, (4, 0, 1)),
    ],
)
def test_the_strategy_says_what_exists_during_a_rollout(
    read: Any, strategy: dict[str, Any], rollout: tuple[int, int, int]
) -> None:
    pod = only(read(workload("web", strategy=strategy)))

    assert (pod.replicas, pod.surge, pod.unavailable) == rollout


def test_a_dry_run_asks_the_api_server(read: Any) -> None:
    asked: list[Request] = []

    def denied(request: Request) -> fakes.Answer:
        asked.append(request)
        return refusal(403, "denied by kyverno")

    found = read(workload("web"), dry_run=denied)

    assert (only(found).admission, found.dry_run) == ("denied by kyverno", True)
    assert [request.query for request in asked] == [{"dryRun": ["All"]}]


def test_without_the_right_to_create_pods_a_dry_run_is_an_error(read: Any) -> None:
    denied = refusal(403, 'User "x" cannot create resource "pods" in API group ""')

    with pytest.raises(ReadError, match="no right to create pods in shop"):
        read(workload("web"), dry_run=denied)


def of_controller(kind: str, name: str, **labels: str) -> tuple[Pod, ...]:
    """Two pods with a sidecar of one controller."""
    return tuple(
        sidecar(
            f"{name}-{number}",
            owner=Owner(kind=kind, name=name, controller=True),
            labels=labels,
            annotations=Annotations(injection_status="{}"),
        )
        for number in range(2)
    )


def owned_by(kind: str, name: str) -> list[dict[str, Any]]:
    """The owner references of a controller's pod."""
    return [{"kind": kind, "name": name, "controller": True}]


def running_pod(owner: str = "CloneSet", name: str = "web", **annotations: str) -> dict[str, Any]:
    """A pod as the API server has it, with the proxy that an injector added."""
    status = json.dumps({"containers": ["istio-proxy"], "initContainers": None, "volumes": []})
    return {
        "metadata": {
            "name": "web-5d9-0",
            "namespace": "shop",
            "uid": "1",
            "labels": {"app": "web"},
            "ownerReferences": owned_by(owner, name),
            "annotations": {"sidecar.istio.io/status": status, **annotations},
        },
        "spec": {"nodeName": "node-1", "containers": [APP, PROXY]},
        "status": {"phase": "Running"},
    }


def test_the_next_pod_of_an_argo_rollout_is_made_of_a_present_one(read: Any) -> None:
    asked: list[Request] = []

    def accepted(request: Request) -> fakes.Answer:
        asked.append(request)
        return answer({})

    pods = of_controller("ReplicaSet", "web-5d9", **{"rollouts-pod-template-hash": "5d9"})
    body = running_pod("ReplicaSet", "web-5d9")
    body["metadata"]["labels"] |= {"rollouts-pod-template-hash": "5d9"}
    pod = only(read(pods=pods, bodies=(body,), dry_run=accepted))

    assert (pod.workload, pod.injected) == ("Rollout shop/web", True)
    # how it replaces its pods is not known: only the end of a rollout is judged
    assert (pod.replicas, pod.surge, pod.unavailable) == (2, 0, 2)
    assert {each.name: each.injected for each in pod.containers} == {
        "app": False,
        "istio-proxy": True,
    }
    (created,) = [json.loads(each.body) for each in asked]
    assert created["metadata"]["generateName"] == "web-5d9-0-"
    assert created["metadata"].keys() <= {"generateName", "namespace", "labels", "annotations"}
    assert "nodeName" not in created["spec"]


def test_the_injectors_refusal_of_a_rollouts_pod_is_kept(read: Any) -> None:
    pods = of_controller("CloneSet", "web")

    pod = only(read(pods=pods, bodies=(running_pod(invalid="yes"),)))

    assert (pod.workload, pod.refused) == ("CloneSet shop/web", "annotations validation failed")


@pytest.mark.parametrize("kind", ["Job", "Node", "StatefulSet"])
def test_pods_that_no_other_controller_creates_again_are_left_out(read: Any, kind: str) -> None:
    assert read(pods=of_controller(kind, "web"), bodies=(running_pod(kind),)).pods == ()


def test_other_controllers_cost_one_list_of_each_namespace(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists: list[str] = []
    listing = Cluster.listing

    def counted(cluster: Cluster, kind: Kind) -> Listing:
        lists.append(kind.path)
        return listing(cluster, kind)

    monkeypatch.setattr(Cluster, "listing", counted)
    names = [f"web-{number}" for number in range(9)]
    pods = tuple(each for name in names for each in of_controller("CloneSet", name))

    found = read(pods=pods, bodies=tuple(running_pod("CloneSet", name) for name in names))

    assert [each.workload for each in found.pods] == [f"CloneSet shop/{name}" for name in names]
    assert lists.count("/api/v1/namespaces/shop/pods") == 1
    assert "/api/v1/pods" not in lists


def test_another_pod_of_the_workload_replaces_one_that_is_gone(read: Any) -> None:
    pods = of_controller("CloneSet", "web")
    terminating, finished, newer = running_pod(), running_pod(), running_pod()
    terminating["metadata"]["deletionTimestamp"] = "2026-11-28T12:00:00Z"
    finished["status"]["phase"] = "Failed"
    newer["metadata"] |= {"name": "web-new", "labels": {"app": "newer"}}
    # what the API server has no value for may be null
    newer["metadata"]["deletionTimestamp"] = None
    bodies = (terminating, finished, newer)
    asked: list[Request] = []

    def accepted(request: Request) -> fakes.Answer:
        asked.append(request)
        return answer({})

    assert only(read(pods=pods, bodies=bodies, dry_run=accepted)).workload == "CloneSet shop/web"
    (created,) = [json.loads(each.body) for each in asked]
    assert created["metadata"]["labels"] == {"app": "newer"}


def job(name: str = "import", **more: Any) -> dict[str, Any]:
    """A Job of one pod that did not start."""
    owner = more.pop("owner", None)
    status = more.pop("status", {})
    body = workload(name, **({"completions": 1, "parallelism": 1} | more))
    del body["spec"]["replicas"]
    body["metadata"]["ownerReferences"] = owned_by(owner, "nightly") if owner else []
    return {**body, "status": status}


@pytest.mark.parametrize(
    ("listed", "replicas"),
    [
        (job(suspend=True), 1),
        (job(), 1),
        (job(owner="JobSet", suspend=True), 1),
        (job(status={"active": 1}), 0),
        (job(completions=5, parallelism=2, status={"active": 2, "succeeded": 1}), 1),
        (job(completions=5, parallelism=2, status={"active": 2, "succeeded": 3}), 0),
        # a work queue starts no pod after the first success
        (job(completions=None, parallelism=3, status={"active": 1}), 1),
        (job(completions=None, parallelism=None), 1),
        (job(completions=None, parallelism=3, status={"active": 1, "succeeded": 1}), 0),
        (job(backoffLimit=0), 1),
        (job(backoffLimit=0, podFailurePolicy={"rules": [{}]}, status={"active": 1}), 0),
        # its pod failed, and the next one is not there yet
        (job(status={"failed": 1}), 1),
    ],
)
def test_an_unfinished_job_creates_pods(read: Any, listed: dict[str, Any], replicas: int) -> None:
    pod = only(read(jobs=(listed,)))

    assert (pod.workload, pod.injected) == ("Job shop/import", True)
    assert (pod.replicas, pod.surge, pod.unavailable) == (replicas, 0, 0)


@pytest.mark.parametrize(
    "listed",
    [
        job(status={"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}),
        job(status={"failed": 7, "conditions": [{"type": "Failed", "status": "True"}]}),
        job(status={"conditions": [{"type": "FailureTarget", "status": "True"}]}),
        # its pod is there, and none replaces it
        job(backoffLimit=0, status={"active": 1}),
        # the CronJob's own template counts
        job(owner="CronJob", status={"active": 1}),
    ],
)
def test_a_job_that_creates_no_pod_is_left_out(read: Any, listed: dict[str, Any]) -> None:
    found = read(jobs=(listed,))

    assert (found.pods, found.others) == ((), ())


def test_a_job_outside_the_mesh_is_only_named(read: Any) -> None:
    listed = job(suspend=True)
    listed["metadata"]["namespace"] = "legacy"

    assert read(jobs=(listed,)).others == ("Job legacy/import",)


def test_what_keeps_a_pod_from_nodes_is_kept(read: Any) -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    apart = {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "web"}}}
    body = workload("web")
    body["spec"]["template"]["spec"] |= {
        "affinity": {
            "nodeAffinity": {required: {"nodeSelectorTerms": [zone]}},
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]},
            "podAntiAffinity": {
                required: [apart, {**apart, "matchLabelKeys": ["pod-template-hash"]}]
            },
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "ScheduleAnyway"},
            {
                "maxSkew": 2,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}},
                "matchLabelKeys": ["pod-template-hash"],
                "minDomains": None,
                "nodeTaintsPolicy": "Honor",
            },
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }

    pod = only(read(body))

    (term,) = pod.node_terms
    assert term.match_expressions[0].values == ("a",)
    (found,) = pod.apart
    assert (found.topology_key, found.namespaces) == ("host", ())
    (spread,) = pod.spread
    assert (spread.topology_key, spread.max_skew, spread.min_domains) == ("zone", 2, 0)
    assert (spread.match_label_keys, spread.node_taints_policy) == (("pod-template-hash",), "Honor")
    assert pod.labels == {"app": "web"}
    # a term that this version does not evaluate is named
    assert pod.constraints == ("podAntiAffinity", "persistentVolumeClaim")
