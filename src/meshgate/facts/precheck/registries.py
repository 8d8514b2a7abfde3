"""Images in registries that shut down: their pods cannot start on another node afterwards."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.semantics.releases import RETIRED_REGISTRIES, SHUTDOWN
from meshgate.snapshot.kubernetes import Pod
from meshgate.verdict import Finding, NotApplicable

# The path of Istio's images on Docker Hub, where they stay.
HUB = "docker.io/istio"


def retired(image: str) -> str:
    """Return the registry of an image if it shuts down, else an empty string."""
    return next((each for each in RETIRED_REGISTRIES if image.startswith(f"{each}/")), "")


class Registries:
    """Workloads, pods and chart values that name a registry which shuts down."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _found(self) -> dict[tuple[str, str], tuple[str, str]]:
        """By workload and registry: a Pod (empty for a template) and an image."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for pod in self._evidence.pods:
            if not workloads.is_active(pod):
                continue
            for image in _images(pod):
                if registry := retired(image):
                    owner = workloads.owner(pod) or pods.name(pod)
                    found.setdefault((owner, registry), (pods.name(pod), image))
        for each in self._evidence.workloads:
            for image in each.images:
                subject = f"{each.kind} {each.namespace}/{each.name}"
                if registry := retired(image):
                    found.setdefault((subject, registry), ("", image))
        return found

    @property
    def pods(self) -> int:
        """How many active pods were looked at."""
        return sum(map(workloads.is_active, self._evidence.pods))

    @property
    def workloads(self) -> int:
        """How many workloads were looked at."""
        return len(self._evidence.workloads)

    @property
    def affected(self) -> list[Finding]:
        """Every workload with such an image, and every istiod that injects such images."""
        if not (self._evidence.pods or self._evidence.workloads):
            raise NotApplicable("the cluster has no pods and no workloads")
        return [
            *(
                Finding(
                    subject,
                    f"uses the image {image} (registry {registry}), which shuts down from "
                    f"{SHUTDOWN} on: its pods can then no longer start",
                    f"an image of {HUB} or of your own registry",
                    f"set the hub to {HUB} in the values or manifests of {subject}, then restart "
                    "it",
                    problem="retired-registry",
                    about=(("registry", registry),),
                )
                for (subject, registry), (_, image) in sorted(self._found.items())
            ),
            *self._hubs(),
        ]

    def _hubs(self) -> list[Finding]:
        return [
            Finding(
                each.deployment,
                f"its injector uses the hub {each.hub}, which shuts down from {SHUTDOWN} on: new "
                "sidecars can then no longer start",
                f"the hub {HUB} or your own registry",
                f"set global.hub={HUB} in the values of istiod's chart",
                problem="retired-hub",
                about=(("registry", each.hub),),
            )
            for each in self._evidence.settings
            if each.hub
        ]


def _images(pod: Pod) -> list[str]:
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return sorted({each.image for each in containers})
