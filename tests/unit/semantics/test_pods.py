"""What a pod's status says, in words."""

import pytest

from meshgate.semantics import pods
from meshgate.snapshot.kubernetes import Condition, ContainerStatus, Pod
from tests.support.builders import pod, running, sidecar, terminated, waiting


def test_a_pod_is_ready_when_the_kubelet_says_so_and_nobody_deletes_it() -> None:
    assert pods.ready(pod("web-1", ready=True))
    assert not pods.ready(pod("web-1", ready=False))
    assert not pods.ready(pod("web-1", ready=True, deleted=True))
    assert not pods.ready(Pod(metadata=pod("web-1").metadata))


def test_a_pod_is_named_with_kind_and_namespace() -> None:
    assert pods.name(pod("web-1", "shop")) == "Pod shop/web-1"


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("ImagePullBackOff", True),
        ("ErrImagePull", True),
        ("InvalidImageName", True),
        ("ErrImageNeverPull", True),
        ("CreateContainerConfigError", True),
        ("CrashLoopBackOff", False),
        ("ContainerCreating", False),
        ("PodInitializing", False),
    ],
)
def test_only_what_the_pod_or_its_image_must_mend_is_hopeless(reason: str, hopeless: bool) -> None:
    assert pods.fails_permanently(pod("web-1", containers=[waiting("app", reason)])) is hopeless
    assert pods.fails_permanently(pod("web-1", init=[waiting("init", reason)])) is hopeless


BACK_OFF = waiting("app", "ImagePullBackOff", "no such image")
UNREADY = Condition(type="Ready", status="False", message="containers with unready status: [app]")
UNSCHEDULED = Condition(type="PodScheduled", status="False", message="0/3 nodes are available")
REASON_ONLY = Condition(type="PodScheduled", status="False", reason="Unschedulable")
OTHER = Condition(type="Initialized", status="False", message="of no interest")


@pytest.mark.parametrize(
    ("containers", "conditions", "phase", "words"),
    [
        ([BACK_OFF], [UNREADY], "Pending", "container app is in ImagePullBackOff (no such image)"),
        ([waiting("app", "CrashLoopBackOff")], [], "Running", "container app is in Crash"),
        ([running("app")], [OTHER, UNREADY], "Running", "not Ready: containers with unready"),
        ([], [UNSCHEDULED], "Pending", "not PodScheduled: 0/3 nodes are available"),
        ([], [REASON_ONLY], "Pending", "not PodScheduled: Unschedulable"),
        ([waiting("app", "PodInitializing")], [], "Pending", "is Pending and not Ready"),
        ([terminated("app", 1)], [], "Running", "is Running and not Ready"),
        ([], [], "", "is in an unknown phase and not Ready"),
    ],
)
def test_the_trouble_is_told_as_closely_as_it_is_known(
    containers: list[ContainerStatus], conditions: list[Condition], phase: str, words: str
) -> None:
    push_errors = pod(
        "web-1", containers=containers, conditions=conditions, phase=phase, ready=False
    )

    assert pods.reason_not_ready(push_errors).startswith(words)


def test_native_sidecars_count_among_the_containers() -> None:
    names = [status.name for status in pods.statuses(sidecar(native=True))]

    assert names == ["istio-init", "istio-proxy", "app"]
