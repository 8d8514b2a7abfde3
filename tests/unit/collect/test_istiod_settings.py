"""How istiod is set: the names looked for leave this reader, and nothing else does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect import istiod_settings as settings
from meshgate.collect import workloads
from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.snapshot.upgrade import Provider, Settings
from tests.conftest import Serve
from tests.support import fakes
from tests.support.builders import snapshot
from tests.support.fakes import Request, answer

MESH = """
extensionProviders:
- name: old
  opencensus: {service: secret-host, port: 1}
defaultConfig:
  proxyMetadata: {METRIC_ROTATION_INTERVAL: 4s, MY_PASSWORD: planted}
  tracing: {zipkin: {address: planted}, sampling: 5}
tlsDefaults: {minProtocolVersion: TLSV1_3}
enablePrometheusMerge: false
defaultServiceExportTo: [".", planted]
defaultVirtualServiceExportTo: ["."]
"""
VALUES = """{
  "compatibilityVersion": "1.27",
  "global": {
    "imagePullSecrets": ["planted"], "hub": "registry.istio.io/release", "nativeNftables": true
  }
}"""


def istiod(**metadata: Any) -> dict[str, Any]:
    variables = {
        "ENABLE_DEBUG_ENDPOINT_AUTH": "False",
        "METRIC_ROTATION_INTERVAL": "4s",
        "PW": "planted",
    }
    container = {"name": "discovery", "env": [_pair(each) for each in variables.items()]}
    labels = {"app": "istiod", **metadata}
    return {
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": labels},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def _pair(pair: tuple[str, str]) -> dict[str, str]:
    return {"name": pair[0], "value": pair[1]}


Read = Callable[..., tuple[Settings, ...]]


@pytest.fixture
def cluster(serve: Serve, tmp_path: Path) -> Callable[..., Cluster]:
    """A cluster with these ConfigMaps, by name, and these lists of workloads."""

    def started(maps: dict[str, dict[str, str]], **lists: list[dict[str, Any]]) -> Cluster:
        def config_maps(request: Request) -> fakes.Answer:
            (only,) = request.query["fieldSelector"]
            name = only.rpartition("metadata.name=")[2]
            return answer({"items": [{"data": maps[name]}] if name in maps else []})

        answers = {
            **fakes.api_answers(snapshot()),
            "/api/v1/configmaps": config_maps,
            **{f"/apis/apps/v1/{name}": answer({"items": all}) for name, all in lists.items()},
        }
        config = fakes.kubeconfig(tmp_path / "kubeconfig", serve(answers).url)
        return Cluster(config=str(config), patience=0.0)

    return started


def test_what_is_looked_for_is_kept_and_nothing_else(cluster: Callable[..., Cluster]) -> None:
    maps = {
        "istio": {"mesh": MESH, "meshNetworks": "networks: {here: {}}"},
        "values": {"merged-values": VALUES},
        "istio-cni-config": {
            "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP": "true",
            "EXCLUDE_NAMESPACES": "istio-system, kube-system",
            "OTHER": "planted",
        },
    }

    (found,) = settings.read(cluster(maps, deployments=[istiod()]), "istio-system")

    assert found == Settings(
        deployment="Deployment istio-system/istiod",
        variables={"ENABLE_DEBUG_ENDPOINT_AUTH": "false", "METRIC_ROTATION_INTERVAL": ""},
        proxy_metadata={"METRIC_ROTATION_INTERVAL": ""},
        cni={"AMBIENT_RECONCILE_POD_RULES_ON_STARTUP": "true"},
        providers=(Provider(name="old", kind="opencensus"),),
        tracers=("zipkin",),
        networks=True,
        compatibility="1.27",
        mesh=(
            "defaultServiceExportTo",
            "tlsDefaults.minProtocolVersion",
            "enablePrometheusMerge: false",
        ),
        excluded_namespaces=("istio-system", "kube-system"),
        hub="registry.istio.io",
        native_nftables=True,
    )
    assert b"planted" not in msgspec.json.encode(found)


def test_a_revision_has_maps_of_its_own(cluster: Callable[..., Cluster]) -> None:
    maps = {"istio-canary": {"mesh": MESH}, "istio": {"mesh": "{}"}}
    canary = istiod(**{"istio.io/rev": "canary"})

    (found,) = settings.read(cluster(maps, deployments=[canary]), "istio-system")

    assert found.tracers == ("zipkin",)


def test_without_maps_nothing_is_set(cluster: Callable[..., Cluster]) -> None:
    (found,) = settings.read(cluster({}, deployments=[istiod()]), "istio-system")

    assert (found.providers, found.compatibility, found.cni) == ((), "", {})


def test_a_mesh_config_that_cannot_be_read_is_a_gap_that_quotes_nothing(
    cluster: Callable[..., Cluster],
) -> None:
    maps = {"istio": {"mesh": "defaultConfig: [planted"}}

    with pytest.raises(ReadError) as caught:
        settings.read(cluster(maps, deployments=[istiod()]), "istio-system")

    assert "cannot decode the mesh config" in caught.value.why
    assert "planted" not in caught.value.why


def test_workloads_keep_how_they_are_replaced(cluster: Callable[..., Cluster]) -> None:
    def workload(name: str, image: str, **spec: Any) -> dict[str, Any]:
        annotations = {
            "sidecar.istio.io/statsCompression": "planted",
            "prometheus.io/port": "9090",
            "other": "planted",
        }
        return {
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"annotations": annotations},
                    "spec": {"containers": [{"name": "istio-proxy", "image": image}]},
                },
                **spec,
            },
        }

    found = workloads.read(
        cluster(
            {},
            deployments=[workload("gateway", "auto", paused=True)],
            daemonsets=[workload("agent", "proxyv2", updateStrategy={"type": "OnDelete"})],
        )
    )

    assert [
        (each.kind, each.name, each.paused, each.strategy, each.proxied, each.annotations)
        for each in found
    ] == [
        ("Deployment", "gateway", True, "", False, ("sidecar.istio.io/statsCompression",)),
        ("DaemonSet", "agent", False, "OnDelete", True, ("sidecar.istio.io/statsCompression",)),
    ]
    assert found[0].values == {"prometheus.io/port": "9090"}
    assert b"planted" not in msgspec.json.encode(found)


def test_workloads_keep_their_partition_and_images_of_retired_registries(
    cluster: Callable[..., Cluster],
) -> None:
    image = "gcr.io/istio-release/proxyv2:1.29.1"
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    stateful = {
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {
            "replicas": 3,
            "updateStrategy": strategy,
            "template": {
                "spec": {"containers": [{"name": "a", "image": image}, {"name": "b", "image": "b"}]}
            },
        },
    }

    (found,) = workloads.read(cluster({}, deployments=[], statefulsets=[stateful], daemonsets=[]))

    assert (found.partition, found.replicas, found.images) == (2, 3, (image,))
