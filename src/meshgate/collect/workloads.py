"""Deployments, StatefulSets and DaemonSets: what a restart does to them."""

from typing import Any

import msgspec

from meshgate.collect.kubernetes import Cluster
from meshgate.semantics.releases import RETIRED_REGISTRIES, looked_for
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Metadata, PodSpec
from meshgate.snapshot.sources import Kind
from meshgate.snapshot.upgrade import Workload


class _TemplateMetadata(Base, frozen=True):
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class _Template(Base, frozen=True):
    metadata: _TemplateMetadata = _TemplateMetadata()
    spec: PodSpec = PodSpec()


class _RollingUpdate(Base, frozen=True):
    partition: int = 0


class _Strategy(Base, frozen=True):
    type: str = ""
    rolling_update: _RollingUpdate | None = None


class _Spec(Base, frozen=True):
    selector: LabelSelector | None = None
    template: _Template = _Template()
    paused: bool = False
    replicas: int | None = None
    update_strategy: _Strategy = _Strategy()


class _Object(Base, frozen=True):
    metadata: Metadata
    spec: _Spec


# Longer annotation values are cut: no valid one is longer.
MAX_VALUE = 100

# the image of a gateway's own template, which the webhook replaces
INJECTED = "auto"

WORKLOADS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
}


def read(cluster: Cluster) -> tuple[Workload, ...]:
    """All of them; raise ReadError."""
    return tuple(
        _workload(kind, each)
        for kind, resource in WORKLOADS.items()
        for each in cluster.objects(Kind(resource, "apps", "v1", resource, _Object))
    )


def _workload(kind: str, found: Any) -> Workload:
    spec: _Spec = found.spec
    pod, annotations = spec.template.spec, spec.template.metadata.annotations
    return Workload(
        kind=kind,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        selector=spec.selector,
        annotations=tuple(sorted(looked_for("annotation") & annotations.keys())),
        # rules compare these: port numbers, switches, quantities and names of network interfaces
        values={
            name: annotations[name][:MAX_VALUE]
            for name in sorted(looked_for("prometheus_port", "interface_names", "quantity"))
            if name in annotations
        },
        paused=spec.paused,
        strategy=spec.update_strategy.type,
        proxied=any(
            each.name == PROXY and each.image != INJECTED
            for each in (*pod.init_containers, *pod.containers)
        ),
        partition=(spec.update_strategy.rolling_update or _RollingUpdate()).partition,
        replicas=spec.replicas,
        images=tuple(
            sorted(
                {
                    each.image
                    for each in (*pod.init_containers, *pod.containers)
                    if each.image.startswith(RETIRED_REGISTRIES)
                }
            )
        ),
    )
