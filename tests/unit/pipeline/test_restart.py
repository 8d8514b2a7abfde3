"""The restart: one at a time, leaves alone what is done, stops at the first that is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshgate.collect.kubernetes import Cluster
from meshgate.pipeline.restart import Stopped, restart
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import ANY, Answer, Request, answer

OLD, NEW = "1.28.2", "1.29.1"
RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


class World:
    """Workloads of one pod each; a patch of its template makes a new pod, of NEW."""

    def __init__(self) -> None:
        self.workloads: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.namespaces: dict[str, dict[str, str]] = {"shop": {}}
        self.budgets: list[dict[str, Any]] = []
        self.lost: set[str] = set()
        self.comes_back_as = NEW
        self.patched: list[str] = []

    def has(self, name: str, kind: str = "Deployment", proxy: str = OLD, **more: Any) -> None:
        """A workload whose pod has that proxy, or none."""
        status = {
            "observedGeneration": 1,
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), 1),
            **dict.fromkeys(("availableReplicas", "desiredNumberScheduled"), 1),
            **dict.fromkeys(("updatedNumberScheduled", "numberAvailable"), 1),
        }
        metadata = {"name": name, "namespace": "shop", "generation": 1}
        metadata["annotations"] = more.pop("annotations", {})
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, **more}
        self.workloads[f"/apis/apps/v1/namespaces/shop/{RESOURCES[kind]}/{name}"] = {
            "metadata": metadata,
            "spec": spec,
            "status": status,
        }
        self.pods[name] = self._pod(name, proxy)

    @staticmethod
    def _pod(name: str, proxy: str) -> dict[str, Any]:
        containers = [{"name": "istio-proxy", "image": f"x/proxyv2:{proxy}"}] if proxy else []
        return {
            "metadata": {"name": f"{name}-1", "namespace": "shop", "labels": {"app": name}},
            "spec": {"initContainers": containers, "containers": [{"name": "app", "image": "app"}]},
            "status": {"phase": "Running"},
        }

    def answer(self, request: Request) -> Answer:
        """As an API server with its controllers does."""
        path = request.path
        if path == "/api/v1/namespaces":
            return self._list(
                {"metadata": {"name": name, "annotations": annotations}}
                for name, annotations in self.namespaces.items()
            )
        if path.endswith("/pods"):
            return self._list(self.pods.values())
        if path.endswith("/poddisruptionbudgets"):
            return self._list(self.budgets)
        if path in self.workloads:
            if request.verb == "PATCH":
                self._patch(path, json.loads(request.body))
            return answer(self.workloads[path])
        resource = path.rpartition("/")[2]
        return self._list(one for at, one in self.workloads.items() if f"/{resource}/" in at)

    def _patch(self, path: str, change: Any) -> None:
        assert (
            "kubectl.kubernetes.io/restartedAt"
            in change["spec"]["template"]["metadata"]["annotations"]
        )
        name = path.rpartition("/")[2]
        self.patched.append(name)
        workload = self.workloads[path]
        workload["metadata"]["generation"] = 2
        if name not in self.lost:
            workload["status"]["observedGeneration"] = 2
            self.pods[name] = self._pod(name, self.comes_back_as)

    @staticmethod
    def _list(items: Any) -> Answer:
        return answer({"items": list(items)})


@pytest.fixture
def world() -> World:
    """Empty."""
    return World()


@pytest.fixture
def run(serve: Serve, world: World, tmp_path: Path) -> Any:
    """Restarts all that is in it; what was said."""
    api = serve({ANY: world.answer})
    cluster = Cluster(config=str(fakes.kubeconfig(tmp_path / "kubeconfig", api.url)), patience=0.0)

    def restarted(version: str = NEW) -> list[str]:
        said: list[str] = []
        try:
            restart(cluster, version, timeout=0.05, say=said.append, interval=0.01)
        finally:
            assert not [each for each in api.asked if each.startswith("DELETE")]
        return said

    return restarted


def test_all_kinds_are_restarted_in_order(world: World, run: Any) -> None:
    world.has("web")
    world.has("api")
    world.has("cache", "StatefulSet")
    world.has("agent", "DaemonSet")

    said = run()

    assert world.patched == ["api", "web", "cache", "agent"]
    assert said[0] == "4 workloads run another proxy version than 1.29.1"


def test_workloads_that_are_current_or_without_sidecar_are_skipped(world: World, run: Any) -> None:
    world.has("done", proxy=NEW)
    world.has("plain", proxy="")
    world.has("web")

    run()
    run()

    assert world.patched == ["web"]


def test_an_excluded_workload_is_skipped_and_named(world: World, run: Any) -> None:
    world.has("web", annotations={"meshgate/restart": "false"})

    said = run()

    assert world.patched == []
    assert any("Deployment shop/web is excluded" in line for line in said)


def test_a_namespace_can_be_excluded(world: World, run: Any) -> None:
    world.has("web")
    world.namespaces["shop"] = {"meshgate/restart": "false"}

    run()

    assert world.patched == []


def test_it_stops_at_an_unavailable_workload_and_continues_there(world: World, run: Any) -> None:
    for name in ("a", "b", "c"):
        world.has(name)
    world.lost = {"b"}

    with pytest.raises(
        Stopped, match="Deployment shop/b is not available after its restart within"
    ):
        run()
    assert world.patched == ["a", "b"]

    path = "/apis/apps/v1/namespaces/shop/deployments/b"
    world.workloads[path]["status"]["observedGeneration"] = 2
    world.lost = set()
    run()
    assert world.patched == ["a", "b", "b", "c"]


def test_it_stops_at_a_workload_that_keeps_the_old_proxy(world: World, run: Any) -> None:
    world.has("a")
    world.has("b")
    world.comes_back_as = OLD

    with pytest.raises(
        Stopped, match=r"shop/a is available, but Pod a-1 still runs another proxy version"
    ):
        run()

    assert world.patched == ["a"]


def test_an_unavailable_workload_is_not_restarted(world: World, run: Any) -> None:
    world.has("a")
    world.workloads["/apis/apps/v1/namespaces/shop/deployments/a"]["status"]["readyReplicas"] = 0
    world.workloads["/apis/apps/v1/namespaces/shop/deployments/a"]["status"][
        "availableReplicas"
    ] = 0

    with pytest.raises(Stopped, match="is not available before its restart"):
        run()

    assert world.patched == []


@pytest.mark.parametrize(
    "more", [{"paused": True}, {"kind": "StatefulSet", "updateStrategy": {"type": "OnDelete"}}]
)
def test_a_workload_without_rollout_stops_it_before_any_restart(
    world: World, run: Any, more: dict[str, Any]
) -> None:
    world.has("a")
    world.has("b", **more)

    with pytest.raises(Stopped, match="restart manually"):
        run()

    assert world.patched == []


BUDGET = {
    "metadata": {"name": "keep", "namespace": "shop"},
    "spec": {"selector": {"matchLabels": {"app": "a"}}},
    "status": {"disruptionsAllowed": 0},
}


@pytest.mark.parametrize(
    ("strategy", "patched"),
    [({}, ["a"]), ({"rollingUpdate": {"maxUnavailable": 1}}, []), ({"type": "Recreate"}, [])],
    ids=["surges", "takes one away", "takes all away"],
)
def test_it_waits_for_disruption_budgets(
    world: World, run: Any, strategy: dict[str, Any], patched: list[str]
) -> None:
    world.has("a", strategy=strategy)
    world.budgets = [BUDGET]

    if patched:
        run()
    else:
        with pytest.raises(
            Stopped, match="Deployment shop/a was not restarted: a PodDisruptionBudget allowed no"
        ):
            run()

    assert world.patched == patched


def test_an_invalid_version_restarts_nothing(world: World, run: Any) -> None:
    world.has("a")

    with pytest.raises(Stopped, match="'newest' is not a version"):
        run("newest")

    assert world.patched == []
