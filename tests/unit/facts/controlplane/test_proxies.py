"""Proxies: those that the pods promise, held against what all replicas of istiod say."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.istio import EnvoyFilter
from meshgate.snapshot.istiod import ProxySync, SyncState
from meshgate.snapshot.kubernetes import Annotations, Condition, Metadata, Owner, Pod
from meshgate.snapshot.upgrade import Node, NodeStatus
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.builders import (
    CLUSTER,
    LISTENER,
    NOT_SENT,
    after,
    envoy_filter,
    expecting,
    istiod,
    mesh,
    pod,
    pushed,
    reading,
    running,
    sidecar,
    sync,
    terminated,
    waiting,
)

PROXY = "istio-proxy"


def alone(*pods: Pod) -> Mesh:
    """These pods, and an istiod that knows none of their proxies but one that is in sync."""
    return mesh(pods=(istiod(), sidecar(), *pods))


# --- who is promised ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "promised",
    [
        pytest.param(sidecar("new"), id="classic sidecar"),
        pytest.param(sidecar("new", native=True), id="native sidecar"),
        pytest.param(pod("new", containers=[running(PROXY)]), id="gateway"),
    ],
)
def test_a_proxy_that_runs_and_is_connected_to_nobody_is_a_finding(promised: Pod) -> None:
    (finding,) = alone(promised).proxies.disconnected

    assert finding.subject == "Pod shop/new"
    assert finding.seen == "its proxy is running but not connected to istiod"
    assert "logs new -c istio-proxy" in finding.remedy
    assert finding.transient


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(pod("new", "legacy", containers=[running("app")]), id="no proxy"),
        pytest.param(sidecar("new", deleted=True), id="on its way out"),
        pytest.param(
            sidecar("new", proxy=terminated(PROXY), phase="Succeeded", ready=False), id="completed"
        ),
        pytest.param(
            sidecar("new", native=True, proxy=terminated(PROXY), phase="Succeeded"),
            id="completed with a native sidecar",
        ),
        pytest.param(
            sidecar("new", proxy=terminated(PROXY, 1), phase="Failed", ready=False), id="evicted"
        ),
        pytest.param(
            sidecar("new", proxy=waiting(PROXY, "PodInitializing"), phase="Pending", ready=False),
            id="about to start",
        ),
        pytest.param(
            Pod(
                metadata=sidecar("new").metadata,
                spec=sidecar("new").spec,
                status=pod("new", phase="Pending", ready=False).status,
            ),
            id="not scheduled",
        ),
    ],
)
def test_pods_that_promise_no_proxy_now_are_no_finding(other: Pod) -> None:
    assert alone(other).proxies.disconnected == []


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("reason", "phase", "transient"),
    [
        ("CrashLoopBackOff", "Running", True),
        ("ImagePullBackOff", "Pending", False),
        ("CreateContainerConfigError", "Pending", False),
    ],
)
def test_a_proxy_that_does_not_run_is_a_finding(
    native: bool, reason: str, phase: str, transient: bool
) -> None:
    broken = sidecar("new", native=native, proxy=waiting(PROXY, reason), phase=phase, ready=False)

    (finding,) = alone(broken).proxies.disconnected

    assert finding.seen == f"its proxy is not running: container istio-proxy is in {reason}"
    assert "describe pod new" in finding.remedy
    assert finding.transient is transient


def test_a_proxy_that_ended_in_a_pod_that_runs_is_a_finding() -> None:
    (finding,) = alone(sidecar("new", proxy=terminated(PROXY, 1))).proxies.disconnected

    assert finding.seen.startswith("its proxy is not running")


def test_equal_names_in_two_namespaces_are_two_proxies() -> None:
    (finding,) = alone(sidecar("web-1", "payments")).proxies.disconnected

    assert finding.subject == "Pod payments/web-1"


def test_every_proxy_that_is_missing_is_told() -> None:
    missing = alone(*(sidecar(f"new-{n}") for n in range(20))).proxies.disconnected

    assert len(missing) == 20


# --- who is connected ---------------------------------------------------------------------------


def two(first: Any, second: Any, **more: Any) -> Mesh:
    """Two replicas, of which each says its own."""
    pods = more.pop("pods", (sidecar(),))
    return mesh(
        pods=(istiod(), istiod("istiod-2"), *pods),
        istiod=(reading(proxies=first), reading("istiod-2", proxies=second)),
        **more,
    )


def test_a_proxy_may_be_connected_to_any_replica() -> None:
    pods = (sidecar(), sidecar("web-2"))

    assert two([sync()], [sync("web-2.shop")], pods=pods).proxies.disconnected == []
    assert len(two([sync()], [], pods=pods).proxies.disconnected) == 1


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_a_proxy_that_moved_the_newest_word_counts(newest_first: bool) -> None:
    old = sync(
        listener=pushed(error="an old error", sent_at=after(-60)),
        cluster=pushed(sent_at=after(-61)),
    )
    new = sync(listener=pushed(sent_at=after(-1)), cluster=NOT_SENT)
    both = ([new], [old]) if newest_first else ([old], [new])

    moved = two(*both).proxies

    assert moved.connected == {"web-1.shop": new}
    assert moved.rejections == []


def test_a_proxy_that_was_sent_nothing_yet_is_connected() -> None:
    fresh = sync(listener=NOT_SENT, cluster=NOT_SENT)

    assert mesh(istiod=(reading(proxies=[fresh]),)).proxies.disconnected == []


# --- rejections ---------------------------------------------------------------------------------

NO = "Error adding listener:\n  no such\tfilter\n"


def rejecting(*filters: EnvoyFilter, labels: dict[str, str] | None = None, **more: Any) -> str:
    """The remedy for a proxy of shop that rejects its listeners, where these filters exist."""
    (finding,) = mesh(
        pods=(istiod(), sidecar(labels=labels or {"app": "web", "tier": "front"})),
        istiod=(reading(proxies=[sync(listener=pushed(answered=False, error=NO))]),),
        envoy_filters=filters,
        **more,
    ).proxies.rejections
    return finding.remedy


def test_a_rejection_is_a_finding_with_envoys_own_words_on_one_line() -> None:
    (finding,) = mesh(
        istiod=(reading(proxies=[sync(listener=pushed(answered=False, error=NO))]),)
    ).proxies.rejections

    assert finding.subject == "Pod shop/web-1"
    assert finding.seen == (
        "rejected its Listener configuration: Error adding listener: no such filter"
    )
    assert not finding.transient


def test_a_rejection_for_another_reason_is_another_problem() -> None:
    def identity(pod: str, error: str) -> object:
        sent = sync(f"{pod}.shop", listener=pushed(answered=False, error=error))
        held = mesh(pods=(istiod(), sidecar(pod)), istiod=(reading(proxies=[sent]),))
        (finding,) = held.proxies.rejections
        return finding.identity[1:]

    metrics, api = "0.0.0.0_9090: no filter", "0.0.0.0_8080: no filter"
    assert identity("web-1", metrics) == identity("web-2", metrics)
    assert identity("web-1", metrics) != identity("web-1", api)


def test_every_type_that_was_rejected_is_told() -> None:
    both = sync(listener=pushed(error="no"), cluster=pushed(error="no"))

    found = mesh(istiod=(reading(proxies=[both, sync("web-2.shop")]),)).proxies.rejections

    assert sorted(each.seen.split()[2] for each in found) == ["Cluster", "Listener"]


@pytest.mark.parametrize(
    ("suspect", "reaches"),
    [
        (envoy_filter("all", "shop"), True),
        (envoy_filter("one", "shop", selects={"app": "web"}), True),
        (envoy_filter("both", "shop", selects={"app": "web", "tier": "front"}), True),
        (envoy_filter("root", "istio-system"), True),
        (envoy_filter("root-one", "istio-system", selects={"app": "web"}), True),
        (envoy_filter("other-app", "shop", selects={"app": "api"}), False),
        (envoy_filter("more", "shop", selects={"app": "web", "version": "v2"}), False),
        (envoy_filter("elsewhere", "payments"), False),
        (envoy_filter("root-other", "istio-system", selects={"app": "api"}), False),
    ],
    ids=lambda value: value.metadata.name if isinstance(value, EnvoyFilter) else None,
)
def test_the_suspects_are_the_filters_that_reach_the_proxy(
    suspect: EnvoyFilter, reaches: bool
) -> None:
    name = f"{suspect.metadata.namespace}/{suspect.metadata.name}"

    remedy = rejecting(suspect)

    assert (name in remedy) is reaches
    assert ("no EnvoyFilter applies to it" in remedy) is not reaches


def test_all_suspects_are_named_in_order() -> None:
    remedy = rejecting(envoy_filter("b"), envoy_filter("a"), envoy_filter("c", "istio-system"))

    assert remedy.endswith("istio-system/c, shop/a, shop/b")


def test_the_root_namespace_is_the_one_that_was_named() -> None:
    (finding,) = mesh(
        pods=(istiod(namespace="mesh"), sidecar()),
        istiod=(reading(proxies=[sync(listener=pushed(error="no"))]),),
        envoy_filters=(envoy_filter("old", "istio-system"), envoy_filter("new", "mesh")),
        **expecting(istio_namespace="mesh"),
    ).proxies.rejections

    assert finding.remedy.endswith("these apply to it: mesh/new")


# --- stale --------------------------------------------------------------------------------------

KEY = f"web-1.shop|{LISTENER}"


def unanswered(
    since: float, *, looked_first: float, key: str = KEY, stale_after: float = 30.0
) -> Mesh:
    """A push of which we know so many seconds before the snapshot that it is unanswered."""
    return mesh(
        started=after(looked_first),
        istiod=(reading(proxies=[sync(listener=pushed(answered=False))]),),
        unanswered_since={key: after(since)},
        **expecting(stale_after=stale_after),
    )


def test_a_push_that_is_unanswered_for_too_long_is_a_finding_that_does_not_heal() -> None:
    (finding,) = unanswered(-31, looked_first=-60).proxies.stale

    assert finding.subject == "Pod shop/web-1"
    assert finding.seen == "is STALE: Listener push unanswered for 31 s"
    assert finding.expected == "an answer within 30 s"
    assert not finding.transient


def test_a_push_that_was_unanswered_before_we_looked_may_still_heal() -> None:
    (finding,) = unanswered(-5, looked_first=-5).proxies.stale

    assert finding.transient


def test_a_push_that_is_young_and_came_while_we_looked_is_no_finding() -> None:
    assert unanswered(-29, looked_first=-60).proxies.stale == []


@pytest.mark.parametrize(("limit", "stale"), [(10.0, True), (40.0, False)])
def test_how_long_is_too_long_is_what_was_asked_for(limit: float, stale: bool) -> None:
    asked = unanswered(-20, looked_first=-60, stale_after=limit)

    assert bool(asked.proxies.stale) is stale


@pytest.mark.parametrize("state", [pushed(), NOT_SENT], ids=["answered", "never sent"])
def test_what_waits_for_no_answer_is_not_stale(state: SyncState) -> None:
    quiet = mesh(started=after(-60), istiod=(reading(proxies=[sync(listener=state)]),))

    assert quiet.proxies.stale == []


def test_a_proxy_that_is_gone_is_not_stale() -> None:
    gone = f"web-0.shop|{LISTENER}"

    assert unanswered(-90, looked_first=-99, key=gone).proxies.stale == []


def test_every_type_is_told() -> None:
    both = unanswered(-90, looked_first=-99).evidence.snapshot.unanswered_since
    both = {**both, f"web-1.shop|{CLUSTER}": after(-50)}

    found = mesh(unanswered_since=both, started=after(-99)).proxies.stale

    assert sorted(each.seen for each in found) == [
        "is STALE: Cluster push unanswered for 50 s",
        "is STALE: Listener push unanswered for 90 s",
    ]


# --- other clusters, other meshes ----------------------------------------------------------------


def remote(proxy: str, **types: Any) -> ProxySync:
    """A proxy of another cluster of the mesh."""
    return msgspec.structs.replace(sync(proxy, **types), cluster_id="remote-eu")


def test_a_proxy_of_the_same_name_in_another_cluster_hides_nothing() -> None:
    pods = (istiod(), sidecar(), sidecar("cache-0"), sidecar("cache-1"))
    known = [sync(), sync("cache-1.shop"), remote("cache-0.shop")]

    (finding,) = mesh(pods=pods, istiod=(reading(proxies=known),)).proxies.disconnected

    assert finding.subject == "Pod shop/cache-0"


def test_the_random_names_of_deployments_say_which_cluster_is_ours() -> None:
    web = sidecar("web-5d9-x", labels={"pod-template-hash": "5d9"})
    pods = (istiod(), web, sidecar("cache-0"), sidecar("cache-1"))
    known = [sync("web-5d9-x.shop"), remote("cache-0.shop"), remote("cache-1.shop")]

    findings = mesh(pods=pods, istiod=(reading(proxies=known),)).proxies.disconnected

    assert [each.subject for each in findings] == ["Pod shop/cache-0", "Pod shop/cache-1"]


def test_a_cluster_that_cannot_be_told_from_another_is_unknown() -> None:
    pods = (istiod(), sidecar("cache-0"))
    known = [sync("cache-0.shop"), remote("cache-0.shop")]

    with pytest.raises(CouldNotVerify, match="ID of this cluster: Kubernetes or remote-eu"):
        _ = mesh(pods=pods, istiod=(reading(proxies=known),)).proxies.disconnected


@pytest.mark.parametrize(
    "proxy",
    [
        remote("web-2.shop", listener=pushed(error="no")),
        remote("far-1.shop", listener=pushed(error="no")),
        sync("vm-1.shop", listener=pushed(error="no")),
    ],
    ids=["same name", "another cluster", "virtual machine"],
)
def test_what_does_not_run_here_causes_no_finding_here(proxy: ProxySync) -> None:
    web = sidecar(labels={"pod-template-hash": "5d9"})
    both = mesh(
        pods=(istiod(), web, sidecar("web-2")),
        istiod=(reading(proxies=[sync(), sync("web-2.shop"), proxy]),),
    ).proxies

    assert both.disconnected == []
    assert both.rejections == []


def test_a_second_mesh_of_the_cluster_is_left_alone() -> None:
    theirs = sidecar("theirs", "team-b", annotations=Annotations(revision="mesh-b"))
    pods = (
        istiod(),
        sidecar(),
        theirs,
        istiod("b-1", namespace="istio-system-b", revision="mesh-b"),
    )

    assert mesh(pods=pods).proxies.disconnected == []


@pytest.mark.parametrize("revision", ["mesh-b", "default"])
def test_a_pod_of_a_revision_without_another_mesh_is_ours(revision: str) -> None:
    lost = sidecar("lost", annotations=Annotations(revision=revision))
    pods = (istiod(), sidecar(), lost, istiod("b-1", namespace="istio-system-b"))

    (finding,) = mesh(pods=pods).proxies.disconnected

    assert finding.subject == "Pod shop/lost"


def test_a_finding_outlives_the_pod_that_it_is_about() -> None:
    def found(name: str) -> Finding:
        owner = Owner(kind="ReplicaSet", name="web-5d9", controller=True)
        new = sidecar(name, labels={"pod-template-hash": "5d9"}, owner=owner)
        (finding,) = alone(new).proxies.disconnected
        return finding

    assert found("web-5d9-a").identity == found("web-5d9-b").identity
    assert found("web-5d9-a").owner == "Deployment shop/web"


# --- nothing to see -----------------------------------------------------------------------------

FACTS: dict[str, Callable[[Mesh], Any]] = {
    "disconnected": lambda mesh: mesh.proxies.disconnected,
    "rejections": lambda mesh: mesh.proxies.rejections,
    "stale": lambda mesh: mesh.proxies.stale,
}


@pytest.mark.parametrize("fact", FACTS)
def test_a_mesh_without_a_proxy_has_nothing_to_speak_about(fact: str) -> None:
    empty = mesh(pods=(istiod(), pod("old", containers=[running("app")])), istiod=(reading(),))

    with pytest.raises(NotApplicable, match="no pod contains"):
        FACTS[fact](empty)


@pytest.mark.parametrize("fact", ["rejections", "stale"])
def test_an_istiod_that_knows_no_proxy_says_nothing_of_those_that_run(fact: str) -> None:
    with pytest.raises(CouldNotVerify, match="no proxy is connected") as raised:
        FACTS[fact](mesh(istiod=(reading(),)))

    assert raised.value.transient


@pytest.mark.parametrize("fact", ["rejections", "stale"])
def test_a_proxy_of_which_istiod_reports_no_type_proves_nothing(fact: str) -> None:
    empty = msgspec.structs.replace(sync(), resources={})

    with pytest.raises(CouldNotVerify, match="no configuration type for Pod shop/web-1") as raised:
        FACTS[fact](mesh(istiod=(reading(proxies=[empty]),)))

    assert raised.value.transient


@pytest.mark.parametrize("fact", FACTS)
def test_with_one_silent_replica_nothing_is_said_of_any_proxy(fact: str) -> None:
    half = mesh(
        pods=(istiod(), istiod("istiod-2"), sidecar()),
        istiod=(reading(proxies=[sync()]), reading("istiod-2", error="timed out")),
    )

    with pytest.raises(CouldNotVerify, match="istiod-2"):
        FACTS[fact](half)


# --- lost nodes ---------------------------------------------------------------------------------


def on_nodes(status: str) -> dict[str, Any]:
    """A sidecar that is not connected, on a node whose condition Ready has this status."""
    spec = msgspec.structs.replace(sidecar("log-1").spec, node_name="spot")
    agent = msgspec.structs.replace(sidecar("log-1", ready=False), spec=spec)
    nodes = tuple(
        Node(
            metadata=Metadata(name=name),
            status=NodeStatus(conditions=(Condition(type="Ready", status=seen),)),
        )
        for name, seen in (("spot", status), ("a", "True"), ("b", "True"))
    )
    return {"pods": (istiod(), sidecar(), agent), "nodes": nodes}


def test_a_proxy_on_a_lost_node_is_a_warning() -> None:
    proxies = mesh(**on_nodes("Unknown")).proxies

    assert proxies.disconnected == []
    (warning,) = proxies.on_lost_nodes
    assert warning.subject == "Node spot"
    assert warning.seen == (
        "its kubelet does not report: 1 pod with a proxy there was not verified"
    )


@pytest.mark.parametrize("status", ["True", "False"])
def test_a_node_that_reports_explains_no_proxy(status: str) -> None:
    proxies = mesh(**on_nodes(status)).proxies

    assert [each.subject for each in proxies.disconnected] == ["Pod shop/log-1"]
    assert proxies.on_lost_nodes == []
