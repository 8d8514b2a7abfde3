"""How a pod's proxy introduces itself, and which proxies are one class."""

from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow.proxies import Proxy, alike, read
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import answer

MESH = {"defaultConfig": {"concurrency": 2, "proxyMetadata": {"A": "mesh", "B": "mesh"}}}


def pod(name: str = "web-1", ip: str = "10.0.0.1", **changes: Any) -> dict[str, Any]:
    """A pod with a sidecar, as the API server tells it."""
    environment = {
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_WORKLOAD_NAME": "web",
        "ISTIO_METAJSON_EXTRA": '{"DNS_CAPTURE": "true"}',
        "PROXY_CONFIG": '{"concurrency": 4, "proxyMetadata": {"B": "pod"}}',
        "TOKEN": "secret",
    } | changes.get("env", {})
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "web", "pod-template-hash": name} | changes.get("labels", {}),
            "annotations": {"sidecar.istio.io/status": name} | changes.get("annotations", {}),
        },
        "spec": {
            "nodeName": changes.get("node", "node-1"),
            "serviceAccountName": changes.get("account", "web"),
            "containers": [{"name": "app"}],
            "initContainers": [
                {
                    "name": "istio-proxy",
                    "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local"],
                    "env": [{"name": key, "value": value} for key, value in environment.items()],
                }
            ],
        },
        "status": {
            "phase": changes.get("phase", "Running"),
            "podIP": ip,
            "podIPs": [{"ip": ip}],
        },
    }


def node(name: str, zone: str) -> dict[str, Any]:
    """A node in a zone."""
    return {"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}}


@pytest.fixture
def proxies(serve: Serve, tmp_path: Path) -> Any:
    """The proxies of pods, as they are derived."""

    def derive(*pods: dict[str, Any]) -> tuple[Proxy, ...]:
        nodes = [node("node-1", "a"), node("node-2", "a"), node("node-3", "b")]
        api = serve(
            {
                "/api/v1/nodes": answer({"items": nodes}),
                "/api/v1/pods": answer({"items": pods}),
            }
        )
        config = fakes.kubeconfig(tmp_path / "kubeconfig", api.url)
        return read(Cluster(config=str(config), patience=0.0), MESH, "1.29.1")

    return derive


def test_it_introduces_itself_as_the_sidecar_of_its_pod(proxies: Any) -> None:
    (proxy,) = proxies(pod())

    assert proxy.id == "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"
    assert (proxy.key, proxy.cluster, proxy.locality) == ("web-1.shop", "web.shop", {"zone": "a"})
    assert proxy.metadata | {"ANNOTATIONS": {}} == {
        "ANNOTATIONS": {},
        "CLUSTER_ID": "Kubernetes",
        "DNS_CAPTURE": "true",
        "INSTANCE_IPS": "10.0.0.1",
        "ISTIO_VERSION": "1.29.1",
        "LABELS": {"app": "web"},
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "NODE_NAME": "node-1",
        "PROXY_CONFIG": {"concurrency": 4, "proxyMetadata": {"A": "mesh", "B": "pod"}},
        "SERVICE_ACCOUNT": "web",
        "WORKLOAD_NAME": "web",
    }


def test_pods_without_a_proxy_and_pods_that_do_not_run_have_none(proxies: Any) -> None:
    plain = pod()
    plain["spec"]["initContainers"] = []

    assert proxies(plain, pod(phase="Pending"), pod(ip="")) == ()


def test_a_ztunnel_is_not_an_envoy(proxies: Any) -> None:
    ztunnel = pod("ztunnel-1")
    ztunnel["spec"]["initContainers"][0]["args"] = ["proxy", "ztunnel"]

    assert [proxy.name for proxy in proxies(pod(), ztunnel)] == ["web-1"]


def test_replicas_are_one_class(proxies: Any) -> None:
    found = proxies(pod("web-2", "10.0.0.2", node="node-2"), pod("web-1"))

    assert [[proxy.name for proxy in members] for members in alike(found)] == [["web-1", "web-2"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"version": "v2"}},
        {"account": "other"},
        {"env": {"ISTIO_META_WORKLOAD_NAME": "other"}},
        {"env": {"PROXY_CONFIG": "{}"}},
        {"annotations": {"proxy.istio.io/config": "x"}},
        {"node": "node-3"},
    ],
)
def test_what_istiod_reads_tells_proxies_apart(proxies: Any, changes: dict[str, Any]) -> None:
    assert len(alike(proxies(pod("web-1"), pod("web-2", **changes)))) == 2
