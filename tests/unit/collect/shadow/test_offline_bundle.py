"""What is recorded for an upgrade to be tried with later: enough for an istiod, and no secret.

That the target makes the same of it as of the cluster is proven in the lab.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow.offline_bundle import record
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.semantics.config_diff import Resources
from meshgate.semantics.injection import Shape
from meshgate.snapshot.offline_bundle import Listed, OfflineBundle
from meshgate.snapshot.sources import Kind
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import answer

SECRET = "hidden-value"
PROXY = {
    "name": "istio-proxy",
    "args": ["proxy", "sidecar", "--domain", "x.svc.example", f"--log={SECRET}"],
    "env": [
        {"name": "ISTIO_META_WORKLOAD_NAME", "value": "web"},
        {"name": "PROXY_CONFIG", "value": '{"concurrency":1,"proxyMetadata":{"A":"hidden-value"}}'},
        {"name": "OWN", "value": SECRET},
    ],
}
POD = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "labels": {"app": "web"},
        "annotations": {"own": SECRET, "traffic.sidecar.istio.io/x": "1"},
        "managedFields": [SECRET],
    },
    "spec": {
        "containers": [
            {"name": "app", "args": [SECRET], "env": [{"name": "A", "value": SECRET}]},
            PROXY,
        ]
    },
    "status": {"phase": "Running", "podIP": "192.0.2.1"},
}
FILTER = {
    "metadata": {"name": "lua", "namespace": "shop"},
    "spec": {
        "code": f'local token = "{SECRET}"',
        "settings": {
            **dict.fromkeys(("password", "x-api-key", "access-key", "accessToken"), SECRET),
            "header": {"key": "x-api-key", "value": SECRET},
            "forwardOriginalToken": True,
        },
    },
    "kind": "EnvoyFilter",
}
WASM = {
    "metadata": {"name": "wasm", "namespace": "shop"},
    "spec": {
        "imagePullSecret": "pull",
        "vmConfig": {"env": [{"name": "A", "value": SECRET}]},
    },
}
RULE = {
    "metadata": {"name": "rule", "namespace": "shop"},
    "spec": {"host": "web", "plain": '{"a": 1}'},
}


def definition(resource: str, group: str, kind: str, *versions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{resource}.{group}"},
        "spec": {
            "names": {"kind": kind},
            "versions": [{"name": version, "served": True} for version in versions],
        },
    }


DEPLOYMENT = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "template": {
            "metadata": {
                "labels": {"app": "web"},
                "annotations": {"prometheus.io/port": "9090", "vault.example/token": SECRET},
            },
            "spec": {
                "containers": [
                    {
                        "name": "app",
                        "image": "app",
                        "command": ["run", SECRET],
                        "env": [{"name": "TOKEN", "value": SECRET}],
                    }
                ]
            },
        }
    },
}

DEFINITIONS = [
    definition("envoyfilters", "networking.istio.io", "EnvoyFilter", "v1alpha3"),
    definition("destinationrules", "networking.istio.io", "DestinationRule", "v1alpha3", "v1"),
    definition("wasmplugins", "extensions.istio.io", "WasmPlugin", "v1alpha1"),
]


class RunningMesh:
    """Two proxies of one class; the first has just gone."""

    proxies = frozenset({"web-0.shop", "web-1.shop"})
    injection_enabled = ("other", "shop")

    def injects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return namespace in self.injection_enabled

    def given(self, proxy: str) -> Resources:
        if proxy == "web-0.shop":
            raise ReadError("it has just gone", "")
        return {
            ("cluster", "a"): {"name": "a"},
            ("cluster", "b"): {"name": "a"},
            ("extension", "w"): {"environmentVariables": {"keyValues": {"A": SECRET}}},
            ("listener", "l"): {"code": f'local token = "{SECRET}"'},
        }

    def injected(self, namespace: str) -> Shape:
        if namespace == "other":
            raise ReadError("no injector that runs is called for it", "")
        return {"containers": {}}


@pytest.fixture
def recorded(serve: Serve, tmp_path: Path) -> OfflineBundle:
    """The recording of a small mesh."""
    gone = {**POD, "metadata": {**POD["metadata"], "name": "web-0"}}  # type: ignore[dict-item]
    lists: dict[str, list[Any]] = {
        "/api/v1/pods": [gone, POD],
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": DEFINITIONS,
        "/apis/networking.istio.io/v1alpha3/envoyfilters": [FILTER],
        "/apis/networking.istio.io/v1/destinationrules": [RULE],
        "/apis/extensions.istio.io/v1alpha1/wasmplugins": [WASM],
        "/apis/discovery.k8s.io/v1/endpointslices": [],
        "/apis/networking.k8s.io/v1/ingresses": [],
        "/apis/networking.k8s.io/v1/ingressclasses": [],
    }
    for name in ("endpoints", "namespaces", "nodes", "serviceaccounts", "services"):
        lists[f"/api/v1/{name}"] = []
    for name in ("daemonsets", "statefulsets"):
        lists[f"/apis/apps/v1/{name}"] = []
    lists["/apis/apps/v1/deployments"] = [DEPLOYMENT]
    for name in ("mutating", "validating"):
        lists[f"/apis/admissionregistration.k8s.io/v1/{name}webhookconfigurations"] = []
    api = serve({path: answer({"items": items}) for path, items in lists.items()})
    cluster = Cluster(config=str(fakes.kubeconfig(tmp_path / "config", api.url)), patience=0.0)
    return record(cluster, RunningMesh())


def test_a_pod_template_has_no_environment_and_no_command(recorded: OfflineBundle) -> None:
    (deployment,) = recorded.listed["apps/deployments"].objects

    assert deployment["spec"]["template"] == {
        "metadata": {"labels": {"app": "web"}, "annotations": {"prometheus.io/port": "9090"}},
        "spec": {"containers": [{"name": "app", "image": "app"}], "initContainers": []},
    }


def test_no_secret_value_argument_or_foreign_annotation_is_in_it(recorded: OfflineBundle) -> None:
    assert SECRET not in msgspec.json.encode(recorded).decode()


def test_what_was_cut_is_told_by_name(recorded: OfflineBundle) -> None:
    assert recorded.cut == ("EnvoyFilter shop/lua", "WasmPlugin shop/wasm")


def test_what_an_istiod_reads_is_there(recorded: OfflineBundle) -> None:
    (_, pod) = recorded.listed["/pods"].objects
    assert pod["metadata"]["annotations"] == {"traffic.sidecar.istio.io/x": "1"}
    proxy = pod["spec"]["containers"][1]
    assert proxy["args"] == ["proxy", "sidecar", "--domain=x.svc.example"]
    assert [each["name"] for each in proxy["env"]] == ["ISTIO_META_WORKLOAD_NAME", "PROXY_CONFIG"]
    (lua,) = recorded.listed["networking.istio.io/envoyfilters"].objects
    assert lua["spec"]["settings"]["forwardOriginalToken"] is True
    # text that is no secret is what it was, to the byte
    (rule,) = recorded.listed["networking.istio.io/destinationrules"].objects
    assert rule["spec"] == RULE["spec"]
    assert (
        recorded.listed["extensions.istio.io/wasmplugins"].objects[0]["spec"]["imagePullSecret"]
        == "pull"
    )


def test_a_class_is_told_by_the_first_that_answers(recorded: OfflineBundle) -> None:
    running = RecordedRunningMesh(recorded)

    assert running.proxies == RunningMesh.proxies
    assert running.given("web-1.shop")["cluster", "b"] == {"name": "a"}
    assert len(recorded.bodies) == 3  # what is the same is kept once
    with pytest.raises(ReadError, match="it has just gone"):
        running.given("web-0.shop")


def test_what_the_injector_made_is_kept_and_where_it_did_not_too(recorded: OfflineBundle) -> None:
    running = RecordedRunningMesh(recorded)

    assert running.injection_enabled == ("other", "shop")
    assert running.injected("shop") == {"containers": {}}
    with pytest.raises(ReadError, match="no injector"):
        running.injected("other")


# --- as a cluster -------------------------------------------------------------------------------

LISTED = {
    "/pods": Listed(kind="Pod", objects=(POD, {"metadata": {"name": "a", "namespace": "other"}})),
    "networking.istio.io/envoyfilters": Listed(kind="EnvoyFilter", objects=(FILTER,)),
}


def asked(path: str, accept: str = "", **query: str) -> Any:
    """What a recorded cluster answers."""
    cluster = RecordedCluster(LISTED, "v1.34.4")
    sent = cluster.send("GET", path, query=list(query.items()), headers={"Accept": accept})
    return sent.status, msgspec.json.decode(sent.read())


def test_a_list_is_as_an_api_server_gives_it() -> None:
    status, page = asked("/apis/networking.istio.io/v1alpha3/envoyfilters")

    assert (status, page["kind"]) == (200, "EnvoyFilterList")
    assert page["apiVersion"] == page["items"][0]["apiVersion"] == "networking.istio.io/v1alpha3"
    assert page["items"][0]["spec"] == FILTER["spec"]


@pytest.mark.parametrize(
    ("path", "query", "names"),
    [
        ("/api/v1/pods", {}, ["web-1", "a"]),
        ("/api/v1/namespaces/shop/pods", {}, ["web-1"]),
        ("/api/v1/pods", {"fieldSelector": "metadata.name=a"}, ["a"]),
        ("/api/v1/pods", {"fieldSelector": "status.phase!=Running"}, ["a"]),
        ("/api/v1/pods", {"fieldSelector": "metadata.namespace==shop"}, ["web-1"]),
    ],
)
def test_a_list_is_of_what_was_asked_for(
    path: str, query: dict[str, str], names: list[str]
) -> None:
    _, page = asked(path, **query)

    assert [each["metadata"]["name"] for each in page["items"]] == names


def test_one_object_and_none() -> None:
    assert asked("/api/v1/namespaces/shop/pods/web-1")[1]["kind"] == "Pod"
    assert asked("/api/v1/namespaces/shop/pods/gone")[0] == 404
    assert asked("/api/v1/persistentvolumes")[0] == 404
    assert asked("/version") == (200, {"gitVersion": "v1.34.4"})


def test_metadata_alone_is_of_a_kind_of_its_own() -> None:
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

    _, page = asked("/api/v1/pods", accept)

    assert page["kind"] == "PartialObjectMetadataList"
    assert set(page["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_a_watch_ends_when_it_is_shut_down() -> None:
    watch = RecordedCluster(LISTED, "").send("GET", "/api/v1/pods", query=[("watch", "true")])
    read: list[bytes] = []
    waiting = threading.Thread(target=lambda: read.append(watch.read1()))
    waiting.start()

    watch.shutdown()
    waiting.join(30)

    assert read == [b""]


def test_objects_are_decoded_as_a_clusters_are() -> None:
    class Name(msgspec.Struct):
        name: str

    class Thing(msgspec.Struct):
        metadata: Name

    found = RecordedCluster(LISTED, "").objects(Kind("", "", "v1", "pods", Thing))

    assert [each.metadata.name for each in found] == ["web-1", "a"]
