"""What keeps a new pod from nodes: its affinity, and the constraints that are not evaluated."""

from typing import Any

import msgspec

from meshgate.snapshot.new_pods import Apart, NodeTerm

Body = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_COUNTED = {"cpu", "memory", "ephemeral-storage"}


def placement(spec: Body) -> Body:
    """Return what keeps a pod from nodes, beside taints, labels and room."""
    affinity = spec.get("affinity") or {}
    node = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    apart = (affinity.get("podAntiAffinity") or {}).get(_REQUIRED) or ()
    plain = [
        each for each in apart if each.keys() <= {"topologyKey", "labelSelector", "namespaces"}
    ]
    spread = spec.get("topologySpreadConstraints") or ()
    resources = {
        name
        for each in spec.get("containers") or ()
        for name in (each.get("resources") or {}).get("requests") or {}
    }
    others = {
        "podAffinity": (affinity.get("podAffinity") or {}).get(_REQUIRED),
        "podAntiAffinity": len(plain) < len(apart),
        "topologySpreadConstraints": any(
            each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule" for each in spread
        ),
        "persistentVolumeClaim": any(
            "persistentVolumeClaim" in each for each in spec.get("volumes") or ()
        ),
        "extended resources": resources - _COUNTED,
    }
    return {
        "node_terms": msgspec.convert(
            node.get("nodeSelectorTerms") or (), tuple[NodeTerm, ...], strict=False
        ),
        "apart": msgspec.convert(plain, tuple[Apart, ...]),
        "constraints": tuple(name for name, found in others.items() if found),
    }
