"""The control plane: is the rollout whole, of the right version, and does every replica answer?"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.mesh import Mesh
from meshgate.facts.overview import control_plane_summary, overview
from meshgate.snapshot.kubernetes import Deployment, Pod
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable
from tests.support.builders import (
    deployment,
    expecting,
    istiod,
    mesh,
    pod,
    reading,
    sidecar,
    snapshot,
    sync,
    waiting,
)

ISTIOD = "Deployment istio-system/istiod"


def control_plane(**changes: object) -> ControlPlane:
    """The control plane of a mesh that is healthy but for these changes."""
    return mesh(**changes).control_plane


def only(findings: list[Finding]) -> Finding:
    """The one finding."""
    (finding,) = findings
    return finding


# --- the rollout --------------------------------------------------------------------------------


def test_a_whole_rollout_of_the_images_version_is_no_finding() -> None:
    assert control_plane().unfinished_rollouts == []


def test_two_revisions_that_are_both_whole_are_no_finding() -> None:
    canary = control_plane(
        deployments=(
            deployment(),
            deployment(name="istiod-1-30", revision="1-30", image="x/pilot:1.30.0"),
        ),
        pods=(istiod(), istiod("istiod-1-30-1", revision="1-30")),
        istiod=(reading(), reading("istiod-1-30-1", version="1.30.0-abc-Clean")),
    )

    assert canary.unfinished_rollouts == []


def test_no_istiod_at_all_is_a_finding() -> None:
    finding = only(control_plane(deployments=()).unfinished_rollouts)

    assert finding.subject == "Namespace istio-system"
    assert "--istio-namespace" in finding.remedy
    assert not finding.transient


def test_an_istiod_of_another_namespace_is_not_this_meshes() -> None:
    elsewhere = expecting(istio_namespace="mesh-b")

    finding = only(control_plane(**elsewhere).unfinished_rollouts)

    assert finding.subject == "Namespace mesh-b"


@pytest.mark.parametrize(
    ("rollout", "seen", "transient"),
    [
        pytest.param(deployment(0), "is scaled to 0 replicas", False, id="zero"),
        pytest.param(deployment(paused=True), "its rollout is paused", False, id="paused"),
        pytest.param(
            deployment(2, updated=1),
            "is not rolled out: 1 of 2 replicas updated",
            True,
            id="not updated",
        ),
        pytest.param(
            deployment(2, available=1), "2 of 2 replicas updated, 1 available", True, id="away"
        ),
        pytest.param(deployment(1, existing=2), "1 available, 2 exist", True, id="old one left"),
        pytest.param(deployment(generation=2), "1 of 1 replicas", True, id="not observed"),
        pytest.param(deployment(2, updated=1, gave_up=True), "1 of 2", False, id="gave up"),
    ],
)
def test_a_rollout_that_is_not_whole_is_a_finding(
    rollout: Deployment, seen: str, transient: bool
) -> None:
    finding = only(control_plane(deployments=(rollout,)).unfinished_rollouts)

    assert finding.subject == ISTIOD
    assert seen in finding.seen
    assert finding.transient is transient


def test_a_paused_rollout_that_is_not_whole_never_heals() -> None:
    findings = control_plane(deployments=(deployment(2, updated=1, paused=True),))

    assert [each.transient for each in findings.unfinished_rollouts] == [False, False]


def test_an_image_that_cannot_be_pulled_is_told_in_place_of_the_rollout() -> None:
    stuck = istiod(
        "istiod-2",
        discovery=waiting("discovery", "ImagePullBackOff", "no such image"),
        ready=False,
        phase="Pending",
    )

    finding = only(
        control_plane(
            deployments=(deployment(1, updated=1, existing=2, available=1, observed=0),),
            pods=(istiod(), stuck),
        ).unfinished_rollouts
    )

    assert finding.subject == "Pod istio-system/istiod-2"
    assert finding.seen == "container discovery is in ImagePullBackOff (no such image)"
    assert "image" in finding.remedy
    assert not finding.transient


def test_a_pod_of_another_revision_does_not_spoil_this_one() -> None:
    stuck = istiod(
        "istiod-canary-1",
        revision="canary",
        discovery=waiting("discovery", "ImagePullBackOff"),
        ready=False,
    )

    assert control_plane(pods=(istiod(), stuck)).unfinished_rollouts == []


# --- its version --------------------------------------------------------------------------------


def test_a_replica_of_another_version_than_its_image_is_a_finding() -> None:
    finding = only(control_plane(istiod=(reading(version="1.28.2-abc-Clean"),)).unfinished_rollouts)

    assert finding.subject == "Pod istio-system/istiod-1"
    assert (finding.seen, finding.expected) == (
        "runs istiod 1.28.2",
        "1.29.1, the version of the image in Deployment istio-system/istiod",
    )
    assert not finding.transient


@pytest.mark.parametrize(
    "image", ["x/pilot:1.29.1", "x/pilot@sha256:0a1b", "x/pilot:latest", "x:5000/pilot"]
)
def test_the_version_that_was_asked_for_counts_before_the_images(image: str) -> None:
    of = {"deployments": (deployment(image=image),)}

    finding = only(control_plane(**of, **expecting(target_version="1.30.0")).unfinished_rollouts)

    assert (finding.seen, finding.expected) == ("runs istiod 1.29.1", "1.30.0")
    assert control_plane(**of, **expecting(target_version="1.29.1")).unfinished_rollouts == []


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.test:5000/istio/pilot:1.29.1-distroless",
        "pilot:1.29.1@sha256:1f28",
        "registry.example.test/1.27.0/pilot:1.29.1",
    ],
)
def test_the_images_version_is_its_tags(image: str) -> None:
    of = {"deployments": (deployment(image=image),)}

    assert control_plane(**of).unfinished_rollouts == []
    assert control_plane(**of, istiod=(reading(version="1.28.2"),)).unfinished_rollouts


@pytest.mark.parametrize("image", ["x/pilot@sha256:1f28", "x/pilot:latest", "x.test:1528/pilot"])
def test_an_image_that_names_no_version_is_held_against_nothing(image: str) -> None:
    assert control_plane(deployments=(deployment(image=image),)).unfinished_rollouts == []


def test_a_target_that_is_no_version_proves_nothing() -> None:
    with pytest.raises(CouldNotVerify, match="'latest' is not a version"):
        _ = control_plane(**expecting(target_version="latest")).unfinished_rollouts


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param((reading(version=""),), id="says no version"),
        pytest.param((reading(error="no answer"),), id="does not answer"),
        pytest.param((), id="was not asked"),
    ],
)
def test_a_version_that_nobody_said_is_not_the_right_one(readings: tuple[object, ...]) -> None:
    silent = control_plane(istiod=readings)

    with pytest.raises(CouldNotVerify, match="istiod-1 did not report its version") as raised:
        _ = silent.unfinished_rollouts

    assert raised.value.transient


def test_a_deployment_without_a_pod_proves_no_version() -> None:
    with pytest.raises(CouldNotVerify, match="has no pod that could report"):
        _ = control_plane(pods=(istiod(revision="other"),)).unfinished_rollouts


def test_a_wrong_version_is_told_even_where_another_replica_is_silent() -> None:
    two = control_plane(
        deployments=(deployment(2),),
        pods=(istiod(), istiod("istiod-2")),
        istiod=(reading(error="no answer"), reading("istiod-2", version="1.28.2")),
    )

    assert only(two.unfinished_rollouts).subject == "Pod istio-system/istiod-2"


def test_what_is_wrong_with_the_rollout_is_told_where_nobody_says_a_version() -> None:
    two = control_plane(deployments=(deployment(2, available=1),), istiod=(reading(error="no"),))

    assert only(two.unfinished_rollouts).subject == ISTIOD


def canary(
    *, old: str = "1.28.2", new: str = "1.29.1", target: str = "1.29.1", **changes: object
) -> ControlPlane:
    """Two revisions, as a canary upgrade has them: each runs the version of its image."""
    two = {
        "deployments": (
            deployment(name="istiod-old", revision="old", image=f"x/pilot:{old}"),
            deployment(name="istiod-new", revision="new", image=f"x/pilot:{new}"),
        ),
        "pods": (istiod("istiod-old-1", revision="old"), istiod("istiod-new-1", revision="new")),
        "istiod": (
            reading("istiod-old-1", version=f"{old}-abc-Clean"),
            reading("istiod-new-1", version=f"{new}-abc-Clean"),
        ),
    }
    return control_plane(**{**two, **expecting(target_version=target), **changes})


@pytest.mark.parametrize("target", ["1.29.1", "1.29"])
def test_an_old_revision_beside_one_of_the_target_version_is_reported_and_no_failure(
    target: str,
) -> None:
    both = canary(target=target)

    assert both.unfinished_rollouts == []
    kept = only(both.kept)
    assert kept.subject == "Deployment istio-system/istiod-old"
    assert kept.seen == f"still runs 1.28.2, beside the target version {target}"


def test_without_a_revision_of_the_target_version_every_one_is_wrong() -> None:
    findings = canary(target="1.30.0").unfinished_rollouts

    assert [each.subject for each in findings] == [
        "Pod istio-system/istiod-new-1",
        "Pod istio-system/istiod-old-1",
    ]
    assert canary(target="1.30.0").kept == []


def test_a_replica_of_an_old_revision_still_runs_the_version_of_its_image() -> None:
    mixed = canary(istiod=(reading("istiod-old-1", version="1.27.0"), reading("istiod-new-1")))

    finding = only(mixed.unfinished_rollouts)
    assert (finding.subject, finding.seen) == (
        "Pod istio-system/istiod-old-1",
        "runs istiod 1.27.0",
    )


def test_the_new_revision_must_run_the_target_and_not_only_name_it() -> None:
    stuck = canary(
        istiod=(
            reading("istiod-old-1", version="1.28.2"),
            reading("istiod-new-1", version="1.28.2"),
        )
    )

    assert only(stuck.unfinished_rollouts).subject == "Pod istio-system/istiod-new-1"


def test_an_image_without_a_version_is_of_the_version_that_its_replicas_report() -> None:
    digests = (
        deployment(name="istiod-old", revision="old", image="x/pilot@sha256:0a"),
        deployment(name="istiod-new", revision="new", image="x/pilot@sha256:0b"),
    )

    assert canary(deployments=digests).unfinished_rollouts == []
    assert len(canary(deployments=digests, target="1.30.0").unfinished_rollouts) == 2


def test_an_old_revision_that_is_scaled_to_zero_is_being_removed() -> None:
    parked = canary(
        deployments=(
            deployment(0, name="istiod-old", revision="old", image="x/pilot:1.28.2"),
            deployment(name="istiod-new", revision="new"),
        ),
        pods=(istiod("istiod-new-1", revision="new"),),
    )

    assert parked.unfinished_rollouts == []


def test_replicas_of_an_image_without_a_version_must_agree() -> None:
    mixed = control_plane(
        deployments=(deployment(2, image="x/pilot@sha256:0a"),),
        pods=(istiod(), istiod("istiod-2")),
        istiod=(reading(), reading("istiod-2", version="1.28.2")),
    )

    finding = only(mixed.unfinished_rollouts)
    assert finding.seen == "its replicas report different versions: 1.28.2, 1.29.1"


@pytest.mark.parametrize(
    ("tag", "runs", "wrong"),
    [
        ("v2.3.1-istio1.29.1", "1.29.1", 0),
        ("v2.3.1-istio1.29.1", "1.28.2", 1),
        ("v2.3.1", "1.29.1", 0),
    ],
)
def test_the_tag_of_a_private_build_is_not_guessed(tag: str, runs: str, wrong: int) -> None:
    private = control_plane(
        deployments=(deployment(image=f"registry.corp/mesh/pilot:{tag}"),),
        istiod=(reading(version=runs),),
    )

    assert len(private.unfinished_rollouts) == wrong


# --- its replicas -------------------------------------------------------------------------------


def test_replicas_that_are_ready_and_answer_are_no_finding() -> None:
    assert control_plane().silent_replicas == []


@pytest.mark.parametrize("transient", [True, False])
def test_no_replica_is_a_finding_that_heals_where_one_is_wanted(transient: bool) -> None:
    empty = control_plane(pods=(), deployments=(deployment(1 if transient else 0),))

    finding = only(empty.silent_replicas)

    assert (finding.subject, finding.seen) == ("Namespace istio-system", "has no istiod pod")
    assert finding.transient is transient


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "ImagePullBackOff"])
def test_a_replica_that_is_not_ready_is_a_finding(reason: str) -> None:
    broken = istiod(discovery=waiting("discovery", reason), ready=False)

    finding = only(control_plane(pods=(broken,)).silent_replicas)

    assert (finding.seen, finding.expected) == (f"container discovery is in {reason}", "Ready")
    assert "describe pod istiod-1" in finding.remedy
    assert finding.transient is (reason == "CrashLoopBackOff")


@pytest.mark.parametrize(
    ("readings", "seen"),
    [
        ((reading(error="no answer: timed out"),), "does not answer: no answer: timed out"),
        ((), "is Ready but does not answer"),
        ((reading("another"),), "is Ready but does not answer"),
    ],
)
def test_a_replica_that_is_ready_and_does_not_answer_is_a_finding(
    readings: tuple[object, ...], seen: str
) -> None:
    finding = only(control_plane(istiod=readings).silent_replicas)

    assert finding.subject == "Pod istio-system/istiod-1"
    assert finding.seen.endswith(seen)
    assert finding.transient


@pytest.mark.parametrize(
    "leaving",
    [
        istiod("istiod-0", deleted=True, ready=False),
        istiod("istiod-0", phase="Failed", ready=False),
        istiod("istiod-0", phase="Succeeded", ready=False),
        istiod("istiod-0", namespace="elsewhere", ready=False),
        pod("other", "istio-system", ready=False),
    ],
    ids=["deleted", "evicted", "ended", "of another namespace", "no istiod"],
)
def test_pods_that_are_no_replicas_any_more_do_not_count(leaving: Pod) -> None:
    assert control_plane(pods=(leaving, istiod())).silent_replicas == []


@pytest.mark.parametrize("fact", ["silent_replicas", "unfinished_rollouts", "answers"])
def test_a_replica_that_refuses_us_leaves_nothing_verified(fact: str) -> None:
    refused = control_plane(istiod=(reading(denied="istiod does not accept our token (401)."),))

    with pytest.raises(CouldNotVerify, match=r"Pod istio-system/istiod-1: .* our token") as raised:
        getattr(refused, fact)

    assert not raised.value.transient


# --- their answers ------------------------------------------------------------------------------


def test_the_answers_are_those_of_all_replicas() -> None:
    readings = (reading(proxies=[sync()]), reading("istiod-2"))
    both = control_plane(pods=(istiod(), istiod("istiod-2")), istiod=readings)

    assert both.answers == list(readings)


@pytest.mark.parametrize(
    ("second", "readings", "why", "transient"),
    [
        (istiod("istiod-2"), (reading(),), "did not report which proxies", True),
        (
            istiod("istiod-2"),
            (reading(), reading("istiod-2", error="timed out")),
            "timed out",
            True,
        ),
        (
            istiod("istiod-2", discovery=waiting("discovery", "ErrImagePull"), ready=False),
            (reading(),),
            "is in ErrImagePull",
            False,
        ),
    ],
    ids=["not asked", "silent", "image"],
)
def test_with_one_replica_missing_nothing_follows_from_the_rest(
    second: Pod, readings: tuple[object, ...], why: str, transient: bool
) -> None:
    with pytest.raises(CouldNotVerify, match=f"istiod-2 .*{why}") as raised:
        _ = control_plane(pods=(istiod(), second), istiod=readings).answers

    assert raised.value.transient is transient


@pytest.mark.parametrize("starting", [True, False])
def test_without_a_replica_that_runs_there_is_nobody_to_ask(starting: bool) -> None:
    pods = (istiod(phase="Pending", ready=False),) if starting else ()

    with pytest.raises(CouldNotVerify, match=r"no istiod .*istio-system") as raised:
        _ = control_plane(pods=pods, istiod=()).answers

    assert raised.value.transient is starting


def test_a_replica_that_does_not_run_yet_is_not_waited_for() -> None:
    starting = istiod("istiod-2", phase="Pending", ready=False)

    assert control_plane(pods=(istiod(), starting)).answers == [reading(proxies=[sync()])]


def test_the_order_of_what_was_read_changes_nothing() -> None:
    whole = snapshot(
        deployments=(deployment(name="b"), deployment(name="a")),
        pods=(istiod("istiod-2"), istiod()),
    )
    turned = msgspec.structs.replace(
        whole, deployments=whole.deployments[::-1], pods=whole.pods[::-1]
    )

    one, other = Mesh(whole).control_plane, Mesh(turned).control_plane

    assert one.deployments == other.deployments
    assert one.replicas == other.replicas


# --- external control plane ----------------------------------------------------------------------

EXTERNAL: dict[str, Any] = {"pods": (sidecar(),), "deployments": (), "istiod": ()}
ACCEPTED = expecting(accepted_unverified=("istiod",))


def test_a_control_plane_outside_the_cluster_can_be_accepted() -> None:
    facts = mesh(**EXTERNAL, **ACCEPTED)

    looks: tuple[Callable[[], object], ...] = (
        lambda: facts.control_plane.unfinished_rollouts,
        lambda: facts.control_plane.silent_replicas,
        lambda: facts.proxies.disconnected,
        lambda: facts.revisions.dangling,
        lambda: facts.numbers.push_errors,
    )
    for look in looks:
        with pytest.raises(NotApplicable, match="accept-unverified=istiod"):
            look()


def test_reports_have_no_summary_of_an_external_control_plane() -> None:
    evidence = mesh(**EXTERNAL, **ACCEPTED).evidence

    assert overview(evidence) is None
    assert control_plane_summary(evidence).versions == ""


def test_a_missing_istiod_is_not_accepted_by_itself() -> None:
    (finding,) = mesh(**EXTERNAL).control_plane.unfinished_rollouts

    assert finding.problem == "no-istiod"
    assert "--accept-unverified=istiod" in finding.remedy


def test_accepting_an_external_control_plane_excuses_no_istiod_that_is_here() -> None:
    broken = deployment(updated=0, available=0)

    assert mesh(deployments=(broken,), **ACCEPTED).control_plane.unfinished_rollouts
