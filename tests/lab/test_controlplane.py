"""Stage B on a real mesh: each fault closes the gate for the right reason, until it is fixed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.lab.harness import NEW, UNRELEASED, Lab, Stage, pushes, until
from tests.lab.test_mtls import proxy_config, workload

Run = Callable[..., Stage]

pytestmark = pytest.mark.usefixtures("recovers")


def test_a_healthy_mesh_opens_the_gate(controlplane: Run) -> None:
    stage = controlplane()

    assert stage.exit == 0, stage.output
    assert stage.failures == []
    assert stage.output.rstrip().splitlines()[-1].startswith("GATE OPEN")


def test_the_file_runs_by_itself(lab: Lab) -> None:
    done = lab.run(".venv/bin/python", "verification/verify_controlplane.py", "--settle=20")

    assert done.returncode == 0, done.stdout + done.stderr


def test_istiod_scaled_to_zero(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("scale", "deployment/istiod", "-n", "istio-system", "--replicas=0")

    stage = controlplane()

    assert stage.exit == 1
    assert stage.first.startswith(
        "FAIL CP001 Deployment istio-system/istiod: is scaled to 0 replicas (expected at least 1)"
    ), stage.output


def test_an_image_that_cannot_be_pulled_fails_at_once(lab: Lab, controlplane: Run) -> None:
    lab.kubectl(
        "set",
        "image",
        "deployment/istiod",
        "-n",
        "istio-system",
        "discovery=docker.io/istio/pilot:0",
    )

    until(lambda: not _pulls(lab).isdisjoint({"ErrImagePull", "ImagePullBackOff"}), timeout=120)

    stage = controlplane("--settle=120")

    assert stage.exit == 1
    assert stage.first.startswith("FAIL CP001 Pod istio-system/istiod-"), stage.output
    assert "container discovery is in" in stage.first
    assert "Image" in stage.first
    # at once, not after the deadline
    assert "waiting, " not in stage.output


def test_one_of_two_replicas_that_is_not_ready(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("cordon", "node")
    lab.kubectl("scale", "deployment/istiod", "-n", "istio-system", "--replicas=2")
    try:
        stage = controlplane()
    finally:
        lab.kubectl("uncordon", "node")

    assert stage.exit == 1
    assert stage.first.startswith(
        "FAIL CP001 Deployment istio-system/istiod: is not rolled out: 2 of 2 replicas "
        "updated, 1 available"
    ), stage.output
    assert any(
        line.startswith("FAIL CP002 Pod istio-system/istiod-") and "not PodScheduled" in line
        for line in stage.failures
    ), stage.output


def test_a_frozen_proxy_goes_stale(lab: Lab, controlplane: Run) -> None:
    # its agent would give an Envoy that is silent for 40 s up, and be connected to no istiod
    lab.apply(workload("frozen", proxy_config(GRPC_KEEPALIVE_TIMEOUT="10m")))
    lab.kubectl("rollout", "status", "-n", "shop", "deployment/frozen", "--timeout=120s")
    pod = f"shop/{lab.pod('shop', 'frozen')}"
    lab.verb("freeze", pod)
    lab.apply(_service_entry("push"))
    # of a push that is younger than the first look nothing follows
    until(lambda: any(_unanswered(push) > 6 for push in pushes(lab, "shop", "frozen")))

    stage = controlplane("--stale-after=6", "--settle=60")

    assert stage.exit == 1
    assert stage.first.startswith(f"FAIL CP005 Pod {pod}: is STALE: "), stage.output


def test_a_proxy_that_rejects_its_configuration(lab: Lab, controlplane: Run) -> None:
    _reject(lab)

    stage = controlplane("--settle=60")

    assert stage.exit == 1
    pod = lab.pod("shop", "web")
    assert stage.first.startswith(
        f"FAIL CP004 Pod shop/{pod}: rejected its Listener configuration: "
        "Error adding/updating listener(s) virtualInbound: "
        "Didn't find a registered implementation for 'not.a.filter'"
    ), stage.output
    assert "shop/unknown-filter" in stage.first


def test_a_virtual_service_of_a_missing_gateway(lab: Lab, controlplane: Run) -> None:
    lab.apply(_virtual_service("lost", gateway="shop/missing"))

    stage = controlplane()

    assert stage.exit == 1
    assert stage.first.startswith("FAIL CP006 VirtualService shop/lost: IST0101"), stage.output


def test_a_version_that_is_not_the_target(controlplane: Run) -> None:
    stage = controlplane(f"--target-version={UNRELEASED}")

    assert stage.exit == 1
    assert stage.first.startswith("FAIL CP001 Pod istio-system/istiod-"), stage.output
    assert f"runs istiod {NEW} (expected {UNRELEASED})" in stage.first


def test_what_was_seen_can_be_replayed(lab: Lab, controlplane: Run) -> None:
    _reject(lab)
    stage = controlplane("--settle=60")

    replay = lab.pytest("-m", "controlplane", f"--snapshot={stage.reports}/snapshot.json.gz")

    assert replay.exit == stage.exit == 1
    assert replay.failures == stage.failures


def test_two_workers_give_the_same_verdict_from_one_capture(lab: Lab, controlplane: Run) -> None:
    lab.apply(_virtual_service("lost", gateway="shop/missing"))

    alone, shared = controlplane(), controlplane("-n", "2")

    assert (shared.exit, shared.failures) == (alone.exit, alone.failures)
    assert shared.output.count("reading ") == 1


def _pulls(lab: Lab) -> set[str]:
    """What the containers of istiod's pods wait for."""
    return {
        status["state"].get("waiting", {}).get("reason", "")
        for pod in lab.get("pods", "-n", "istio-system", "-l", "app=istiod")["items"]
        for status in pod["status"].get("containerStatuses", ())
    }


def _unanswered(push: dict[str, Any]) -> float:
    """For how many seconds it has been so."""
    if push.get("sent") == push.get("acked"):
        return 0
    return (datetime.now(UTC) - datetime.fromisoformat(push["sentTime"])).total_seconds()


def _reject(lab: Lab) -> None:
    """Has the Envoy of shop/web say no to a push."""
    lab.apply(unknown_filter("web"))
    until(lambda: any(push.get("lastError") for push in pushes(lab, "shop", "web")))


def _virtual_service(name: str, *, gateway: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "hosts": [f"{name}.example.com"],
            "gateways": [gateway],
            "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
        },
    }


def _service_entry(name: str) -> dict[str, Any]:
    """Something that istiod sends to every sidecar."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "hosts": [f"{name}.example.com"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "192.0.2.1"}],
        },
    }


def unknown_filter(app: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "unknown-filter", "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": app}},
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {
                        "context": "SIDECAR_INBOUND",
                        "listener": {
                            "filterChain": {
                                "filter": {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "subFilter": {"name": "envoy.filters.http.router"},
                                }
                            }
                        },
                    },
                    "patch": {
                        "operation": "INSERT_BEFORE",
                        "value": {
                            "name": "not.a.filter",
                            "typed_config": {
                                "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                                "type_url": "type.googleapis.com/no.such.Type",
                                "value": {},
                            },
                        },
                    },
                }
            ],
        },
    }
