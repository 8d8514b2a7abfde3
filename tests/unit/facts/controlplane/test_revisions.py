"""Revisions: what labels and tags ask for, and what is there."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.mesh import Mesh
from meshgate.semantics.workloads import injected_revision
from meshgate.snapshot.kubernetes import Annotations, LabelSelector, Pod
from meshgate.verdict import Finding, NotApplicable
from tests.support import builders
from tests.support import webhook_builders as build

PROD = LabelSelector(match_labels={"istio.io/rev": "prod"})


def mesh(**changes: Any) -> Mesh:
    return builders.mesh(**{**build.HEALTHY, **changes})


def of(revision: str, pod: Pod | None = None) -> Pod:
    """A pod whose proxy is of a revision."""
    pod = pod or builders.sidecar()
    noted = msgspec.structs.replace(pod.metadata, annotations=Annotations(revision=revision))
    return msgspec.structs.replace(pod, metadata=noted)


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def tagged(revision: str) -> dict[str, Any]:
    """A namespace that follows the tag prod."""
    tag = build.injector("istio-revision-tag-prod", revision=revision, tag="prod", selects=PROD)
    return {
        "mutating_webhooks": (build.injector(), tag),
        "namespaces": (build.namespace(rev="prod"),),
    }


def test_a_healthy_mesh_has_no_finding() -> None:
    revisions = mesh(pods=(builders.istiod(), of("default"))).revisions

    assert revisions.dangling == []
    assert revisions.lagging == []


def test_a_tag_and_a_namespace_that_lead_to_a_revision_that_is_gone() -> None:
    found = told(mesh(**tagged("1-28")).revisions.dangling)

    assert "istio-revision-tag-prod: tag prod points to revision 1-28, which has no istiod" in found
    assert "Namespace shop: its label selects revision 1-28 through tag prod" in found


def test_a_proxy_of_a_revision_that_is_gone() -> None:
    (found,) = mesh(pods=(of("1-28"),)).revisions.dangling

    assert found.subject == "Pod shop/web-1"
    assert "belongs to revision 1-28" in found.seen


def test_pods_that_are_finished_or_leaving_do_not_count() -> None:
    gone = of("1-28", builders.sidecar(phase="Succeeded"))
    leaving = of("1-28", builders.sidecar(deleted=True))

    assert mesh(pods=(gone, leaving)).revisions.dangling == []


def test_pods_that_a_restart_would_move_are_counted_by_namespace() -> None:
    pods = tuple(of("default", builders.sidecar(f"web-{number}")) for number in (2, 1))
    deployments = (builders.deployment(), builders.deployment(name="istiod-b", revision="b"))

    revisions = mesh(**tagged("b"), deployments=deployments, pods=pods).revisions

    assert revisions.dangling == []
    assert told(revisions.lagging).startswith(
        "Namespace shop: 2 pods run a proxy of revision default, for example web-1; their labels "
        "select revision b"
    )


def test_nothing_of_istio_s_is_not_applicable() -> None:
    bare = mesh(namespaces=(), mutating_webhooks=(), pods=(builders.istiod(),))

    with pytest.raises(NotApplicable):
        _ = bare.revisions.dangling


@pytest.mark.parametrize(
    ("annotations", "revision"),
    [
        (Annotations(revision="a", injection_status='{"revision": "b"}'), "a"),
        (Annotations(injection_status='{"revision": "b"}'), "b"),
        (Annotations(injection_status="{"), ""),
        (Annotations(), ""),
    ],
)
def test_the_revision_that_a_pod_has(annotations: Annotations, revision: str) -> None:
    pod = builders.sidecar()
    noted = msgspec.structs.replace(pod.metadata, annotations=annotations)

    assert injected_revision(msgspec.structs.replace(pod, metadata=noted)) == revision


def test_a_namespace_with_both_labels_is_told_which_one_counts() -> None:
    both = mesh(namespaces=(build.namespace(injection="enabled", rev="prod"),)).revisions

    (finding,) = both.contradicting
    assert finding.subject == "Namespace shop"
    assert (
        "istio-injection=enabled and istio.io/rev=prod: istio.io/rev has no effect" in finding.seen
    )


def test_a_namespace_with_one_label_contradicts_nothing() -> None:
    one = (build.namespace(injection="enabled"), build.namespace("bank", rev="prod"))

    assert mesh(namespaces=one).revisions.contradicting == []


def test_who_uses_a_revision_is_told() -> None:
    users = mesh(
        **tagged("1-28"),
        pods=(builders.istiod(), of("1-28", builders.sidecar("web-0")), of("default")),
    ).revisions.users

    assert "Namespace shop" in users["1-28"]
    assert any("(tag prod)" in each for each in users["1-28"])
    assert "Pod shop/web-0" in users["1-28"]
    assert "Pod shop/web-1" in users["default"]


def test_a_second_mesh_of_the_cluster_is_not_judged() -> None:
    by_label = LabelSelector(match_labels={"istio.io/rev": "mesh-b"})
    theirs = of("mesh-b", builders.sidecar("theirs", "team-b"))
    istiod = builders.istiod("b-1", namespace="istio-system-b", revision="mesh-b")
    two = {
        "namespaces": (
            build.namespace(injection="enabled"),
            build.namespace("team-b", rev="mesh-b"),
        ),
        "mutating_webhooks": (
            build.injector(),
            build.injector("b", revision="mesh-b", selects=by_label),
        ),
    }

    assert mesh(**two, pods=(builders.istiod(), theirs, istiod)).revisions.dangling == []
    # without that mesh's istiod both lead to nothing
    found = told(mesh(**two, pods=(builders.istiod(), theirs)).revisions.dangling)
    assert "Namespace team-b" in found
    assert "Pod team-b/theirs" in found


def test_the_proxies_of_other_clusters_use_a_revision_too() -> None:
    far = msgspec.structs.replace(builders.sync("cache-0.shop"), cluster_id="remote-eu")
    known = (builders.reading(proxies=[builders.sync(), far]),)

    users = mesh(pods=(builders.istiod(), of("default")), istiod=known).revisions.users

    assert "Proxy cache-0.shop (cluster remote-eu)" in users["default"]


def test_a_finding_outlives_its_pod() -> None:
    (one,) = mesh(pods=(of("1-28"),)).revisions.dangling

    assert one.problem == "pod-without-istiod"
    assert one.about == (("revision", "1-28"),)
