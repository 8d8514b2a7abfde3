"""What a firing alert is about, before and after its pods are replaced."""

import pytest

from meshgate.semantics.alerts import AlertLabels
from meshgate.snapshot.kubernetes import Owner, Pod
from tests.support.builders import pod


def owned(name: str, kind: str, owner: str, **more: object) -> Pod:
    labels = {"pod-template-hash": owner.rpartition("-")[2]} if kind == "ReplicaSet" else {}
    controller = Owner(kind=kind, name=owner, controller=True)
    return pod(name, owner=controller, labels=labels, **more)  # type: ignore[arg-type]


PODS = (
    owned("web-6d8f9c5b4-x2v5k", "ReplicaSet", "web-6d8f9c5b4"),
    owned("api-7c9d8b6f5-bbbbb", "ReplicaSet", "api-7c9d8b6f5"),
    owned("agent-x7k2p", "DaemonSet", "agent", host_network=True, ip="10.0.0.1"),
    owned("db-0", "StatefulSet", "db"),
    owned("nightly-28999999-q5t7w", "Job", "nightly-28999999"),
    pod("bare"),
)


def lasting(**labels: str) -> dict[str, str]:
    return AlertLabels(PODS).lasting({"namespace": "shop", **labels})


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("web-6d8f9c5b4-x2v5k", "Deployment web"),
        ("web-5c4d9b7f8-z9m4l", "Deployment web"),  # of the former ReplicaSet
        ("agent-b4c5d", "DaemonSet agent"),
        ("nightly-28990000-b4c5d", "CronJob nightly"),
        ("db-0", "db-0"),
        ("db-1", "db-1"),
        ("bare", "bare"),
        ("gone-5c4d9b7f8-z9m4l", "gone-5c4d9b7f8-z9m4l"),
        ("web-shop-z9m4l", "web-shop-z9m4l"),  # no hash has an o
        ("web-abc", "web-abc"),
    ],
)
@pytest.mark.parametrize("label", ["pod", "exported_pod"])
def test_a_pod_is_its_workload_where_that_is_known(label: str, name: str, identity: str) -> None:
    assert lasting(**{label: name})[label] == identity


def test_a_name_that_fits_two_workloads_stays() -> None:
    pods = (*PODS, owned("web-5c4d9b7f8-bbbbb", "DaemonSet", "web-5c4d9b7f8"))

    found = AlertLabels(pods).lasting({"namespace": "shop", "pod": "web-5c4d9b7f8-z9m4l"})

    assert found["pod"] == "web-5c4d9b7f8-z9m4l"


def test_a_pod_of_another_namespace_is_another_one() -> None:
    found = AlertLabels(PODS).lasting({"namespace": "other", "pod": "web-5c4d9b7f8-z9m4l"})

    assert found["pod"] == "web-5c4d9b7f8-z9m4l"


def test_the_container_is_part_of_the_identity_and_a_uid_is_not() -> None:
    assert lasting(container="app", uid="1") == {"namespace": "shop", "container": "app"}


@pytest.mark.parametrize(
    ("labels", "instance"),
    [
        ({"instance": "10.4.5.6:9090"}, None),
        ({"instance": "[fd00::1]:9090"}, None),
        ({"instance": "10.0.0.1:9100"}, "10.0.0.1:9100"),  # a node
        ({"instance": "10.0.0.1:9100", "pod": "agent-x7k2p"}, None),
        ({"instance": "web-5c4d9b7f8-z9m4l:9090"}, "Deployment web"),
        ({"instance": "web-5c4d9b7f8-z9m4l:9090", "pod": "web-5c4d9b7f8-z9m4l"}, None),
        ({"instance": "https://shop.example.com/"}, "https://shop.example.com/"),
        ({"instance": "node-1"}, "node-1"),
        ({"instance": "[broken"}, "[broken"),
        ({}, None),
    ],
)
def test_an_instance_is_part_of_the_identity_unless_it_is_a_pods_address(
    labels: dict[str, str], instance: str | None
) -> None:
    assert lasting(**labels).get("instance") == instance
