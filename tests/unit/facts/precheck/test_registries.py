"""Images in registries that shut down."""

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.kubernetes import Container, Owner, Pod
from tests.support.builders import mesh, sidecar
from tests.support.upgrade_builders import settings, workload


def with_image(image: str, pod: Pod | None = None) -> Pod:
    """A pod whose proxy has this image."""
    pod = pod or sidecar()
    containers = (Container(name="istio-proxy", image=image),)
    spec = msgspec.structs.replace(pod.spec, containers=containers)
    owners = (Owner(kind="StatefulSet", name="web", controller=True),)
    metadata = msgspec.structs.replace(pod.metadata, owner_references=owners)
    return msgspec.structs.replace(pod, spec=spec, metadata=metadata)


def seen(*pods: Pod, **changes: object) -> Mesh:
    return mesh(pods=pods, **changes)


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("gcr.io/istio-release/proxyv2:1.29.1", "gcr.io/istio-release"),
        ("registry.istio.io/release/proxyv2:1.30.4", "registry.istio.io"),
    ],
)
def test_a_workload_with_an_image_of_a_retired_registry_is_named_once(
    image: str, registry: str
) -> None:
    (found,) = seen(with_image(image), with_image(image, sidecar("web-2"))).registries.affected

    assert found.subject == "StatefulSet shop/web"
    assert found.about == (("registry", registry),)
    assert image in found.seen


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/istio/proxyv2:1.31.0",
        "mirror.example/registry.istio.io/proxyv2:1.31.0",
        "gcr.io/istio-release-mirror/proxyv2:1.31.0",
        "proxyv2",
    ],
)
def test_other_registries_are_fine(image: str) -> None:
    assert seen(with_image(image)).registries.affected == []


def test_a_workload_without_pods_and_the_injectors_hub_are_named_too() -> None:
    idle = workload("idle", images=("gcr.io/istio-release/pilot:1.29.1",))
    found = seen(
        with_image("docker.io/istio/proxyv2:1.29.1"),
        workloads=(idle,),
        settings=(settings(hub="registry.istio.io"),),
    ).registries.affected

    assert [(each.subject, each.problem) for each in found] == [
        ("Deployment shop/idle", "retired-registry"),
        ("Deployment istio-system/istiod", "retired-hub"),
    ]
