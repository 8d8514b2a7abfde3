"""What istiod sends to ztunnels, compared with the pods in ambient mode."""

import pytest

from meshgate.snapshot.ambient import AmbientReading, AmbientWorkload
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import Annotations
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ambient_builders as build
from tests.support.builders import expecting, istiod, mesh


def wrong(**changes: object) -> list[str]:
    return [str(each) for each in build.ambient_mesh(**changes).ambient_index.wrong]


def test_a_healthy_mesh() -> None:
    assert wrong() == []


def test_a_mesh_without_ambient_mode() -> None:
    with pytest.raises(NotApplicable, match="no pod, waypoint or namespace is in ambient mode"):
        _ = mesh().ambient_index.wrong


@pytest.mark.parametrize("pods", [build.PODS, (istiod(),)], ids=["pods", "only a namespace"])
def test_ambient_mode_is_disabled_in_istiod(pods: object) -> None:
    nothing = AmbientReading(pod="istiod-1")

    (finding,) = wrong(pods=pods, ambient_index=(nothing,))

    assert finding.startswith("Pod istio-system/istiod-1: ambient mode is disabled in istiod")


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (build.workload("other"), "istiod does not send it to ztunnels"),
        (build.workload(tunnel_protocol=""), "plaintext (tunnel protocol: NONE)"),
        (build.workload(tunnel_protocol="LEGACY_ISTIO_MTLS"), "LEGACY_ISTIO_MTLS"),
        (build.workload(cluster_id="remote"), "istiod does not send it to ztunnels"),
    ],
)
def test_clients_would_connect_in_plaintext(workload: AmbientWorkload, words: str) -> None:
    config = InjectorConfig(revision="default", cluster_id="Kubernetes")

    (finding,) = wrong(ambient_index=(build.index(workload),), injector_configs=(config,))

    assert finding.startswith("Pod shop/web-1: ")
    assert words in finding


def test_every_replica_counts() -> None:
    pods = (*build.PODS, istiod("istiod-2"))
    other = build.index(build.workload("other"), pod="istiod-2")

    assert wrong(pods=pods, ambient_index=(build.index(), other))


def test_a_pod_that_is_not_captured_is_left_to_another_check() -> None:
    pods = (*build.PODS[:-1], build.app(annotations=Annotations()))

    assert wrong(pods=pods, ambient_index=(build.index(build.workload(tunnel_protocol="")),)) == []


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ((), "it was not read"),
        ((AmbientReading(pod="istiod-1", error="no answer"),), "no answer"),
        ((AmbientReading(pod="istiod-1", denied="istiod answered 404"),), "404"),
    ],
    ids=["not read", "silent", "denied"],
)
def test_a_replica_that_does_not_report(readings: object, words: str) -> None:
    with pytest.raises(CouldNotVerify, match="did not report what it sends to ztunnels") as raised:
        wrong(ambient_index=readings)
    assert words in raised.value.why


def test_no_istiod() -> None:
    with pytest.raises(CouldNotVerify, match="no istiod pod is running"):
        wrong(pods=build.PODS[1:])
    with pytest.raises(NotApplicable, match="accepted without verification"):
        wrong(pods=build.PODS[1:], deployments=(), **expecting(accepted_unverified=("istiod",)))
