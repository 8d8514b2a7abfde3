"""Send the pod template of every injected workload to the target's injector.

The injector rejects a pod whose annotations it considers invalid: its workload then has no new
pods after the upgrade.  Only the injector's message is kept.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from meshgate.collect.api import Api
from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.running import RunningMesh
from meshgate.collect.shadow.target import Running
from meshgate.collect.workloads import WORKLOADS
from meshgate.probe import admission
from meshgate.snapshot.base import Base
from meshgate.snapshot.shadow import TemplateReview
from meshgate.snapshot.sources import Kind


class _Name(Base, frozen=True):
    name: str
    namespace: str = ""


class _Spec(Base, frozen=True):
    template: dict[str, Any] = msgspec.field(default_factory=dict)


class _Object(Base, frozen=True):
    metadata: _Name
    spec: _Spec = _Spec()


class Template(NamedTuple):
    """A workload, and the pod that it would create."""

    workload: str
    namespace: str
    pod: dict[str, Any]


def read(api: Api, running_mesh: RunningMesh) -> Iterator[Template]:
    """Yield the template of every workload whose pods are injected; raise ReadError."""
    for kind, resource in WORKLOADS.items():
        for each in api.objects(Kind("", "apps", "v1", resource, _Object)):
            name, namespace = each.metadata.name, each.metadata.namespace
            metadata = each.spec.template.get("metadata") or {}
            if running_mesh.injects(namespace, metadata.get("labels") or {}):
                pod = {
                    "metadata": {
                        **{key: metadata.get(key) or {} for key in ("labels", "annotations")},
                        "generateName": f"{name}-",
                        "namespace": namespace,
                    },
                    "spec": each.spec.template.get("spec") or {},
                }
                yield Template(f"{kind} {namespace}/{name}", namespace, pod)


def review(running: Running, template: Template) -> TemplateReview:
    """Return what the target's injector answers to one template."""
    try:
        answer = running.review(admission.pod_review(template.namespace, template.pod))
        admission.patch_of(answer)
    except ReadError as error:
        return TemplateReview(workload=template.workload, error=error.why)
    except msgspec.DecodeError as error:
        return TemplateReview(workload=template.workload, error=f"cannot decode it: {error}")
    except ValueError as error:
        # the injector's messages have several lines
        return TemplateReview(workload=template.workload, refused=" ".join(str(error).split()))
    return TemplateReview(workload=template.workload)
