"""Create Kubernetes Events about objects; an Event stays after its object is deleted."""

from datetime import datetime
from typing import TYPE_CHECKING

from meshgate.report.short import cut
from meshgate.report.visible import visible
from meshgate.settings.reference import ObjectReference

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster


def publish_event(
    cluster: "Cluster",
    kind: tuple[str, str],
    about: ObjectReference,
    reason: str,
    message: str,
    at: datetime,
    *,
    warning: bool,
) -> None:
    """Create an Event.

    Args:
        cluster: Where it is created.
        kind: API version and kind of the object, such as `("batch/v1", "Job")`.
        about: The object.
        reason: The reason in CamelCase, such as `GateClosed`.
        message: Text; cut after 1,000 characters.
        at: When it happened, in UTC.
        warning: Whether its type is Warning instead of Normal.

    Raises:
        ReadError: If the API server rejects it.
    """
    moment = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about.name}.", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": kind[0],
            "kind": kind[1],
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": cut(visible(message), 1000),
        "source": {"component": "meshgate"},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
    cluster.create(
        f"/api/v1/namespaces/{about.namespace}/events",
        event,
        right=f"create events in {about.namespace}",
    )
