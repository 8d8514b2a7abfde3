"""Restart workloads with sidecars one at a time; stop at the first that does not become available.

A restart changes one annotation of the pod template, like `kubectl rollout restart`.  Workloads
that run the target version already are skipped, so the next run continues where one stopped.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.semantics import selectors as selector
from meshgate.semantics.versions import Version
from meshgate.semantics.workloads import PROXY
from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector, Pod

if TYPE_CHECKING:
    from meshgate.collect.kubernetes import Cluster

EXCLUDED = "meshgate/restart"  # on a workload or its namespace: "false"

Say = Callable[[str], None]


class Stopped(Exception):
    """A workload was not restarted or did not become available; the message says what to do."""


class _RollingUpdate(Base, frozen=True):
    max_unavailable: int | str = "25%"


class _Strategy(Base, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: _RollingUpdate = _RollingUpdate()


class _Spec(Base, frozen=True):
    selector: LabelSelector = LabelSelector()
    replicas: int = 1
    paused: bool = False
    strategy: _Strategy = _Strategy()
    update_strategy: _Strategy = _Strategy()


class _Status(Base, frozen=True):
    """The status of all three kinds; each kind sets some of the fields."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    disruptions_allowed: int = 0


class _Metadata(Base, frozen=True):
    name: str
    namespace: str = ""
    generation: int = 0
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class _Object(Base, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Objects(msgspec.Struct, frozen=True):
    items: tuple[_Object, ...] = ()


class _Pods(msgspec.Struct, frozen=True):
    items: tuple[Pod, ...] = ()


class Workload(msgspec.Struct, frozen=True):
    """A Deployment, StatefulSet or DaemonSet; `path` is its path in the API."""

    kind: str
    path: str
    object: _Object

    def __str__(self) -> str:
        metadata = self.object.metadata
        return f"{self.kind} {metadata.namespace}/{metadata.name}"

    @property
    def restartable(self) -> bool:
        """Return whether a change of the template replaces the pods."""
        spec = self.object.spec
        return not spec.paused and spec.update_strategy.type != "OnDelete"

    @property
    def never_fewer(self) -> bool:
        """Return whether its rollout deletes a pod only after a new one is available."""
        spec = self.object.spec
        if self.kind != "Deployment" or spec.strategy.type != "RollingUpdate":
            return False
        most = spec.strategy.rolling_update.max_unavailable
        if isinstance(most, str):
            return spec.replicas * int(most.removesuffix("%")) < 100
        return most == 0

    @property
    def rolled_out(self) -> bool:
        """Return whether every pod has the current template and is available."""
        metadata, spec, status = self.object.metadata, self.object.spec, self.object.status
        if status.observed_generation < metadata.generation:
            return False
        if self.kind == "DaemonSet":
            wanted = status.desired_number_scheduled
            return status.updated_number_scheduled == wanted == status.number_available
        available = (
            status.ready_replicas if self.kind == "StatefulSet" else status.available_replicas
        )
        return spec.replicas == status.replicas == status.updated_replicas == available


_KINDS = (
    ("Deployment", "deployments"),
    ("StatefulSet", "statefulsets"),
    ("DaemonSet", "daemonsets"),
)


def restart(
    cluster: "Cluster", version: str, *, timeout: float, say: Say, interval: float = 2.0
) -> int:
    """Restart every workload with a sidecar of another version.

    Args:
        cluster: The cluster.
        version: The target version, such as `1.31.0`.
        timeout: Seconds that one workload may take.
        say: Called with each line of progress.
        interval: Seconds between two reads of a status.

    Returns:
        The number of restarted workloads.

    Raises:
        Stopped: If a workload cannot be restarted or does not become available.
        ReadError: If the cluster is not available.
    """
    wanted = Version.parse(version)
    if wanted is None:
        raise Stopped(f"{version!r} is not a version such as 1.31.0")
    runner = _Runner(cluster, wanted, timeout, say, interval)
    todo = runner.todo()
    say(f"{len(todo)} workloads run another proxy version than {wanted}")
    for number, workload in enumerate(todo, 1):
        say(f"[{number}/{len(todo)}] {workload}")
        runner.restart(workload)
    return len(todo)


class _Runner:
    def __init__(
        self, cluster: "Cluster", wanted: Version, timeout: float, say: Say, interval: float
    ) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._timeout = timeout
        self._say = say
        self._interval = interval

    def todo(self) -> list[Workload]:
        """Return the workloads to restart in a fixed order; raise Stopped if one cannot be."""
        pods = self._pods("/api/v1/pods")
        excluded = {
            each.metadata.name
            for each in self._list("/api/v1/namespaces")
            if each.metadata.annotations.get(EXCLUDED) == "false"
        }
        todo = []
        for workload in self._workloads():
            metadata = workload.object.metadata
            behind = [pod for pod in _of(workload, pods) if self._behind(pod)]
            if not behind:
                continue
            if metadata.namespace in excluded or metadata.annotations.get(EXCLUDED) == "false":
                self._say(f"{workload} is excluded by {EXCLUDED}=false: restart it manually")
                continue
            todo.append(workload)
        if fixed := [str(each) for each in todo if not each.restartable]:
            raise Stopped(
                f"{', '.join(fixed)}: paused or with strategy OnDelete, so a changed template "
                f"replaces no pods (fix: restart manually, or exclude with {EXCLUDED}=false)"
            )
        return todo

    def restart(self, workload: Workload) -> None:
        """Restart one workload, and wait until it is available with the target version."""
        if not workload.rolled_out:
            # a restart could make an unavailable workload worse
            self._wait(workload, "is not available before its restart")
        self._wait_for_budgets(workload)
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}}
        right = f"patch {workload.kind.lower()}s.apps"
        self._cluster.merge(workload.path, {"spec": {"template": template}}, right=right)
        self._wait(workload, "is not available after its restart")
        metadata = workload.object.metadata
        pods = self._pods(f"/api/v1/namespaces/{metadata.namespace}/pods")
        old = [pod.metadata.name for pod in _of(workload, pods) if self._behind(pod)]
        if old:
            raise Stopped(
                f"{workload} is available, but Pod {old[0]} still runs another proxy version "
                f"than {self._wanted} (fix: correct the namespace's revision label, sync again)"
            )

    def _wait(self, workload: Workload, otherwise: str) -> None:
        self._until(
            lambda: self._fresh(workload).rolled_out,
            f"{workload} {otherwise} within {self._timeout:.0f} s; no later workload was "
            "restarted (fix: read the events of its pods, then sync again)",
        )

    def _wait_for_budgets(self, workload: Workload) -> None:
        """Wait until the PodDisruptionBudgets allow a disruption; a rollout ignores them."""
        if workload.never_fewer:
            return
        namespace = workload.object.metadata.namespace
        path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
        pods = list(_of(workload, self._pods(f"/api/v1/namespaces/{namespace}/pods")))

        def allowed() -> bool:
            return all(
                each.status.disruptions_allowed > 0
                for each in self._list(path)
                if any(selector.selects(each.spec.selector, pod.metadata.labels) for pod in pods)
            )

        self._until(
            allowed,
            f"{workload} was not restarted: a PodDisruptionBudget allowed no disruption for "
            f"{self._timeout:.0f} s (fix: add replicas or change the budget, then sync again)",
        )

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not done():
            if time.monotonic() >= deadline:
                raise Stopped(otherwise)
            time.sleep(self._interval)

    def _fresh(self, workload: Workload) -> Workload:
        right = f"get {workload.kind.lower()}s.apps"
        body = self._cluster.get(workload.path, right=right)
        return msgspec.structs.replace(workload, object=msgspec.json.decode(body, type=_Object))

    def _behind(self, pod: Pod) -> bool:
        """Return whether the pod has a sidecar of another version."""
        images = [
            each.image
            for each in (*pod.spec.init_containers, *pod.spec.containers)
            if each.name == PROXY
        ]
        return any(Version.parse(image.rpartition(":")[2]) != self._wanted for image in images)

    def _workloads(self) -> Iterator[Workload]:
        for kind, resource in _KINDS:
            items = self._list(f"/apis/apps/v1/{resource}")
            for each in sorted(items, key=lambda one: (one.metadata.namespace, one.metadata.name)):
                metadata = each.metadata
                path = f"/apis/apps/v1/namespaces/{metadata.namespace}/{resource}/{metadata.name}"
                yield Workload(kind, path, each)

    def _list(self, path: str) -> tuple[_Object, ...]:
        found: _Objects = self._decoded(path, _Objects)
        return found.items

    def _pods(self, path: str) -> tuple[Pod, ...]:
        return tuple(
            pod
            for pod in self._decoded(path, _Pods).items
            if pod.metadata.deletion_timestamp is None
            and pod.status.phase in ("Pending", "Running")
        )

    def _decoded(self, path: str, type: Any) -> Any:
        right = f"list {path.rpartition('/')[2]}"
        try:
            return msgspec.json.decode(self._cluster.get(path, right=right), type=type)
        except msgspec.DecodeError as error:
            raise ReadError(f"cannot decode the answer to {right}: {error}", "report it") from error


def _of(workload: Workload, pods: tuple[Pod, ...]) -> Iterator[Pod]:
    metadata, labels = workload.object.metadata, workload.object.spec.selector
    for pod in pods:
        if pod.metadata.namespace == metadata.namespace and selector.selects(
            labels, pod.metadata.labels
        ):
            yield pod
