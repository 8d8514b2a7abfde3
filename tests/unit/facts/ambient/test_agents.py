"""The CNI agents and ztunnels of the target version."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.node_agents import CNI, ZTUNNEL
from meshgate.snapshot.kubernetes import Annotations, Owner
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ambient_builders as build
from tests.support.builders import expecting, istiod, mesh, pod, reading, running

each_kind = pytest.mark.parametrize(
    ("kind", "name"), [(CNI, "istio-cni-node"), (ZTUNNEL, "ztunnel")]
)


def lacking(kind: str, **changes: Any) -> list[str]:
    return [str(each) for each in build.ambient_mesh(**changes).ambient_agents.lacking(kind)]


@each_kind
def test_a_healthy_mesh(kind: str, name: str) -> None:
    assert lacking(kind) == []
    assert lacking(kind, **expecting(target_version="1.29")) == []


@each_kind
def test_a_mesh_of_sidecars_has_neither(kind: str, name: str) -> None:
    with pytest.raises(NotApplicable, match=f"there is no DaemonSet {name}"):
        mesh().ambient_agents.lacking(kind)


@each_kind
def test_a_mesh_of_sidecars_may_have_the_daemon_set(kind: str, name: str) -> None:
    facts = mesh(daemon_sets=(build.daemon_set(name),))

    assert facts.ambient_agents.lacking(kind) == []


@each_kind
@pytest.mark.parametrize(
    "asked", [{}, expecting(target_version="1.29.1")], ids=["istiod", "target"]
)
def test_an_old_version(asked: Any, kind: str, name: str) -> None:
    sets = tuple(build.daemon_set(each, "1.28.2") for each in ("istio-cni-node", "ztunnel"))

    (finding,) = lacking(kind, daemon_sets=sets, **asked)

    words = f"DaemonSet istio-system/{name}: is of version 1.28.2 (expected 1.29.1)"
    assert finding == words


@each_kind
def test_a_rollout_that_is_not_finished(kind: str, name: str) -> None:
    sets = tuple(
        build.daemon_set(each, wanted=2, available=1) for each in ("istio-cni-node", "ztunnel")
    )

    (finding,) = lacking(kind, daemon_sets=sets)

    assert finding.startswith(f"DaemonSet istio-system/{name}: is not rolled out")


@each_kind
def test_agents_that_no_daemon_set_owns(kind: str, name: str) -> None:
    with pytest.raises(CouldNotVerify, match=f"there is no DaemonSet {name}: the version"):
        lacking(kind, daemon_sets=())


@each_kind
def test_a_version_that_nothing_names(kind: str, name: str) -> None:
    sets = tuple(build.daemon_set(each, "private") for each in ("istio-cni-node", "ztunnel"))

    with pytest.raises(CouldNotVerify, match=f"cannot determine the version of .*{name}"):
        lacking(kind, daemon_sets=sets)


def test_a_ztunnel_that_is_not_connected() -> None:
    only = reading(proxies=[build.sync("waypoint-1.shop", "waypoint")])

    (finding,) = lacking(ZTUNNEL, istiod=(only,))

    assert finding.startswith("Pod istio-system/ztunnel-1: its proxy is running but not connected")
    assert lacking(CNI, istiod=(only,)) == []


def test_a_waypoint_that_is_not_connected_is_left_to_other_stages() -> None:
    only = reading(proxies=[build.sync("ztunnel-1.istio-system", "ztunnel")])

    assert lacking(ZTUNNEL, istiod=(only,)) == []


# --- before the upgrade -------------------------------------------------------------------------


def before(**changes: Any) -> Any:
    return build.ambient_mesh(**{**expecting(target_version="1.30.0"), **changes}).ambient_agents


def sets(cni: str, ztunnel: str) -> dict[str, Any]:
    return {
        "daemon_sets": (
            build.daemon_set("istio-cni-node", cni),
            build.daemon_set("ztunnel", ztunnel),
        )
    }


def test_agents_that_the_target_supports() -> None:
    assert before().unsupported == before().out_of_order == before().obstacles == []


@pytest.mark.parametrize(
    ("cni", "ztunnel", "words"),
    [
        ("1.28.2", "1.29.1", "istio-cni-node: is of version 1.28.2, 2 minor versions behind the"),
        ("1.29.1", "1.28.2", "ztunnel: is of version 1.28.2, 2 minor versions behind the target"),
        ("1.29.1", "1.31.0", "ztunnel: is of version 1.31.0, newer than the target"),
    ],
)
def test_agents_that_the_target_does_not_support(cni: str, ztunnel: str, words: str) -> None:
    (finding,) = before(**sets(cni, ztunnel)).unsupported

    assert str(finding).startswith(f"DaemonSet istio-system/{words}")


@pytest.mark.parametrize(
    ("cni", "ztunnel", "newer"),
    [
        ("1.29.1", "1.29.1", []),
        ("1.30.0", "1.29.1", ["istio-cni-node: is of version 1.30.0, newer than istiod 1.29.1"]),
        ("1.28.2", "1.29.1", ["ztunnel: is of version 1.29.1, newer than istio-cni 1.28.2"]),
    ],
)
def test_the_order_of_components(cni: str, ztunnel: str, newer: list[str]) -> None:
    found = [str(each) for each in before(**sets(cni, ztunnel)).out_of_order]

    assert found == [f"DaemonSet istio-system/{each}" for each in newer]


def test_what_is_broken_before_the_upgrade() -> None:
    unfinished = (build.daemon_set("istio-cni-node", available=0), build.daemon_set("ztunnel"))
    bare = build.app(annotations=Annotations())

    assert len(before(daemon_sets=unfinished).obstacles) == 1
    assert len(before(pods=(*build.PODS[:-1], bare)).obstacles) == 1
    assert len(before(pods=(istiod(), build.app()), daemon_sets=()).obstacles) == 2


def test_a_mesh_without_agents_before_the_upgrade() -> None:
    facts = mesh().ambient_agents

    for fact in ("unsupported", "out_of_order", "obstacles"):
        with pytest.raises(NotApplicable, match="there is no istio-cni or ztunnel DaemonSet"):
            getattr(facts, fact)


def test_the_cni_plugin_of_a_mesh_of_sidecars_before_the_upgrade() -> None:
    facts = mesh(daemon_sets=(build.daemon_set("istio-cni-node", available=0),)).ambient_agents

    (finding,) = facts.obstacles
    assert finding.problem == "not-rolled-out"


def starting(message: str, **changes: Any) -> Any:
    """A mesh of sidecars, one of which has no network yet."""
    waiting = pod(
        "web-2",
        containers=[running("web"), running("istio-proxy")],
        phase="Pending",
        ready=False,
        owner=Owner(kind="StatefulSet", name="web", controller=True),
    )
    spec = msgspec.structs.replace(waiting.spec, node_name="node-1")
    seen = {
        "pods": (istiod(), msgspec.structs.replace(waiting, spec=spec)),
        "sandbox_events": (build.sandbox_event("web-2", message),),
        **expecting(target_version="1.30.0"),
    }
    return mesh(**{**seen, **changes}).ambient_agents


CNI_FAILED = 'plugin type="istio-cni" failed (add): connection refused'


def test_a_sidecar_that_the_plugin_keeps_from_starting_is_found_before_the_upgrade() -> None:
    for daemon_sets in ((), (build.daemon_set("istio-cni-node"),)):
        (found,) = starting(CNI_FAILED, daemon_sets=daemon_sets).obstacles

        assert (found.subject, found.problem) == ("Pod shop/web-2", "no-sandbox")
        assert found.transient


def test_a_sidecar_that_something_else_keeps_from_starting_is_not_the_agents() -> None:
    other = 'plugin type="calico" failed (add): no more addresses'
    sets = (build.daemon_set("istio-cni-node"),)

    assert starting(other, daemon_sets=sets).obstacles == []
    with pytest.raises(NotApplicable, match="no istio-cni or ztunnel"):
        _ = starting(other).obstacles
