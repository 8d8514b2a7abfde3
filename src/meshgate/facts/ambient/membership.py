"""Which pods, waypoints and namespaces of the mesh are in ambient mode."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods, workloads
from meshgate.snapshot.kubernetes import Namespace, Pod
from meshgate.verdict import NotApplicable, counted


class AmbientMesh:
    """The objects of this mesh that are in ambient mode."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def by_name(self) -> dict[str, Namespace]:
        """Every namespace of the cluster by its name."""
        return {each.metadata.name: each for each in self._evidence.namespaces}

    @cached_property
    def namespaces(self) -> list[Namespace]:
        """The namespaces whose label puts new pods in ambient mode."""
        return [
            each
            for each in self._evidence.namespaces
            if workloads.is_ambient(each) and self._evidence.own_mesh.discovers(each)
        ]

    @cached_property
    def pods(self) -> list[Pod]:
        """The active pods whose traffic should go through a ztunnel."""
        return [
            pod
            for pod in self._evidence.pods
            if workloads.is_active(pod)
            and workloads.ambient(pod, self.by_name)
            and self._evidence.own_mesh.watches(pod.metadata.namespace)
        ]

    @cached_property
    def waypoints(self) -> list[Pod]:
        """The active pods of waypoints."""
        return [
            pod
            for pod in self._evidence.own_mesh.own(self._evidence.pods)
            if workloads.is_active(pod) and workloads.is_waypoint(pod)
        ]

    @property
    def is_used(self) -> bool:
        """Whether anything is in ambient mode."""
        return bool(self.pods or self.waypoints or self.namespaces)

    @property
    def words(self) -> str:
        """What is in ambient mode: `3 pods (namespaces shop, web) and 1 waypoint`.

        Namespaces are counted only if they have neither pods nor waypoints.
        """
        parts = [named(self.pods, "pod")] if self.pods else []
        parts += [named(self.waypoints, "waypoint pod")] if self.waypoints else []
        if not parts and self.namespaces:
            names = [each.metadata.name for each in self.namespaces]
            return f"Namespace {_few(names)}" if len(names) == 1 else f"namespaces {_few(names)}"
        return " and ".join(parts)

    def need(self) -> None:
        """Raise NotApplicable if nothing is in ambient mode."""
        if not self.is_used:
            raise NotApplicable("no pod, waypoint or namespace is in ambient mode")


def named(found: list[Pod], noun: str) -> str:
    """Return the only pod's name, or how many there are and in which namespaces."""
    if len(found) == 1:
        return pods.name(found[0])
    spaces = sorted({pod.metadata.namespace for pod in found})
    return f"{counted(len(found), noun)} ({_spaces(spaces)})"


def _spaces(names: list[str]) -> str:
    return f"namespace {names[0]}" if len(names) == 1 else f"namespaces {_few(names)}"


def _few(names: list[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (" and others" if len(ordered) > 3 else "")
