"""Whether the nodes have room for the pods that a rolling restart adds."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.precheck.capacity import Capacity
from meshgate.snapshot.kubernetes import Metadata, Owner, Pod
from meshgate.snapshot.new_pods import LimitRange, NewPod, NewPods
from meshgate.snapshot.upgrade import Node
from meshgate.verdict import NotApplicable
from tests.support.builders import deployment, mesh, pod, running

HALF = [{"name": "app", "requests": {"cpu": "500m", "memory": "256Mi"}}]


def node(name: str = "one", cpu: str = "1", *, ready: bool = True, **spec: Any) -> Node:
    """A node of this size, with room for 10 pods."""
    body = {
        "metadata": {"name": name, "labels": spec.pop("labels", {})},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    return msgspec.convert(body, Node)


def placed(cpu: str, name: str = "web-1", on: str = "one", priority: int = 0, **more: Any) -> Pod:
    """A pod on a node that requests so much."""
    built = pod(name, containers=[running("app")], **more)
    spec = msgspec.convert(
        {
            "containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}],
            "nodeName": on,
            "priority": priority,
        },
        type(built.spec),
    )
    return msgspec.structs.replace(built, spec=spec)


def new(**more: Any) -> NewPod:
    """The pod of a Deployment with one replica and one additional pod during a rollout."""
    body = {
        "workload": "Deployment shop/web",
        "replicas": 1,
        "surge": 1,
        "injected": True,
        "containers": HALF,
        **more,
    }
    return msgspec.convert(body, NewPod)


def capacity(*pods: Pod, nodes: tuple[Node, ...] = (node(),), **more: Any) -> Capacity:
    asked = more.pop("asked", new())
    return mesh(pods=pods, nodes=nodes, new_pods=NewPods(pods=(asked,)), **more).capacity


def test_a_pod_that_fits_somewhere_is_no_finding() -> None:
    assert capacity(placed("500m")).stuck == []
    assert capacity(placed("900m"), nodes=(node(), node("two"))).stuck == []


def test_a_pod_that_fits_nowhere_stops_the_restart() -> None:
    (found,) = capacity(placed("600m")).stuck

    assert found.subject == "Deployment shop/web"
    assert "Node one lacks cpu: 500m is requested, and 400m is left" in found.seen


@pytest.mark.parametrize(
    "full",
    [
        (node(unschedulable=True),),
        (node(ready=False),),
        (node(taints=[{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]),),
    ],
)
def test_a_node_that_takes_no_pods_has_no_room(full: tuple[Node, ...]) -> None:
    (found,) = capacity(nodes=full).stuck

    assert "no node that is Ready and schedulable matches" in found.seen


def test_selectors_and_tolerations_decide_which_nodes_count() -> None:
    tainted = node("db", taints=[{"key": "dedicated", "value": "db", "effect": "NoSchedule"}])
    tolerating = new(tolerations=[{"key": "dedicated", "operator": "Exists"}])
    selecting = new(nodeSelector={"disk": "ssd"})

    assert capacity(nodes=(tainted,), asked=tolerating).stuck == []
    assert capacity(nodes=(tainted,), asked=new()).stuck
    assert capacity(asked=selecting).stuck
    assert capacity(nodes=(node(labels={"disk": "ssd"}),), asked=selecting).stuck == []
    soft = node(taints=[{"key": "x", "effect": "PreferNoSchedule"}])
    assert capacity(nodes=(soft,)).stuck == []


def test_finished_pods_and_pods_elsewhere_need_no_room() -> None:
    done = placed("900m", phase="Succeeded")
    elsewhere = placed("900m", "api-1", on="two")

    assert capacity(done, elsewhere).stuck == []


def test_the_number_of_pods_of_a_node_counts() -> None:
    many = [placed("1m", f"web-{number}") for number in range(10)]

    (found,) = capacity(*many).stuck

    assert "lacks pods: 1 is requested, and 0 is left" in found.seen


def test_the_defaults_of_a_limit_range_count() -> None:
    limits = msgspec.convert(
        {
            "metadata": {"name": "all", "namespace": "shop"},
            "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "2"}}]},
        },
        LimitRange,
    )
    silent = new(containers=[{"name": "app"}])

    assert capacity(asked=silent).stuck == []
    assert capacity(asked=silent, limit_ranges=(limits,)).stuck


def test_where_a_pod_may_be_missing_the_rollout_progresses() -> None:
    found = capacity(placed("600m"), asked=new(unavailable=1))

    assert found.stuck == []
    assert len(found.tight) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"nodes": (node(labels={"karpenter.sh/nodepool": "default"}),)},
        {"deployments": (deployment(name="cluster-autoscaler"),)},
    ],
)
def test_where_an_autoscaler_adds_nodes_it_is_a_warning(more: dict[str, Any]) -> None:
    found = capacity(placed("600m"), **more)

    assert found.stuck == []
    assert len(found.tight) == 1


@pytest.mark.parametrize(
    "asked",
    [new(surge=0), new(replicas=0), new(injected=False)],
)
def test_a_workload_without_an_additional_pod_needs_no_room(asked: NewPod) -> None:
    with pytest.raises(NotApplicable):
        _ = capacity(placed("900m"), asked=asked).stuck


def test_a_recording_without_the_nodes_capacity_is_not_judged() -> None:
    bare = Node(metadata=Metadata(name="one"))

    with pytest.raises(NotApplicable, match="allocatable"):
        _ = capacity(nodes=(bare,)).stuck


def affine(*rows: dict[str, Any], **fields: Any) -> NewPod:
    """A pod with a required node affinity of one term."""
    return new(nodeTerms=[{"matchExpressions": rows, **fields}])


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        (affine({"key": "zone", "operator": "In", "values": ["a", "b"]}), True),
        (affine({"key": "zone", "operator": "In", "values": ["b"]}), False),
        (affine({"key": "zone", "operator": "NotIn", "values": ["a"]}), False),
        (affine({"key": "gpu", "operator": "NotIn", "values": ["a"]}), True),
        (affine({"key": "zone", "operator": "Exists"}), True),
        (affine({"key": "zone", "operator": "DoesNotExist"}), False),
        (affine({"key": "cores", "operator": "Gt", "values": ["4"]}), True),
        (affine({"key": "cores", "operator": "Lt", "values": ["4"]}), False),
        (affine({"key": "zone", "operator": "Gt", "values": ["4"]}), False),
        (affine(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["one"]}]), True),
        (affine(), False),
        (new(nodeTerms=[{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]), True),
    ],
)
def test_a_required_node_affinity_decides_which_nodes_count(asked: NewPod, matches: bool) -> None:
    found = capacity(nodes=(node(labels={"zone": "a", "cores": "8"}),), asked=asked).stuck

    assert (found == []) is matches
    assert all("node affinity" in each.seen for each in found)


def test_pods_that_must_be_apart_need_a_node_of_their_own() -> None:
    rows = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "host"}
    asked = new(apart=[rows])
    nodes = (node(labels={"host": "1"}), node("two", labels={"host": "2"}))
    web = placed("1m", labels={"app": "web"})
    other = placed("1m", "web-2", on="two", labels={"app": "web"})

    assert capacity(web, nodes=nodes, asked=asked).stuck == []
    (found,) = capacity(web, other, nodes=nodes, asked=asked).stuck
    assert "its podAntiAffinity forbids every node" in found.seen
    # pods of other namespaces do not count, unless the term names them
    elsewhere = msgspec.structs.replace(
        other, metadata=msgspec.structs.replace(other.metadata, namespace="other")
    )
    assert capacity(web, elsewhere, nodes=nodes, asked=asked).stuck == []
    named = new(apart=[{**rows, "namespaces": ["shop", "other"]}])
    assert capacity(web, elsewhere, nodes=nodes, asked=named).stuck


def test_a_pod_that_may_preempt_others_is_a_warning() -> None:
    placeholder = placed("900m", "pause-1", priority=-10)

    found = capacity(placeholder)
    assert (found.stuck, len(found.tight)) == ([], 1)
    # its own priority is that of its present pods
    owner = Owner(kind="StatefulSet", name="web", controller=True)
    lowest = placed("1m", on="two", priority=-10, owner=owner)
    asked = new(workload="StatefulSet shop/web")
    assert capacity(placeholder, lowest, asked=asked).stuck
    # without the placeholder it does not fit either
    assert capacity(placed("600m", "db-1"), placed("1m", "pause-1", priority=-10)).stuck


def test_what_is_not_evaluated_is_a_warning_where_there_is_room() -> None:
    near = new(constraints=["podAffinity"])

    found = capacity(asked=near)
    assert found.stuck == []
    assert [each.problem for each in found.tight] == ["constraints-not-evaluated"]
    assert "does not include podAffinity" in found.tight[0].seen
    assert [e.problem for e in capacity(placed("900m"), asked=near).stuck] == ["no-room"]
    assert capacity(placed("900m"), asked=near).tight == []


# --- topology spread constraints ------------------------------------------------------------------

WEB = {"app": "web"}
ZONES = (
    node("a-1", labels={"zone": "a", "host": "1"}),
    node("a-2", labels={"zone": "a", "host": "2"}),
    node("b-1", labels={"zone": "b", "host": "3"}),
)


def spread(key: str = "zone", labels: dict[str, str] = WEB, **more: Any) -> NewPod:
    """A pod of web that is spread over the values of a label of the nodes."""
    constraint = {"topologyKey": key, "labelSelector": {"matchLabels": WEB}, **more}
    return new(spread=[constraint], labels=labels)


def on(*nodes: str, cpu: str = "1m", **more: Any) -> tuple[Pod, ...]:
    """A pod of web on each of these nodes."""
    return tuple(
        placed(cpu, f"web-{number}", on=each, **{"labels": WEB, **more})
        for number, each in enumerate(nodes)
    )


def full(*names: str) -> tuple[Node, ...]:
    """The three nodes, some of them without room."""
    return tuple(
        node(each.metadata.name, "0", labels=dict(each.metadata.labels))
        if each.metadata.name in names
        else each
        for each in ZONES
    )


def test_a_pod_goes_to_the_zone_with_the_fewest() -> None:
    assert capacity(*on("a-1"), nodes=ZONES, asked=spread()).stuck == []
    assert capacity(*on("a-1", "b-1"), nodes=ZONES, asked=spread()).stuck == []
    (found,) = capacity(*on("a-1"), nodes=full("b-1"), asked=spread()).stuck
    assert (
        "no node that its constraints permit has room for it: for example, Node b-1" in found.seen
    )
    # the room in zone a counts where the difference may be larger
    assert capacity(*on("a-1"), nodes=full("b-1"), asked=spread(maxSkew=2)).stuck == []
    assert capacity(*on("a-1"), nodes=full("b-1"), asked=new()).stuck == []


def test_a_zone_whose_nodes_accept_no_pods_counts_as_empty() -> None:
    cordoned = node("b-1", unschedulable=True, labels={"zone": "b"})
    nodes = (*ZONES[:2], cordoned)

    (found,) = capacity(*on("a-1"), nodes=nodes, asked=spread()).stuck
    assert "its topologySpreadConstraints (zone) forbid every node that matches" in found.seen
    assert capacity(nodes=nodes, asked=spread()).stuck == []


@pytest.mark.parametrize(("policy", "stuck"), [("Ignore", True), ("Honor", False)])
def test_tainted_nodes_are_domains_unless_taints_are_honored(policy: str, stuck: bool) -> None:
    taint = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    nodes = (*ZONES[:2], node("b-1", taints=[taint], labels={"zone": "b"}))

    found = capacity(*on("a-1"), nodes=nodes, asked=spread(nodeTaintsPolicy=policy)).stuck
    assert bool(found) is stuck


@pytest.mark.parametrize(("policy", "stuck"), [("Ignore", True), ("Honor", False)])
def test_nodes_that_the_pod_does_not_choose_are_no_domains(policy: str, stuck: bool) -> None:
    constraint = {
        "topologyKey": "zone",
        "labelSelector": {"matchLabels": WEB},
        "nodeAffinityPolicy": policy,
    }
    asked = new(spread=[constraint], labels=WEB, nodeSelector={"zone": "a"})

    assert bool(capacity(*on("a-1"), nodes=ZONES, asked=asked).stuck) is stuck


def test_pods_that_the_constraint_does_not_select_do_not_count() -> None:
    nodes = full("b-1")

    assert capacity(*on("a-1", labels={"app": "api"}), nodes=nodes, asked=spread()).stuck == []
    assert capacity(*on("a-1", phase="Succeeded"), nodes=nodes, asked=spread()).stuck == []
    # each ReplicaSet is spread by itself, and the next one has no pods
    by_hash = spread(matchLabelKeys=["pod-template-hash"])
    assert capacity(*on("a-1"), nodes=nodes, asked=by_hash).stuck == []
    # a key that the pod lacks is ignored
    assert capacity(*on("a-1"), nodes=nodes, asked=spread(matchLabelKeys=["track"])).stuck
    tracked = spread(matchLabelKeys=["track"], labels={**WEB, "track": "canary"})
    assert capacity(*on("a-1"), nodes=nodes, asked=tracked).stuck == []
    # the scheduler counts no pods for an empty selector
    everything = spread(labelSelector={})
    assert capacity(*on("a-1"), nodes=nodes, asked=everything).stuck == []


def test_with_fewer_domains_than_the_least_the_fewest_is_zero() -> None:
    pods = on("a-1", "b-1")

    assert capacity(*pods, nodes=ZONES, asked=spread(minDomains=2)).stuck == []
    (found,) = capacity(*pods, nodes=ZONES, asked=spread(minDomains=3)).stuck
    assert "topologySpreadConstraints (zone)" in found.seen


def test_a_node_without_the_label_is_forbidden() -> None:
    (found,) = capacity(nodes=ZONES, asked=spread("rack")).stuck

    assert "topologySpreadConstraints (rack)" in found.seen


def test_all_constraints_of_a_pod_must_permit_the_node() -> None:
    selector = {"labelSelector": {"matchLabels": WEB}}
    both = [{"topologyKey": "zone", **selector}, {"topologyKey": "host", **selector}]
    asked = new(spread=both, labels=WEB)

    assert capacity(*on("a-1", "b-1"), nodes=ZONES, asked=asked).stuck == []
    assert capacity(*on("a-1", "b-1"), nodes=full("a-2"), asked=asked).stuck


def test_a_spread_that_stops_the_first_pod_is_a_warning_where_one_may_be_missing() -> None:
    asked = msgspec.structs.replace(spread(), unavailable=1)

    found = capacity(*on("a-1"), nodes=full("b-1"), asked=asked)
    assert (found.stuck, [each.problem for each in found.tight]) == ([], ["no-room"])
