"""Pods that only pull images, against an API server on loopback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.deadline import Deadline
from meshgate.probe import image_pulls
from meshgate.snapshot.image_pulls import ImagePull
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import Answer, Request, answer, refusal

NAMESPACE, IMAGES = "probes", ("proxy:1.31.0", "pilot:1.31.0")
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
PULLED = {"waiting": {"reason": "RunContainerError", "message": "no such file"}}
ENDED = {"terminated": {"reason": "StartError"}}
REFUSED = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}


class Kubernetes:
    """Jobs, and for each a pod whose containers have these states."""

    def __init__(self, *states: dict[str, Any], allowed: bool = True) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self._states, self._allowed = states, allowed

    def __call__(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        match request.verb:
            case "POST" if not self._allowed:
                return refusal(403, "jobs.batch is forbidden")
            case "POST":
                job = json.loads(request.body)
                self.jobs[job["metadata"]["name"]] = job
                self.made.append(job)
                return answer(job, 201)
            case "DELETE":
                assert request.query["propagationPolicy"] == ["Background"]
                del self.jobs[name]
                return answer({})
        return answer({"items": [self._pod(job) for job in self.jobs.values()]})

    def _pod(self, job: dict[str, Any]) -> dict[str, Any]:
        template = job["spec"]["template"]
        statuses = [
            {"name": f"image-{number}", "state": state} for number, state in enumerate(self._states)
        ]
        return {
            "metadata": {"name": "x", "namespace": NAMESPACE, **template["metadata"]},
            "spec": template["spec"],
            "status": {"phase": "Pending", "containerStatuses": statuses},
        }


Pull = Callable[[Kubernetes], tuple[ImagePull, ...]]


@pytest.fixture
def pull(serve: Serve, tmp_path: Path) -> Pull:
    """Lets two nodes pull two images, for a tenth of a second."""

    def run(kubernetes: Kubernetes) -> tuple[ImagePull, ...]:
        config = fakes.kubeconfig(tmp_path / "kubeconfig", serve({fakes.ANY: kubernetes}).url)
        return image_pulls.pull(
            Cluster(config=str(config), patience=0, timeout=5),
            ("one", "two"),
            IMAGES,
            namespace=NAMESPACE,
            seconds=0.1,
            deadline=Deadline(),
        )

    return run


def test_an_image_that_was_pulled_is_known_although_it_cannot_start(pull: Pull) -> None:
    kubernetes = Kubernetes(PULLED, ENDED)

    assert pull(kubernetes) == tuple(
        ImagePull(node=node, image=image) for node in ("one", "two") for image in IMAGES
    )
    assert kubernetes.jobs == {}


def test_there_is_one_pod_for_each_node_that_starts_nothing(pull: Pull) -> None:
    kubernetes = Kubernetes(PULLED, PULLED)
    pull(kubernetes)

    specs = [job["spec"]["template"]["spec"] for job in kubernetes.made]

    assert [spec["nodeName"] for spec in specs] == ["one", "two"]
    for job, spec in zip(kubernetes.made, specs, strict=True):
        assert [each["image"] for each in spec["containers"]] == list(IMAGES)
        assert {tuple(each["command"]) for each in spec["containers"]} == {
            tuple(image_pulls.COMMAND)
        }
        assert not spec["automountServiceAccountToken"]
        assert job["spec"]["activeDeadlineSeconds"] > 0
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels["sidecar.istio.io/inject"] == "false"


def test_an_image_that_cannot_be_pulled_is_refused(pull: Pull) -> None:
    found = pull(Kubernetes(PULLED, REFUSED))

    assert [each.refused for each in found if each.image == IMAGES[1]] == [
        "ImagePullBackOff: not found"
    ] * 2
    assert not any(each.refused or each.error for each in found if each.image == IMAGES[0])


@pytest.mark.parametrize("state", [CREATING, {"waiting": {}}, {}])
def test_an_image_that_is_still_pulled_is_unknown(pull: Pull, state: dict[str, Any]) -> None:
    kubernetes = Kubernetes(PULLED, state)

    assert [bool(each.error) for each in pull(kubernetes)] == [False, True] * 2
    assert kubernetes.jobs == {}


def test_without_the_right_it_is_a_gap(pull: Pull) -> None:
    with pytest.raises(ReadError, match="no right to create jobs"):
        pull(Kubernetes(allowed=False))
