"""What keeps a new pod from nodes: affinity, spread, and constraints that are not evaluated."""

from typing import Any

import msgspec

from meshgate.snapshot.new_pods import Apart, NodeTerm, Spread

Body = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_COUNTED = {"cpu", "memory", "ephemeral-storage"}


def placement(spec: Body, labels: Body) -> Body:
    """Return what keeps a pod with these labels from nodes, beside taints and room."""
    affinity = spec.get("affinity") or {}
    node = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    apart = (affinity.get("podAntiAffinity") or {}).get(_REQUIRED) or ()
    plain = [
        each for each in apart if each.keys() <= {"topologyKey", "labelSelector", "namespaces"}
    ]
    spread = [
        {name: value for name, value in each.items() if value is not None}
        for each in spec.get("topologySpreadConstraints") or ()
        if each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
    ]
    resources = {
        name
        for each in spec.get("containers") or ()
        for name in (each.get("resources") or {}).get("requests") or {}
    }
    others = {
        "podAffinity": (affinity.get("podAffinity") or {}).get(_REQUIRED),
        "podAntiAffinity": len(plain) < len(apart),
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
        "spread": msgspec.convert(spread, tuple[Spread, ...]),
        "labels": {str(name): str(value) for name, value in labels.items()} if spread else {},
        "constraints": tuple(name for name, found in others.items() if found),
    }
