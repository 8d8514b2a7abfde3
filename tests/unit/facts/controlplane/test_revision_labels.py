"""Configuration with the label istio.io/rev: which istiod reads it."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.controlplane.revision_labels import RevisionLabels
from meshgate.snapshot.istio import EnvoyFilter, PeerAuthentication
from meshgate.snapshot.kubernetes import LabelSelector, Metadata
from meshgate.verdict import NotApplicable
from tests.support import builders
from tests.support import webhook_builders as build

OLD, NEW = "1-28-2", "1-29-1"
OF_OLD = builders.deployment(
    name="istiod-old", revision=OLD, image="example.test/istio/pilot:1.28.2"
)
OF_NEW = builders.deployment(name="istiod-new", revision=NEW)
BOTH = (builders.istiod("istiod-old-1", revision=OLD), builders.istiod("istiod-1", revision=NEW))


def labeled(
    revision: str = "", namespace: str = "shop", name: str = "strict"
) -> PeerAuthentication:
    """A PeerAuthentication for one revision."""
    labels = {"istio.io/rev": revision} if revision else {}
    return PeerAuthentication(metadata=Metadata(name=name, namespace=namespace, labels=labels))


def labels(**items: Any) -> RevisionLabels:
    return builders.mesh(**{**build.HEALTHY, **items}).revisions.labels


def upgrading(*policies: PeerAuthentication, **items: Any) -> RevisionLabels:
    """A canary upgrade: the old revision beside the new one, which is of the target version."""
    return labels(
        **{
            "deployments": (OF_OLD, OF_NEW),
            "pods": BOTH,
            "peer_authentications": policies,
            **builders.expecting(target_version=builders.VERSION),
            **items,
        }
    )


def test_an_object_for_a_revision_without_an_istiod_is_read_by_none() -> None:
    (found,) = labels(peer_authentications=(labeled(OLD),)).unread

    assert found.subject == "PeerAuthentication shop/strict"
    assert found.seen == (
        "its label istio.io/rev=1-28-2 selects revision 1-28-2, which has no istiod: no istiod "
        "reads it"
    )
    assert found.remedy == "kubectl -n shop label peerauthentication strict istio.io/rev-"


def test_a_tag_selects_no_istiod() -> None:
    tag = build.injector(
        "istio-revision-tag-prod",
        revision="default",
        tag="prod",
        selects=LabelSelector(match_labels={"istio.io/rev": "prod"}),
    )
    hooks = (build.injector(), tag)

    (found,) = labels(mutating_webhooks=hooks, peer_authentications=(labeled("prod"),)).unread

    assert "prod is a tag (of revision default): no istiod reads it" in found.seen


@pytest.mark.parametrize("revision", ["", "default"])
def test_an_object_that_the_only_istiod_reads_is_fine(revision: str) -> None:
    found = labels(peer_authentications=(labeled(revision),))

    assert (found.unread, found.unread_patches) == ([], [])


def test_pods_lose_an_object_of_the_old_revision_when_they_move() -> None:
    (found,) = upgrading(labeled(OLD)).unread

    assert found.seen == (
        "its label istio.io/rev=1-28-2 hides it from revision 1-29-1, to which its pods move"
    )


@pytest.mark.parametrize(
    "policies",
    [
        (labeled(NEW),),
        (labeled(OLD), labeled(NEW, name="strict-1-29-1")),
        (labeled(),),
    ],
)
def test_each_revision_may_have_its_own_objects(policies: tuple[PeerAuthentication, ...]) -> None:
    assert upgrading(*policies).unread == []


def test_an_object_of_another_namespace_is_no_replacement() -> None:
    (found,) = upgrading(labeled(OLD), labeled(NEW, namespace="bank")).unread

    assert found.subject == "PeerAuthentication shop/strict"


def test_without_a_target_each_revision_is_meant_to_stay() -> None:
    assert upgrading(labeled(OLD), **builders.expecting()).unread == []


def test_a_patch_may_be_for_one_release() -> None:
    metadata = labeled(OLD).metadata
    found = upgrading(envoy_filters=(EnvoyFilter(metadata=metadata),))

    assert found.unread == []
    assert [each.subject for each in found.unread_patches] == ["EnvoyFilter shop/strict"]


def test_objects_of_another_mesh_in_the_cluster_are_not_ours() -> None:
    other = builders.istiod("istiod-2", namespace="istio-b", revision="b")
    pods = (builders.istiod(), other)

    assert labels(pods=pods, peer_authentications=(labeled("b"),)).objects == []


def test_an_external_control_plane_may_have_any_revision() -> None:
    external = labels(
        pods=(builders.sidecar(),),
        deployments=(),
        peer_authentications=(labeled(OLD),),
        **builders.expecting(accepted_unverified=("istiod",)),
    )

    with pytest.raises(NotApplicable):
        _ = external.unread


def test_the_label_is_the_identity_of_the_problem() -> None:
    policy = labeled(OLD)
    renamed = msgspec.structs.replace(policy.metadata, name="other")
    found = labels(
        peer_authentications=(policy, PeerAuthentication(metadata=renamed)),
    ).unread

    assert [dict(each.about) for each in found] == [{"revision": OLD}] * 2
