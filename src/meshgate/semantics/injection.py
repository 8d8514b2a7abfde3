"""What an injector makes of a pod: which parts it brings, without what is in them."""

from collections.abc import Iterable
from typing import Any

from meshgate.semantics.workloads import PROXY

# of a container: fields that are compared; arguments and values may be secret and are not stored
_PLAIN = (
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "restartPolicy",
    "securityContext",
    "startupProbe",
)

# parts of a pod by kind and name
Shape = dict[str, Any]


def shape(patch: Iterable[Any]) -> Shape:
    """Return the containers, volumes, labels and annotations that a JSON patch brings, by name."""
    made: dict[str, Any] = {
        "containers": {},
        "initContainers": {},
        "volumes": {},
        "labels": {},
        "annotations": {},
    }
    for row in patch:
        place, value = str(row.get("path", "")), row.get("value")
        for part in ("containers", "initContainers", "volumes"):
            if place.startswith(f"/spec/{part}"):
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, dict) and "name" in each:
                        made[part][each["name"]] = _container(each) if "ontainers" in part else True
        for part in ("labels", "annotations"):
            root, _, name = place.partition(f"/metadata/{part}")
            if not root and place != root:
                names = [name[1:].replace("~1", "/")] if name else list(value or ())
                made[part] |= dict.fromkeys(names, True)
    return made


def _container(container: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: container[key] for key in _PLAIN if key in container},
        "env": {each["name"]: True for each in container.get("env", ())},
        "volumeMounts": {each["mountPath"]: True for each in container.get("volumeMounts", ())},
    }


def has_sidecar(shape: Shape) -> bool:
    """Whether a proxy is brought, as a sidecar of either kind."""
    return PROXY in shape["containers"] or PROXY in shape["initContainers"]
