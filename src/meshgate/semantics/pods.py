"""What a pod's status says, in the words that people use."""

from collections.abc import Iterator

from meshgate.snapshot.kubernetes import ContainerStatus, Pod, Waiting

# What the kubelet says when no waiting mends it: the pod's spec, or the image, must change.
HOPELESS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
    }
)


def name(pod: Pod) -> str:
    """`Pod namespace/name`."""
    return f"Pod {pod.metadata.namespace}/{pod.metadata.name}"


def ready(pod: Pod) -> bool:
    """Whether the kubelet says Ready, and nobody is deleting it."""
    return pod.metadata.deletion_timestamp is None and any(
        condition.type == "Ready" and condition.status == "True"
        for condition in pod.status.conditions
    )


def statuses(pod: Pod) -> Iterator[ContainerStatus]:
    """Of all containers, native sidecars (which are init containers) among them."""
    yield from pod.status.init_container_statuses
    yield from pod.status.container_statuses


def waiting(pod: Pod) -> Iterator[tuple[ContainerStatus, Waiting]]:
    """The containers that wait for something other than their turn."""
    for status in statuses(pod):
        if status.state.waiting and status.state.waiting.reason != "PodInitializing":
            yield status, status.state.waiting


def trouble(pod: Pod) -> str:
    """Why a pod is not Ready: the container's own words, else a condition's, else its phase."""
    for status, why in waiting(pod):
        return f"container {status.name} is in {why.reason}" + (
            f" ({why.message})" if why.message else ""
        )
    for condition in pod.status.conditions:
        words = condition.message or condition.reason
        if words and condition.status == "False" and condition.type in ("PodScheduled", "Ready"):
            return f"not {condition.type}: {words}"
    return f"is {pod.status.phase or 'in an unknown phase'} and not Ready"


def hopeless(pod: Pod) -> bool:
    """Whether no waiting mends it."""
    return any(why.reason in HOPELESS for _, why in waiting(pod))
