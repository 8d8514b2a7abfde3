"""What must not close the gate: the ordinary life of a mesh, also in the middle of a change."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from meshgate.snapshot.store import load
from tests.lab.harness import Lab, Stage, repeatedly

Run = Callable[..., Stage]

IMAGE = "docker.io/lab/app:1"


def _pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": IMAGE, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "containers": [container | spec.pop("container", {})],
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


def test_an_istiod_that_is_being_replaced(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("rollout", "restart", "deployment/istiod", "-n", "istio-system")

    stage = controlplane("--settle=90")

    assert stage.exit == 0, stage.output


def test_an_istiod_that_was_killed(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("delete", "pod", "-n", "istio-system", "-l", "app=istiod", "--wait=false")

    stage = controlplane("--settle=90")

    assert stage.exit == 0, stage.output


def test_an_istiod_that_is_away_for_20_seconds(lab: Lab, controlplane: Run) -> None:
    lab.kubectl("cordon", "node")
    lab.kubectl("delete", "pod", "-n", "istio-system", "-l", "app=istiod", "--wait=false")
    back = threading.Timer(20, lab.kubectl, ("uncordon", "node"))
    back.start()
    try:
        stage = controlplane("--settle=120")
    finally:
        back.join()

    assert stage.exit == 0, stage.output


def test_unused_services_and_pods_without_injection(lab: Lab, controlplane: Run) -> None:
    """Types that were never sent, namespaces without sidecars, workload certificates of a day."""
    stage = controlplane()

    assert stage.exit == 0, stage.output
    snapshot = load(stage.reports / "snapshot.json.gz")
    proxies = [proxy for reading in snapshot.istiod for proxy in reading.proxies]
    # what istiod never sent to a proxy it does not name
    assert len({frozenset(proxy.resources) for proxy in proxies}) > 1
    assert "legacy" in {each.metadata.name for each in snapshot.namespaces}
    assert "legacy" not in stage.output


def test_pushes_that_go_on_all_the_time(lab: Lab, controlplane: Run) -> None:
    with repeatedly(lambda number: lab.apply(restless(number))):
        stage = controlplane("--settle=60", "--stale-after=10")

    assert stage.exit == 0, stage.output


def test_pods_that_are_finished(lab: Lab, controlplane: Run) -> None:
    lab.apply(
        _pod("finished", restartPolicy="Never", container={"command": ["/bin/busybox", "true"]})
    )
    lab.kubectl(
        *("wait", "pod/finished", "-n", "shop", "--timeout=120s"),
        "--for=jsonpath={.status.phase}=Succeeded",
    )

    stage = controlplane()

    assert stage.exit == 0, stage.output


def test_pods_on_the_nodes_network(lab: Lab, controlplane: Run) -> None:
    lab.apply(
        _pod(
            "on-the-node",
            hostNetwork=True,
            container={"command": ["/bin/busybox", "sleep", "3600"]},
        )
    )
    lab.kubectl("wait", "pod/on-the-node", "-n", "shop", "--for=condition=Ready", "--timeout=120s")

    stage = controlplane()

    assert stage.exit == 0, stage.output


def restless(number: int) -> dict[str, Any]:
    """Something that concerns every sidecar, another one for each number."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "restless", "namespace": "shop"},
        "spec": {
            "hosts": ["restless.example.com"],
            "ports": [{"number": 8000 + number, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "192.0.2.1"}],
        },
    }


@pytest.mark.parametrize("restarted", [False, True], ids=["not restarted", "restarted"])
def test_native_sidecars(restarted: bool, lab: Lab, controlplane: Run) -> None:
    """On this Kubernetes istio-proxy is an init container that goes on."""
    (pod,) = lab.get("pods", "-n", "shop", "-l", "app=web")["items"]
    assert "istio-proxy" in [each["name"] for each in pod["spec"]["initContainers"]]
    if restarted:
        lab.kubectl("rollout", "restart", "deployment/web", "-n", "shop")

    stage = controlplane("--settle=60")

    assert stage.exit == 0, stage.output
