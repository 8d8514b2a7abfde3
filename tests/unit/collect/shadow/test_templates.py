"""Pod templates, sent to an injector: one that answers as told, and those of built releases."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshgate.collect.facade import Facade
from meshgate.collect.shadow import templates
from meshgate.collect.shadow.recorded import RecordedCluster, RecordedRunningMesh
from meshgate.collect.shadow.target import Launch, Running, rendered
from meshgate.snapshot.offline_bundle import Listed, OfflineBundle
from meshgate.snapshot.shadow import TemplateReview
from tests.conftest import Serve
from tests.support.fakes import Answer, Request

RUNNING_MESH = RecordedRunningMesh(OfflineBundle(injected={"shop": {}}))
BUILT = sorted(Path.home().glob(".cache/meshgate-lab/cache/istio-*/bin/pilot-discovery"))
PORT, CPU = "prometheus.io/port", "sidecar.istio.io/proxyCPU"

KINDS = {
    "/configmaps": "ConfigMap",
    "/endpoints": "Endpoints",
    "/namespaces": "Namespace",
    "/nodes": "Node",
    "/pods": "Pod",
    "/serviceaccounts": "ServiceAccount",
    "/services": "Service",
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/validatingwebhookconfigurations": (
        "ValidatingWebhookConfiguration"
    ),
    "apiextensions.k8s.io/customresourcedefinitions": "CustomResourceDefinition",
    "discovery.k8s.io/endpointslices": "EndpointSlice",
    "networking.k8s.io/ingressclasses": "IngressClass",
    "networking.k8s.io/ingresses": "Ingress",
}


def workload(name: str, namespace: str = "shop", **annotations: str) -> dict[str, Any]:
    """A Deployment whose pod template has these annotations."""
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            }
        },
    }


def cluster(*workloads: dict[str, Any]) -> RecordedCluster:
    """A cluster with these Deployments and nothing else."""
    lists = {key: Listed(kind=kind) for key, kind in KINDS.items()}
    lists["apps/deployments"] = Listed(kind="Deployment", objects=workloads)
    return RecordedCluster(lists, "v1.34.4")


@pytest.fixture
def injector(serve: Serve) -> Iterator[Running]:
    """An injector that rejects pods with the annotation `reject`."""

    def answer(request: Request) -> Answer:
        pod = json.loads(request.body)["request"]["object"]
        why = pod["metadata"]["annotations"].get("reject", "")
        response = {"uid": "", "allowed": not why, "status": {"message": why}}
        return Answer(200, json.dumps({"response": response}).encode())

    server = serve({"/inject": answer})
    with (
        Facade(RecordedCluster({}, "")).serving() as facade,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        yield Running("1.31.0", "", facade, client)


def test_every_template_is_sent_and_a_rejected_one_has_the_injectors_message(
    injector: Running,
) -> None:
    api = cluster(workload("web"), workload("bad", reject="invalid\n  annotation"))

    found = [templates.review(injector, each) for each in templates.read(api, RUNNING_MESH)]

    assert found == [
        TemplateReview(workload="Deployment shop/web"),
        TemplateReview(workload="Deployment shop/bad", refused="invalid annotation"),
    ]


def test_a_workload_that_no_injector_handles_is_not_sent() -> None:
    assert list(templates.read(cluster(workload("web", "other")), RUNNING_MESH)) == []


def test_an_injector_that_does_not_answer_has_rejected_nothing() -> None:
    with (
        Facade(RecordedCluster({}, "")).serving() as facade,
        httpx.Client(base_url="http://127.0.0.1:1", trust_env=False) as nobody,
    ):
        running = Running("1.31.0", "", facade, nobody)
        (template,) = templates.read(cluster(workload("web")), RUNNING_MESH)
        found = templates.review(running, template)

    assert found.refused == ""
    assert "does not respond" in found.error


@pytest.mark.skipif(not BUILT, reason="no release of Istio is built (ci/lab/lab build)")
@pytest.mark.parametrize("program", BUILT, ids=[each.parts[-3] for each in BUILT])
def test_the_injector_of_a_release_rejects_what_the_ledger_says(
    program: Path, tmp_path: Path
) -> None:
    release = int(program.parts[-3].split("-")[1].split(".")[1])
    manifests = tmp_path / "istiod.yaml"
    command = [str(program.parent / "istioctl"), "manifest", "generate", "--set", "profile=minimal"]
    charts = program.parents[1] / "manifests"
    with manifests.open("wb") as file:
        subprocess.run([*command, "--manifests", str(charts)], stdout=file, check=True)
    api = cluster(
        workload("web", **{PORT: "9090", CPU: "100m"}),
        workload("port", **{PORT: "metrics"}),
        workload("reserved", **{PORT: "15090"}),
        workload("unmerged", **{PORT: "15090", "prometheus.istio.io/merge-metrics": "false"}),
        workload("interface", **{"traffic.sidecar.istio.io/excludeInterfaces": "bad;name"}),
        workload("cpu", **{CPU: "a lot"}),
        workload("out", **{CPU: "a lot", "sidecar.istio.io/inject": "false"}),
    )
    launch = Launch(
        program=str(program),
        rendered=rendered(manifests),
        istio_namespace="istio-system",
        timeout=60,
    )
    with launch.running(api) as running:
        found = [templates.review(running, each) for each in templates.read(api, RUNNING_MESH)]

    rejected = {each.workload.removeprefix("Deployment shop/") for each in found if each.refused}
    assert not any(each.error for each in found)
    assert rejected - {"cpu"} == {
        name
        for name, first in (("interface", 30), ("port", 31), ("reserved", 31))
        if release >= first
    }
    # rejected by the validation since 1.28.4 and 1.29.0, and by the template before
    assert "cpu" in rejected
