"""istiod's own numbers on a real mesh: what goes wrong now, and what is left out."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.harness import Lab, Stage, repeatedly, until
from tests.lab.test_controlplane import unknown_filter

Run = Callable[..., Stage]

pytestmark = pytest.mark.usefixtures("recovers")

ISTIOD = ("deployment/istiod", "-n", "istio-system")


def line(stage: Stage, begins: str) -> str:
    """The one failure that begins so; the whole output where there is none."""
    found = [each for each in stage.failures if each.startswith(begins)]
    assert found, stage.output
    return found[0]


def test_pushes_that_are_rejected_all_the_time(lab: Lab, controlplane: Run) -> None:
    def reject(number: int) -> None:
        wrong = unknown_filter("web")
        patch = wrong["spec"]["configPatches"][0]["patch"]
        patch["value"]["name"] = f"not.a.filter.{number}"
        lab.apply(wrong)

    with repeatedly(reject):
        stage = controlplane("--settle=0", "--window=15")

    assert stage.exit == 1
    rejected = line(stage, "FAIL CP013 Pod istio-system/istiod-")
    assert "pushes were rejected by proxies" in rejected


def test_an_istiod_that_is_near_its_limit_and_one_that_was_killed_for_it(
    lab: Lab, controlplane: Run
) -> None:
    limit(lab, "40Mi")
    lab.kubectl("rollout", "status", *ISTIOD, "--timeout=90s")

    near = controlplane("--settle=0", "-k", "is_not_killed")

    # Go's own limit is the container's: it holds on just below it, to warn of or, at 90 %, to fail
    assert re.search(r"(WARN|FAIL) CP014 Pod istio-system/istiod-.* of its limit 40Mi", near.output)

    pod = ("pod", "-l", "app=istiod", "-n", "istio-system", "--timeout=90s")
    lab.kubectl("scale", *ISTIOD, "--replicas=0")
    lab.kubectl("wait", *pod, "--for=delete")
    limit(lab, "24Mi")
    lab.kubectl("scale", *ISTIOD, "--replicas=1")
    lab.kubectl("wait", *pod, "--for=create")
    died = "lastState.terminated.reason}=OOMKilled"
    # it dies again and again: between two deaths, at times before it listens, it may be asked
    for _ in range(6):
        lab.kubectl("wait", *pod, f"--for=jsonpath={{.status.containerStatuses[0].{died}")
        killed = controlplane("--settle=0", "-k", "is_not_killed")
        if killed.exit == 1:
            break

    assert killed.exit == 1, killed.output
    assert "was OOMKilled" in line(killed, "FAIL CP014 Pod istio-system/istiod-")


def test_services_hosts_and_subsets_that_conflict(lab: Lab, controlplane: Run) -> None:
    expected = (
        "FAIL CP015 Domain web.shop.svc.cluster.local:80: ",
        "FAIL CP015 Host web.shop.svc.cluster.local: ",
        "FAIL CP015 Listener 0.0.0.0_9999: ",
    )

    # istiod may need several pushes for all of them, and lists in each only what it generated
    for attempt in range(6):
        lab.apply(*conflicts(attempt))
        stage = controlplane("--settle=10")
        if all(each in stage.output for each in expected):
            break

    assert stage.exit == 1
    for each in expected:
        line(stage, each)
    assert "(two.example.com)" in line(stage, expected[-1])
    line(stage, "FAIL CP006 VirtualService shop/first: IST0109")

    # istiod's page still lists what was fixed, for up to 10 s
    lab.verb("reset")
    until(lambda: controlplane("-k", "no_configuration_conflicts").exit == 0)


def test_metrics_that_istiod_does_not_serve(verifier: str, lab: Lab, controlplane: Run) -> None:
    lab.kubectl("set", "env", *ISTIOD, "METRICS_LOCALHOST_ACCESS_ONLY=true")
    lab.kubectl("rollout", "status", *ISTIOD, "--timeout=90s")

    # alone: a refusal is reported immediately, while the proxies still come back to the new istiod
    stage = controlplane("-k", "pushes_without_errors", identity=verifier)

    assert stage.exit == 10, stage.output
    assert "set METRICS_LOCALHOST_ACCESS_ONLY=false on istiod" in line(stage, "UNKNOWN CP013 ")


def limit(lab: Lab, memory: str) -> None:
    """Gives istiod a memory limit."""
    lab.kubectl("set", "resources", *ISTIOD, f"--limits=memory={memory}", "--requests=memory=16Mi")


def conflicts(attempt: int) -> list[dict[str, Any]]:
    """Two TCP services on one port, two VirtualServices of one host, one subset twice.

    Each attempt's are others, so that istiod generates all that depends on them again.
    """
    host = "web.shop.svc.cluster.local"
    route = [{"route": [{"destination": {"host": host}}], "timeout": f"{attempt + 1}s"}]
    labels = {"app": "web", "attempt": str(attempt)}
    return [
        *(
            entry(name, {"hosts": [f"{name}.example.com"], "ports": [port], **endpoint(address)})
            for name, address in (("one", f"192.0.2.{attempt}"), ("two", f"198.51.100.{attempt}"))
            for port in [{"number": 9999, "name": "tcp", "protocol": "TCP"}]
        ),
        *(
            entry(name, {"hosts": [host], "http": route}, kind="VirtualService")
            for name in ("first", "second")
        ),
        *(
            entry(
                name,
                {"host": host, "subsets": [{"name": "v1", "labels": labels}]},
                kind="DestinationRule",
            )
            for name in ("first", "second")
        ),
    ]


def endpoint(address: str) -> dict[str, Any]:
    """Where a ServiceEntry leads to."""
    return {"resolution": "STATIC", "endpoints": [{"address": address}]}


def entry(name: str, spec: dict[str, Any], kind: str = "ServiceEntry") -> dict[str, Any]:
    """One of Istio's resources, in shop."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }
