"""A mesh in ambient mode with one thing broken at a time: the first line of each verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.ambient import AmbientReading, ZtunnelReading
from meshgate.snapshot.declared_pairs import PairAnswer, PairAnswers, PairWaypoint
from meshgate.snapshot.gateway_api import ApiGateway, GatewaySpec
from meshgate.snapshot.kubernetes import Annotations, Metadata, Pod, Service
from meshgate.snapshot.model import Gap, Snapshot
from tests.conftest import Gate, Run
from tests.support import ambient_builders as build
from tests.support.builders import HTTP, expecting, istiod, snapshot, waiting
from tests.support.mtls_builders import declared_pair, service
from tests.support.webhook_builders import namespace

Changes = dict[str, Any]
Record = Callable[[Snapshot], Path]

# what a new pod's events say on the lab: Istio 1.31.0
NO_ZTUNNEL = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for "
    'sandbox "5f1": plugin type="istio-cni" name="istio-cni" failed (add): unable to push CNI '
    "event (status code 500): no ztunnel connection"
)


def without(name: str) -> tuple[Pod, ...]:
    return tuple(each for each in build.PODS if not each.metadata.name.startswith(name))


def new_pod() -> Pod:
    containers = [waiting("app", "ContainerCreating")]
    return build.app(
        "new-1",
        phase="Pending",
        ready=False,
        ip="",
        annotations=Annotations(),
        containers=containers,
    )


def ztunnel_is_gone() -> Changes:
    return {"pods": without("ztunnel"), "daemon_sets": build.DAEMON_SETS[:1]}


def the_cni_agent_is_gone() -> Changes:
    return {"pods": without("istio-cni"), "daemon_sets": build.DAEMON_SETS[1:]}


def a_new_pod_is_stuck() -> Changes:
    event = build.sandbox_event("new-1", NO_ZTUNNEL)
    return {"pods": (*build.PODS, new_pod()), "sandbox_events": (event,)}


def never_captured() -> Changes:
    bare = build.app(annotations=Annotations())
    index = build.index(build.workload(tunnel_protocol=""))
    return {"pods": (*build.PODS[:-1], bare), "ambient_index": (index,)}


def ambient_is_disabled() -> Changes:
    return {"ambient_index": (AmbientReading(pod="istiod-1"),)}


def istiod_sends_no_hbone() -> Changes:
    return {"ambient_index": (build.index(build.workload(tunnel_protocol="")),)}


def istiod_sends_clients_past_the_waypoint() -> Changes:
    shop = namespace("shop", **build.AMBIENT, **{"istio.io/use-waypoint": "waypoint"})
    gateway = ApiGateway(
        metadata=Metadata(
            name="waypoint", namespace="shop", labels={"istio.io/waypoint-for": "workload"}
        ),
        spec=GatewaySpec(gateway_class_name="istio-waypoint"),
    )
    return {"namespaces": (shop, namespace("istio-system")), "api_gateways": (gateway,)}


def a_ztunnel_follows_another_istiod() -> Changes:
    ztunnel = build.agent("ztunnel-1", annotations=Annotations(revision="canary"))
    replicas = (istiod(), istiod("istiod-canary-1", revision="canary"))
    others = (build.CNI_AGENT, build.waypoint(), build.app())
    canary = msgspec.structs.replace(build.connected(), pod="istiod-canary-1", proxies=())
    index = build.index(pod="istiod-canary-1")
    return {
        "pods": (*replicas, ztunnel, *others),
        "istiod": (build.connected(), canary),
        "ambient_index": (build.index(), index),
    }


def a_ztunnel_rejects() -> Changes:
    rejecting = build.sync("ztunnel-1.istio-system", "ztunnel", error="invalid address")
    reading = build.connected()
    return {"istiod": (msgspec.structs.replace(reading, proxies=(rejecting, reading.proxies[1])),)}


FAILED = [
    (ztunnel_is_gone, "CP027", "Node node-1: has 1 pod in ambient mode and no Ready ztunnel"),
    (
        the_cni_agent_is_gone,
        "CP027",
        "Node node-1: has 1 pod in ambient mode and no Ready istio-cni",
    ),
    (a_new_pod_is_stuck, "CP027", "Pod shop/new-1: cannot start on node node-1: plugin type="),
    (
        never_captured,
        "CP027",
        "Pod shop/web-1: is in ambient mode by its labels, but the CNI agent",
    ),
    (ambient_is_disabled, "CP025", "Pod istio-system/istiod-1: ambient mode is disabled in istiod"),
    (istiod_sends_no_hbone, "CP025", "Pod shop/web-1: istiod makes clients connect to it in plain"),
    (
        istiod_sends_clients_past_the_waypoint,
        "CP025",
        "Pod shop/web-1: istiod makes clients use no waypoint, although its labels select shop/wa",
    ),
    (a_ztunnel_follows_another_istiod, "CP026", "Pod istio-system/ztunnel-1: is connected to Pod"),
    (a_ztunnel_rejects, "CP004", "Pod istio-system/ztunnel-1: rejected its Address"),
]


def old_agents() -> Changes:
    names = ("istio-cni-node", "ztunnel")
    return {"daemon_sets": tuple(build.daemon_set(name, "1.28.2") for name in names)}


def a_pod_is_not_served() -> Changes:
    return {"ztunnels": (ZtunnelReading(pod="istio-system/ztunnel-1", active=0),)}


def an_agent_is_too_old() -> Changes:
    return {"daemon_sets": (build.daemon_set("istio-cni-node", "1.27.9"), build.DAEMON_SETS[1])}


BEFORE = [
    (an_agent_is_too_old, "PC015", "DaemonSet istio-system/istio-cni-node: is of version 1.27.9"),
    (ztunnel_is_gone, "PC016", "Node node-1: has 1 pod in ambient mode and no Ready ztunnel"),
    (never_captured, "PC016", "Pod shop/web-1: is in ambient mode by its labels, but the CNI"),
    (a_new_pod_is_stuck, "PC016", "Pod shop/new-1: cannot start on node node-1: plugin type="),
]

AFTER_THE_AGENTS = [
    (the_cni_agent_is_gone, "AM001", "Node node-1: has 1 pod in ambient mode and no Ready istio-c"),
    (old_agents, "AM001", "DaemonSet istio-system/istio-cni-node: is of version 1.28.2"),
    (never_captured, "AM002", "Pod shop/web-1: is in ambient mode by its labels, but the CNI"),
    (a_new_pod_is_stuck, "AM002", "Pod shop/new-1: cannot start on node node-1: plugin type="),
    (ztunnel_is_gone, "AM003", "Node node-1: has 1 pod in ambient mode and no Ready ztunnel"),
    (a_pod_is_not_served, "AM004", "Pod istio-system/ztunnel-1: serves 0 of 1 captured pod"),
]


@pytest.fixture
def stage_b(gate: Gate, recorded: Record) -> Callable[..., Run]:
    """Runs the checks of stage B about proxies on a mesh in ambient mode with these changes."""

    def run(**changes: Any) -> Run:
        file = recorded(snapshot(**{**build.HEALTHY, **changes}))
        checks = "--check=CP003,CP004,CP005,CP016,CP025,CP026,CP027"
        return gate("-m", "controlplane", f"--snapshot={file}", checks)

    return run


@pytest.fixture
def agents(gate: Gate, recorded: Record) -> Callable[..., Run]:
    """Runs the stage `ambient` on a mesh in ambient mode with these changes."""

    def run(*words: str, **changes: Any) -> Run:
        file = recorded(snapshot(**{**build.HEALTHY, **changes}))
        return gate("-m", "ambient", f"--snapshot={file}", *words)

    return run


def failures(run: Run) -> list[str]:
    return [line for line in run.verdict if line.startswith(("FAIL ", "UNKNOWN "))]


def test_a_healthy_mesh_opens_the_gate(stage_b: Callable[..., Run]) -> None:
    run = stage_b()

    assert run.code == 0, run.out


@pytest.mark.parametrize(
    ("change", "check", "words"), FAILED, ids=[change.__name__ for change, _, _ in FAILED]
)
def test_one_thing_broken_closes_the_gate(
    change: Callable[[], Changes], check: str, words: str, stage_b: Callable[..., Run]
) -> None:
    run = stage_b(**change())

    assert run.code == 1, run.out
    assert failures(run)[0].startswith(f"FAIL {check} {words}"), run.out


@pytest.mark.parametrize(
    ("item", "checks"),
    [("ambient_index", ["CP025"]), ("sandbox_events", ["CP016", "CP027"])],
)
def test_what_could_not_be_read_is_unknown(
    item: str, checks: list[str], stage_b: Callable[..., Run]
) -> None:
    healthy = snapshot(**build.HEALTHY)
    read = tuple(each for each in healthy.read if each != item)

    run = stage_b(read=read, gaps=(Gap(item=item, why="no right to it"),))

    assert run.code == 10, run.out
    assert [line.split()[1] for line in failures(run)] == checks


# --- before the upgrade -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check", "words"),
    BEFORE,
    ids=[f"{check} {change.__name__}" for change, check, _ in BEFORE],
)
def test_one_thing_broken_closes_the_gate_before_the_upgrade(
    change: Callable[[], Changes], check: str, words: str, gate: Gate, recorded: Record
) -> None:
    file = recorded(snapshot(**{**build.HEALTHY, **change()}))

    run = gate("-m", "precheck", f"--snapshot={file}", "--check=PC015,PC016")

    assert run.code == 1, run.out
    assert failures(run)[0].startswith(f"FAIL {check} {words}"), run.out


# --- after istio-cni and ztunnel ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check", "words"),
    AFTER_THE_AGENTS,
    ids=[f"{check} {change.__name__}" for change, check, _ in AFTER_THE_AGENTS],
)
def test_one_thing_broken_closes_the_gate_after_the_agents(
    change: Callable[[], Changes], check: str, words: str, agents: Callable[..., Run]
) -> None:
    run = agents(**change())

    assert run.code == 1, run.out
    assert failures(run)[0].startswith(f"FAIL {check} {words}"), run.out


def test_the_healthy_mesh_opens_the_gate_after_the_agents(agents: Callable[..., Run]) -> None:
    old_ztunnel = (build.daemon_set("istio-cni-node"), build.daemon_set("ztunnel", "1.28.2"))

    assert agents().code == 0
    # after istio-cni ztunnel is still the old one
    assert agents("--check=AM001,AM002", daemon_sets=old_ztunnel).code == 0
    assert agents(daemon_sets=old_ztunnel).code == 1


def test_a_ztunnel_that_does_not_report_is_unknown(agents: Callable[..., Run]) -> None:
    silent = ZtunnelReading(pod="istio-system/ztunnel-1", error="timed out")

    run = agents(ztunnels=(silent,))

    assert run.code == 10, run.out
    assert [line.split()[1] for line in failures(run)] == ["AM004"]


# --- declared pairs -----------------------------------------------------------------------------


@pytest.fixture
def pairs(gate: Gate, recorded: Record) -> Callable[..., Run]:
    """Runs DP017 on a recorded answer to a pair for a Service in ambient mode."""

    def run(expect: str, *answers: PairAnswer, **service: Any) -> Run:
        web = build.app(labels={"app": "web"}, ports=(HTTP,))
        changes = {
            **build.HEALTHY,
            "pods": (*build.PODS[:-2], build.waypoint(ip="10.0.0.8"), web),
            "services": (web_service(**service),),
            "pair_answers": PairAnswers(
                answers=answers, waypoints=(PairWaypoint(name="shop/waypoint", admits=("shop",)),)
            ),
            **expecting(pairs=(declared_pair(expect=expect),)),
        }
        file = recorded(snapshot(**changes))
        return gate("-m", "dataplane", f"--snapshot={file}", "--check=DP017")

    return run


def web_service(**labels: str) -> Service:
    found = service()
    return msgspec.structs.replace(
        found,
        metadata=msgspec.structs.replace(found.metadata, labels=labels),
        spec=msgspec.structs.replace(found.spec, cluster_ips=("10.96.0.9",)),
    )


USING = {"istio.io/use-waypoint": "waypoint"}


def tunneled(end: str, connect: int, status: int = 0, *, waypoint: bool = False) -> PairAnswer:
    return PairAnswer(
        request=declared_pair().key,
        pod="shop/waypoint-1" if waypoint else "shop/web-1",
        end=end,
        status=status,
        authority="10.96.0.9:80" if waypoint else "10.0.0.9:8080",
        connect=connect,
    )


def test_declared_answers_of_ztunnel_and_of_a_waypoint_open_the_gate(
    pairs: Callable[..., Run],
) -> None:
    assert pairs("200", tunneled("answered", 200, 200)).code == 0
    assert pairs("denied", tunneled("denied", 401)).code == 0
    assert pairs("200", tunneled("answered", 200, 200, waypoint=True), **USING).code == 0
    assert pairs("denied", tunneled("denied", 200, 403, waypoint=True), **USING).code == 0


def test_other_answers_of_ztunnel_and_of_a_waypoint_close_the_gate(
    pairs: Callable[..., Run],
) -> None:
    at_ztunnel = pairs("200", tunneled("denied", 401))
    assert at_ztunnel.code == 1, at_ztunnel.out
    assert failures(at_ztunnel)[0].startswith(
        "FAIL DP017 Pod shop/web-1: denies by an AuthorizationPolicy (CONNECT is answered 401)"
    ), at_ztunnel.out

    at_waypoint = pairs("denied", tunneled("answered", 200, 200, waypoint=True), **USING)
    assert at_waypoint.code == 1, at_waypoint.out
    assert failures(at_waypoint)[0].startswith(
        "FAIL DP017 Pod shop/waypoint-1: answers 200 by the application to the request of"
    ), at_waypoint.out


def test_answers_that_took_no_waypoint_are_unknown(pairs: Callable[..., Run]) -> None:
    run = pairs("200", tunneled("answered", 200, 200), **USING)

    assert run.code == 10, run.out
    assert failures(run)[0].startswith("UNKNOWN DP017 "), run.out


def test_a_mesh_of_sidecars(gate: Gate, recorded: Record) -> None:
    file = recorded(snapshot())
    stages = ("-m", "ambient or controlplane", "--check=AM*,CP003")

    alone = gate("-m", "ambient", f"--snapshot={file}")
    among_others = gate(*stages, f"--snapshot={file}")

    assert alone.code == 10, alone.out
    assert "GATE CLOSED: no check produced evidence" in alone.out
    assert among_others.code == 0, among_others.out
