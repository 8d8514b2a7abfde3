"""Read a pod's status: whether it is Ready, and the reason if it is not."""

from collections.abc import Iterator

from meshgate.snapshot.kubernetes import ContainerStatus, Pod, Waiting

# Reasons of the kubelet that do not resolve by waiting: the pod's spec or image must change.
PERMANENT_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
    }
)

# The reason of the end of a container that no kubelet saw: its node had stopped.
NODE_STOPPED = "Unknown"


def name(pod: Pod) -> str:
    """Return `Pod namespace/name`."""
    return f"Pod {pod.metadata.namespace}/{pod.metadata.name}"


def ready(pod: Pod) -> bool:
    """Return whether the pod is Ready and is not being deleted."""
    return pod.metadata.deletion_timestamp is None and any(
        condition.type == "Ready" and condition.status == "True"
        for condition in pod.status.conditions
    )


def statuses(pod: Pod) -> Iterator[ContainerStatus]:
    """Yield the status of every container, init containers (native sidecars) included."""
    yield from pod.status.init_container_statuses
    yield from pod.status.container_statuses


def waiting(pod: Pod) -> Iterator[tuple[ContainerStatus, Waiting]]:
    """Yield every container that waits for anything other than its turn, with the reason."""
    for status in statuses(pod):
        if status.state.waiting and status.state.waiting.reason != "PodInitializing":
            yield status, status.state.waiting


def reason_not_ready(pod: Pod) -> str:
    """Return why a pod is not Ready: a container's reason, else a condition, else the phase."""
    for status, why in waiting(pod):
        return f"container {status.name} is in {why.reason}" + (
            f" ({why.message})" if why.message else ""
        )
    for condition in pod.status.conditions:
        words = condition.message or condition.reason
        if words and condition.status == "False" and condition.type in ("PodScheduled", "Ready"):
            return f"not {condition.type}: {words}"
    return f"is {pod.status.phase or 'in an unknown phase'} and not Ready"


def fails_permanently(pod: Pod) -> bool:
    """Return whether a container fails in a way that waiting does not resolve."""
    return any(why.reason in PERMANENT_REASONS for _, why in waiting(pod))
