"""What an upgrade changes in silence: compared with a baseline, or with istiod's release."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab.gates import Gates
from tests.lab.harness import NEW, Lab, Stage, until

ISTIOD = ("-n", "istio-system")
CRD = "virtualservices.networking.istio.io"


@pytest.fixture
def gates(lab: Lab, tmp_path: Path) -> Gates:
    """The gates of the newest release."""
    return Gates(lab, tmp_path)


def failure(stage: Stage, begins: str, words: str) -> None:
    """Check that a line of the report begins so and has these words."""
    lines = [each for each in stage.output.splitlines() if each.startswith(f"FAIL {begins}")]
    assert any(words in each for each in lines), stage.output


def test_a_policy_that_rejects_its_callers_is_enforced_as_written(
    lab: Lab, gates: Gates, tmp_path: Path
) -> None:
    kept = tmp_path / "before.json.gz"
    before = gates.dataplane(NEW, f"--save-baseline={kept}", pair=False)
    retired = {"source": {"principals": ["cluster.local/ns/shop/sa/retired"]}}
    lab.apply(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "callers", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": [{"from": [retired]}]},
        }
    )

    after = gates.dataplane(NEW, f"--baseline={kept}", "--settle=20", pair=False)

    assert before.exit == 0, before.output
    assert after.exit == 1, after.output
    failure(after, "DP011 Pod shop/web-", "answers 403 (RBAC: access denied)")


def test_an_injector_that_no_longer_rewrites_probes(lab: Lab, gates: Gates, tmp_path: Path) -> None:
    kept = tmp_path / "before.json.gz"
    before = gates.controlplane(NEW, f"--save-baseline={kept}")
    injector = lab.get("configmap", "istio-sidecar-injector", *ISTIOD)
    values = json.loads(injector["data"]["values"])
    values["sidecarInjectorWebhook"]["rewriteAppHTTPProbe"] = False
    data = {"data": {"values": json.dumps(values)}}
    where = ("istio-sidecar-injector", *ISTIOD)
    lab.kubectl("patch", "configmap", *where, "--type=merge", "-p", json.dumps(data))
    container = {
        "name": "app",
        "image": "docker.io/lab/app:1",
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sample", "namespace": "shop"},
        "spec": {"containers": [container]},
    }
    dry_run = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    until(lambda: "/app-health/" not in lab.kubectl(*dry_run, input=json.dumps(pod)), timeout=150)

    after = gates.controlplane(NEW, f"--baseline={kept}")

    assert before.exit == 0, before.output
    assert after.exit == 1, after.output
    failure(after, "CP019 Deployment shop/web", "does not rewrite its probes any more")


def test_a_remote_cluster_that_does_not_answer(lab: Lab, gates: Gates) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "eu-2",
        "clusters": [{"name": "eu-2", "cluster": {"server": "https://192.0.2.1:6443"}}],
        "users": [{"name": "eu-2", "user": {"token": "none"}}],
        "contexts": [{"name": "eu-2", "context": {"cluster": "eu-2", "user": "eu-2"}}],
    }
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "istio-remote-secret-eu-2",
                "namespace": "istio-system",
                "labels": {"istio/multiCluster": "true"},
                "annotations": {"networking.istio.io/cluster": "eu-2"},
            },
            "stringData": {"eu-2": json.dumps(config)},
        }
    )
    asked = ("pilot-discovery", "request", "GET", "/debug/clusterz")
    until(
        lambda: "eu-2" in lab.kubectl("exec", *ISTIOD, "deployment/istiod", "--", *asked),
        timeout=90,
    )

    stage = gates.controlplane(NEW, "--settle=40")

    assert stage.exit == 1, stage.output
    failure(stage, "CP020 Cluster eu-2", "istiod has not read it")


def test_a_crd_of_an_older_release(lab: Lab, gates: Gates) -> None:
    # `lab reset` does not restore CRDs
    newest = lab.get("crd", CRD)
    del newest["metadata"]["resourceVersion"]
    older: dict[str, Any] = json.loads(json.dumps(newest))
    for version in older["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        redirect = spec["properties"]["http"]["items"]["properties"]["redirect"]
        del redirect["properties"]["prefixRewrite"]
    lab.kubectl("replace", "-f", "-", input=json.dumps(older))
    try:
        stage = gates.controlplane(NEW)
    finally:
        lab.kubectl("replace", "-f", "-", input=json.dumps(newest))

    assert stage.exit == 1, stage.output
    failure(stage, f"CP022 CustomResourceDefinition {CRD}", "spec.http.redirect.prefixRewrite")
