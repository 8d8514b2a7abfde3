"""One pod on each node, with a container for each image: whether the kubelet can pull them.

The containers' command does not exist: an image is pulled before that is noticed.  Each pod belongs
to a Job with a deadline, which is deleted when the images' states are known.
"""

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

from meshgate.deadline import Deadline
from meshgate.probe.jobs import PODS, Api, Jobs
from meshgate.probe.pair_manifests import CONFINED, GRACE, LABEL, OURS, RUN
from meshgate.semantics.pods import reason_not_ready
from meshgate.snapshot.image_pulls import ImagePull
from meshgate.snapshot.kubernetes import ContainerStatus, Pod

INTERVAL = 1.0
COMMAND = ["/meshgate-only-pulls-this-image"]
# what the kubelet reports before it has the image
REFUSED = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
BEFORE_PULL = frozenset({"", "ContainerCreating", "PodInitializing"})


def pull(
    api: Api,
    nodes: Iterable[str],
    images: tuple[str, ...],
    *,
    namespace: str,
    seconds: float,
    deadline: Deadline,
) -> tuple[ImagePull, ...]:
    """Let each node pull each image, and delete the pods in any case.

    Args:
        api: where the Jobs are created.
        nodes: the names of the nodes.
        images: the images.
        namespace: of the Jobs.
        seconds: for all pulls together.
        deadline: when the run ends.

    Returns:
        One result for each node and image.

    Raises:
        ReadError: a permission is missing, or the API server does not answer.
    """
    run, nodes = secrets.token_hex(4), tuple(nodes)
    jobs = Jobs(api, namespace)
    made: list[str] = []
    try:
        for number, node in enumerate(nodes):
            job = _manifest(f"pull-{run}-{number}", namespace, run, node, images, seconds)
            jobs.create(job)
            made.append(job["metadata"]["name"])
        end = deadline.within(seconds)
        while True:
            listed = PODS.decode(jobs.pods(f"{RUN}={run}"))
            pods = {each.spec.node_name: each for each in listed.items}
            found = tuple(
                result for node in nodes for result in _results(node, images, pods.get(node))
            )
            if end.passed or not any(each.error for each in found):
                return found
            time.sleep(INTERVAL)
    finally:
        for name in made:
            jobs.delete(name)


def _results(node: str, images: tuple[str, ...], pod: Pod | None) -> Iterator[ImagePull]:
    statuses = {each.name: each for each in pod.status.container_statuses} if pod else {}
    for number, image in enumerate(images):
        status = statuses.get(f"image-{number}")
        waiting = status.state.waiting if status else None
        if waiting and waiting.reason in REFUSED:
            words = f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason
            yield ImagePull(node=node, image=image, refused=words)
        elif status and _pulled(status):
            yield ImagePull(node=node, image=image)
        else:
            why = reason_not_ready(pod) if pod else "no pod was created"
            why = f"is in {waiting.reason}" if waiting else why
            yield ImagePull(node=node, image=image, error=why)


def _pulled(status: ContainerStatus) -> bool:
    state = status.state
    if state.running is not None or state.terminated is not None:
        return True
    return state.waiting is not None and state.waiting.reason not in BEFORE_PULL


def _manifest(
    name: str, namespace: str, run: str, node: str, images: tuple[str, ...], seconds: float
) -> dict[str, Any]:
    """Return the Job of one node.

    Args:
        name: the Job's.
        namespace: of the Job.
        run: the run's random name.
        node: where its pod runs, whatever the scheduler would say.
        images: the images.
        seconds: after which Kubernetes ends it, with some grace.
    """
    labels = {LABEL: OURS, RUN: run}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(seconds) + GRACE,
            "ttlSecondsAfterFinished": 60,
            "template": {
                "metadata": {"labels": {**labels, "sidecar.istio.io/inject": "false"}},
                "spec": {
                    "nodeName": node,
                    "tolerations": [{"operator": "Exists"}],
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containers": [
                        {
                            "name": f"image-{number}",
                            "image": image,
                            "command": COMMAND,
                            "resources": {
                                "requests": {"cpu": "1m", "memory": "8Mi"},
                                "limits": {"memory": "32Mi"},
                            },
                            "securityContext": CONFINED,
                        }
                        for number, image in enumerate(images)
                    ],
                },
            },
        },
    }
