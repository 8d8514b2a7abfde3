"""Workloads whose pods do not exist or are not available."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.kubernetes import (
    Annotations,
    Condition,
    Container,
    ContainerState,
    Controller,
    ControllerSpec,
    ControllerStatus,
    Deployment,
    Event,
    InvolvedObject,
    Job,
    JobSpec,
    JobStatus,
    Metadata,
    Owner,
    Pod,
    PodSpec,
    PodTemplate,
    TemplateMetadata,
    Terminated,
)
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.builders import (
    AT,
    deployment,
    istiod,
    mesh,
    pod,
    running,
    sidecar,
    waiting,
)
from tests.support.webhook_builders import namespace

REFUSAL = (
    'admission webhook "namespace.sidecar-injector.istio.io" denied the request: invalid '
    "annotations"
)


def web(*conditions: Condition, namespace: str = "shop", **status: Any) -> Deployment:
    made = deployment(**{"replicas": 2, "name": "web", "namespace": namespace, **status})
    whole = msgspec.structs.replace(made.status, conditions=(*made.status.conditions, *conditions))
    return msgspec.structs.replace(made, status=whole)


def failure(message: str = REFUSAL) -> Condition:
    return Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message=message)


def missing(*deployments: Deployment, **changes: Any) -> list[Finding]:
    found = {"deployments": (deployment(), *deployments), "pods": (istiod(),), **changes}
    return mesh(**found).workload_pods.missing


def controller(kind: str, **status: int) -> dict[str, Any]:
    made = Controller(
        metadata=Metadata(name="cache", namespace="shop"),
        spec=ControllerSpec(replicas=2),
        status=ControllerStatus(**status) if status else None,
    )
    return {kind: (made,)}


# --- Deployments --------------------------------------------------------------------------------


def test_pods_that_exist() -> None:
    assert missing(web()) == []
    assert missing(web(replicas=0, available=0)) == []
    # one pod less is a rollout, or a node that is drained
    assert missing(web(available=1)) == []


@pytest.mark.parametrize("available", [0, 2], ids=["no pods", "the old pods go on"])
def test_pods_that_the_injector_refuses(available: int) -> None:
    """B3 and B4: the reason is only in the conditions, and no pod looks unhealthy."""
    (finding,) = missing(web(failure(), updated=0, available=available))

    assert finding.subject == "Deployment shop/web"
    assert "invalid annotations" in finding.seen
    assert finding.problem == "pods-not-created"
    assert not finding.transient


def test_a_quota_may_become_free() -> None:
    (finding,) = missing(web(failure('pods "web-x" is forbidden: exceeded quota: team')))

    assert finding.transient


def test_no_pod_is_available() -> None:
    broken = pod(
        "web-1",
        containers=[waiting("app", "ImagePullBackOff")],
        ready=False,
        phase="Pending",
        labels={"pod-template-hash": "1"},
        owner=Owner(kind="ReplicaSet", name="web-1", controller=True),
    )

    (finding,) = missing(web(available=0), pods=(istiod(), broken))

    assert "none of 2 pods is available: Pod shop/web-1" in finding.seen
    assert "ImagePullBackOff" in finding.seen
    assert not finding.transient
    (starting,) = missing(web(available=0))
    assert starting.transient


def test_a_rollout_that_gave_up() -> None:
    (finding,) = missing(web(updated=1, gave_up=True))

    assert "its rollout is stuck: 1 of 2 pods are updated" in finding.seen
    assert not finding.transient
    assert missing(web(updated=1)) == []


# --- StatefulSets and DaemonSets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("stateful_sets", {"replicas": 1, "available_replicas": 1}, "1 of 2 pods exist"),
        ("stateful_sets", {"replicas": 2}, "none of 2 pods is available"),
        (
            "daemon_sets",
            {"desired_number_scheduled": 3, "current_number_scheduled": 2, "number_available": 2},
            "2 of 3 pods exist",
        ),
        (
            "daemon_sets",
            {"desired_number_scheduled": 3, "current_number_scheduled": 3},
            "none of 3 pods is available",
        ),
    ],
)
def test_a_controller_without_pods(kind: str, status: dict[str, int], words: str) -> None:
    (finding,) = missing(**controller(kind, **status))

    assert words in finding.seen
    assert finding.transient


def test_a_controller_with_its_pods() -> None:
    assert missing(**controller("stateful_sets", replicas=2, available_replicas=2)) == []


def test_a_controller_of_an_earlier_snapshot() -> None:
    owned = pod("cache-0", owner=Owner(kind="StatefulSet", name="cache", controller=True))

    assert missing(pods=(istiod(), owned), **controller("stateful_sets")) == []
    with pytest.raises(CouldNotVerify, match="StatefulSet shop/cache has no pods"):
        missing(**controller("stateful_sets"))


# --- which workloads ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exempt",
    [
        web(failure(), namespace="legacy"),
        web(failure(), namespace="kube-system"),
        msgspec.structs.replace(
            web(failure()),
            spec=msgspec.structs.replace(
                web().spec,
                template=msgspec.structs.replace(
                    web().spec.template,
                    metadata=TemplateMetadata(annotations=Annotations(inject="false")),
                ),
            ),
        ),
    ],
    ids=["not enrolled", "ignored", "opted out"],
)
def test_a_workload_outside_the_mesh(exempt: Deployment) -> None:
    namespaces = (
        namespace("shop", injection="enabled"),
        namespace("legacy"),
        namespace("kube-system", injection="enabled"),
    )
    with pytest.raises(NotApplicable):
        missing(exempt, namespaces=namespaces)


@pytest.mark.parametrize(
    ("revision", "labels", "counts"),
    [("mesh-b", {}, False), ("", {"istio.io/rev": "mesh-b"}, False), ("default", {}, True)],
)
def test_a_gateway_of_another_mesh(revision: str, labels: dict[str, str], counts: bool) -> None:
    """Its own template has the proxy, so no webhook shows whose it is."""
    made = web(available=0, namespace="edge")
    template = PodTemplate(
        metadata=TemplateMetadata(labels={"istio.io/rev": revision} if revision else {}),
        spec=PodSpec(containers=(Container(name="istio-proxy", image="auto"),)),
    )
    gateway = msgspec.structs.replace(
        made, spec=msgspec.structs.replace(made.spec, template=template)
    )
    other = istiod("b-1", namespace="istio-system-b", revision="mesh-b")
    namespaces = (namespace("edge", **labels), namespace(injection="enabled"))

    found = missing(web(), gateway, pods=(istiod(), other), namespaces=namespaces)

    assert bool(found) is counts


def test_a_workload_in_ambient_mode() -> None:
    ambient = namespace("shop", **{"istio.io/dataplane-mode": "ambient"})

    assert missing(web(failure()), namespaces=(ambient,))


# --- Events -------------------------------------------------------------------------------------

POD_SECURITY = 'pods "cache-0" is forbidden: violates PodSecurity "baseline:latest"'


def event(kind: str, name: str, message: str, minute: int = 0) -> Event:
    """An Event about a pod that could not be created."""
    return Event(
        metadata=Metadata(name="an-event", namespace="shop"),
        involved_object=InvolvedObject(kind=kind, namespace="shop", name=name),
        message=message,
        last_timestamp=AT.replace(minute=minute),
    )


@pytest.mark.parametrize(
    ("item", "kind", "status"),
    [
        ("stateful_sets", "StatefulSet", {"replicas": 1}),
        ("daemon_sets", "DaemonSet", {"desired_number_scheduled": 2}),
    ],
)
def test_the_newest_event_says_why_pods_do_not_exist(
    item: str, kind: str, status: dict[str, int]
) -> None:
    events = (
        event(kind, "cache", POD_SECURITY, minute=9),
        event(kind, "cache", "exceeded quota", minute=1),
        event("Job", "cache", "another object"),
    )

    (finding,) = missing(**controller(item, **status), creation_events=events)

    assert finding.seen.endswith(f"pods exist: {POD_SECURITY}")
    assert not finding.transient


def job(*conditions: str, **more: Any) -> Job:
    """A Job of the mesh."""
    ended = tuple(Condition(type=each, status="True") for each in conditions)
    return Job(
        metadata=Metadata(name="export", namespace="shop"),
        spec=JobSpec(suspend=more.pop("suspend", False)),
        status=JobStatus(conditions=ended, **more),
    )


def test_a_job_whose_pod_is_refused() -> None:
    refused = (event("Job", "export", POD_SECURITY),)

    (finding,) = missing(jobs=(job(),), creation_events=refused)

    assert (finding.subject, finding.problem) == ("Job shop/export", "pods-not-created")
    for other in (job("Complete"), job("Failed"), job(suspend=True), job(active=1)):
        assert missing(jobs=(other,), creation_events=refused) == []
    assert missing(jobs=(job(),)) == []


def created(name: str, kind: str, owner: str, minute: int, **of: Any) -> Pod:
    """A pod of a workload, created at this minute."""
    made = pod(name, owner=Owner(kind=kind, name=owner, controller=True), **of)
    metadata = msgspec.structs.replace(made.metadata, creation_timestamp=AT.replace(minute=minute))
    return msgspec.structs.replace(made, metadata=metadata)


@pytest.mark.parametrize(("minute", "counts"), [(3, True), (9, False)])
def test_a_pod_that_was_created_after_a_refusal(minute: int, counts: bool) -> None:
    """The refusal was resolved: a Job waits before it tries again, others replace pod by pod."""
    failed = created("export-1", "Job", "export", minute, phase="Failed")
    events = (event("Job", "export", POD_SECURITY, minute=5),)
    found = missing(jobs=(job(),), creation_events=events, pods=(istiod(), failed))
    assert bool(found) is counts

    replaced = created("cache-1", "StatefulSet", "cache", minute)
    events = (event("StatefulSet", "cache", POD_SECURITY, minute=5),)
    changes = {"creation_events": events, "pods": (istiod(), replaced)}
    rolling = controller("stateful_sets", replicas=2, available_replicas=1)
    assert bool(missing(**rolling, **changes)) is counts
    (finding,) = missing(**controller("stateful_sets", replicas=1), **changes)
    assert finding.transient is not counts


# --- proxies that are killed --------------------------------------------------------------------


def with_ended_proxy(reason: str, *, count: int = 1, minutes: int = 10, **of: Any) -> list[Finding]:
    """Findings about a sidecar that runs again after it ended."""
    ended = Terminated(reason=reason, exit_code=137, finished_at=AT - timedelta(minutes=minutes))
    proxy = msgspec.structs.replace(
        running("istio-proxy"), restart_count=count, last_state=ContainerState(terminated=ended)
    )
    owner = Owner(kind="ReplicaSet", name="web-5d4f", controller=True)
    labels = {"pod-template-hash": "5d4f"}
    made = sidecar("web-5d4f-x", proxy=proxy, owner=owner, labels=labels, **of)
    return missing(web(), pods=(istiod(), made))


@pytest.mark.parametrize("native", [False, True])
def test_a_proxy_that_was_killed_for_its_memory(native: bool) -> None:
    (found,) = with_ended_proxy("OOMKilled", native=native)

    assert (found.subject, found.owner) == ("Pod shop/web-5d4f-x", "Deployment shop/web")
    assert found.seen == (
        "its proxy was killed because it reached its memory limit (OOMKilled, 1 restart)"
    )
    assert found.remedy.endswith("proxyMemoryLimit in the template of Deployment shop/web")
    assert not found.transient


def test_a_proxy_that_keeps_restarting() -> None:
    (found,) = with_ended_proxy("Error", count=3)

    assert found.seen == ("its proxy keeps restarting: 3 times, the last time with exit code 137")


@pytest.mark.parametrize(
    "ended",
    [
        {"reason": "OOMKilled", "minutes": 90},
        {"reason": "Error", "count": 2},
        {"reason": "Error", "count": 9, "minutes": 90},
        {"reason": "OOMKilled", "deleted": True},
        {"reason": "Unknown", "count": 4},  # its node restarted
    ],
)
def test_an_old_or_single_restart_says_nothing_about_the_upgrade(ended: dict[str, Any]) -> None:
    assert with_ended_proxy(**ended) == []
