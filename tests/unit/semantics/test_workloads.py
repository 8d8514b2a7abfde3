"""Which ports there are, which of them a sidecar guards, and whose share each is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshgate.semantics.protocols import protocol
from meshgate.semantics.workloads import (
    Port,
    ambient,
    chosen,
    has_sidecar,
    in_shard,
    ports,
    workload,
)
from meshgate.snapshot.kubernetes import (
    Annotations,
    ContainerPort,
    Owner,
    Pod,
    ServicePort,
)
from meshgate.snapshot.model import Expectations
from tests.support.builders import HTTP, pod, running, sidecar, terminated
from tests.support.mtls_builders import service
from tests.support.webhook_builders import namespace

TCP = ContainerPort(container_port=9000, name="tcp")


def web(*ports: ContainerPort, name: str = "web-1", **more: str) -> Pod:
    """A pod with a sidecar; `more` are annotations."""
    return sidecar(
        name,
        ip="10.0.0.1",
        ports=ports or (HTTP,),
        labels={"app": "web"},
        annotations=Annotations(**more),
        owner=Owner(kind="StatefulSet", name="web", controller=True),
    )


def numbers(found: list[Port]) -> list[tuple[int, bool]]:
    return [(each.number, each.http) for each in found]


@pytest.mark.parametrize("native", [True, False])
def test_ports_of_a_pod_with_a_sidecar(native: bool) -> None:
    pod = sidecar(native=native, ip="10.0.0.1", ports=(HTTP, TCP))

    assert numbers(list(ports([pod], ()))) == [(8080, True), (9000, False)]


def test_what_has_no_port_that_can_be_reached() -> None:
    gateway = pod("gw", containers=[running("istio-proxy")], ip="10.0.0.1", ports=(HTTP,))
    bare = pod("bare", containers=[running("app")], ip="10.0.0.1", ports=(HTTP,))
    udp = ContainerPort(container_port=53, name="http", protocol="UDP")
    metrics = ContainerPort(container_port=15090, name="http-envoy-prom")
    done = pod("done", containers=[terminated("app")], phase="Succeeded", ip="10.0.0.1")

    assert not has_sidecar(gateway)
    assert not has_sidecar(bare)
    assert list(ports([gateway, bare, done, web(udp, metrics), sidecar(ports=(HTTP,))], ())) == []


def test_a_port_that_only_a_service_names() -> None:
    found = ports(
        [web(TCP)],
        [
            service(ports=(ServicePort(port=80, name="http", target_port=7070),)),
            service(ports=(ServicePort(port=9000, app_protocol="http", target_port="tcp"),)),
            service(ports=(ServicePort(port=5000), ServicePort(port=53, protocol="UDP"))),
            service(ports=(ServicePort(port=81, target_port="nowhere"),)),
            service("other"),
            service(namespace="elsewhere"),
        ],
    )

    assert numbers(list(found)) == [(5000, False), (7070, True), (9000, True)]


@pytest.mark.parametrize(
    ("annotations", "bypasses"),
    [
        ({}, False),
        ({"bypassing_ports": "9090, 8080"}, True),
        ({"bypassing_ports": "9090"}, False),
        ({"captured_ports": "*"}, False),
        ({"captured_ports": ""}, True),
        ({"captured_ports": "9090"}, True),
        ({"captured_ports": "8080"}, False),
        ({"interception": "NONE"}, True),
    ],
)
def test_ports_that_go_past_the_sidecar(annotations: dict[str, str], bypasses: bool) -> None:
    (port,) = ports([web(**annotations)], ())

    assert bool(port.bypass) is bypasses


def test_what_makes_a_pod() -> None:
    replica_set = Owner(kind="ReplicaSet", name="web-5d4f", controller=True)
    labels = {"pod-template-hash": "5d4f"}

    assert workload(pod("p", owner=replica_set, labels=labels)) == "Deployment web"
    assert workload(pod("p", owner=replica_set)) == "ReplicaSet web-5d4f"
    assert workload(web()) == "StatefulSet web"
    assert workload(pod("p")) == "Pod p"


def test_ambient_pods() -> None:
    dataplane = {"istio.io/dataplane-mode": "ambient"}
    inside = {"shop": namespace("shop", **dataplane)}
    bare = pod("p", containers=[running("app")])

    assert ambient(bare, inside)
    assert ambient(pod("p", annotations=Annotations(ambient="enabled")), {})
    assert not ambient(pod("p", labels={"istio.io/dataplane-mode": "none"}), inside)
    assert not ambient(sidecar(), inside)
    assert not ambient(bare, {})


# --- which are connected to ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("shop/web:8080", [9000]),
        ("shop/web-1:8080", [9000]),
        ("*/*:9000", [8080]),
        ("shop/*:*", []),
        ("legacy/*:*", [8080, 9000]),
    ],
)
def test_ports_can_be_excluded(pattern: str, left: list[int]) -> None:
    found = chosen([web(HTTP, TCP)], (), Expectations(excluded=(pattern,)))

    assert [each.number for each in found] == left


def test_a_sample_takes_so_many_of_each_workload_and_always_the_same() -> None:
    pods = [web(name=f"web-{number}") for number in range(9)]
    lone = sidecar("lone", ip="10.0.0.9", ports=(HTTP,))

    found = chosen([*pods, lone], (), Expectations(sample=2))

    assert len(found) == 3
    assert found == chosen([lone, *reversed(pods)], (), Expectations(sample=2))


keys = st.lists(st.text(min_size=1), unique=True)


@given(keys=keys, count=st.integers(1, 50))
def test_shards_overlap_in_nothing_and_miss_nothing(keys: list[str], count: int) -> None:
    for key in keys:
        assert [in_shard(key, f"{index}/{count}") for index in range(count)].count(True) == 1


@given(
    before=st.sets(st.integers(0, 99)), after=st.sets(st.integers(0, 99)), count=st.integers(1, 9)
)
def test_whatever_changes_between_shards_what_stays_is_in_exactly_one(
    before: set[int], after: set[int], count: int
) -> None:
    """The first half of the shards sees the mesh as it was, the other half as it is."""
    seen: list[str] = []
    for index in range(count):
        there = before if index < count / 2 else after
        pods = [web(name=f"web-{number}") for number in there]
        asked = Expectations(shard=f"{index}/{count}")
        seen += [port.key for port in chosen(pods, (), asked)]

    assert len(seen) == len(set(seen))
    assert {f"shop/web-{number}:8080" for number in before & after} <= set(seen)


def test_the_pods_of_an_argo_rollout_belong_to_the_rollout() -> None:
    owner = Owner(kind="ReplicaSet", name="web-5d9f", controller=True)
    labels = {"rollouts-pod-template-hash": "5d9f"}

    assert workload(pod("web-5d9f-x", owner=owner, labels=labels)) == "Rollout web"
    assert workload(pod("web-5d9f-x", owner=owner)) == "ReplicaSet web-5d9f"


@pytest.mark.parametrize(
    ("name", "app_protocol", "expected"),
    [
        ("http-web", "", "http"),
        ("HTTP", "", "http"),
        ("grpc-web-x", "", "grpc-web"),
        ("web", "", ""),
        ("", "kubernetes.io/h2c", "http2"),
        ("", "kubernetes.io/wss", "https"),
        ("", "http-custom", "http"),
        # the protocol comes before the name
        ("http", "tcp", "tcp"),
        ("http", "example.com/own", ""),
    ],
)
def test_the_protocol_of_a_port(name: str, app_protocol: str, expected: str) -> None:
    port = ServicePort(name=name, port=5432, app_protocol=app_protocol)

    assert protocol(port) == expected
