"""Which mesh and which cluster an object belongs to, and what its mesh config says."""

import pytest

from meshgate.semantics.meshes import OwnMesh, local_clusters
from meshgate.snapshot.injector import InjectorConfig
from meshgate.snapshot.kubernetes import Annotations, LabelSelector
from tests.support.builders import istiod, reading, sidecar, sync
from tests.support.webhook_builders import namespace

OURS, THEIRS = istiod(), istiod("istiod-b", namespace="istio-system-b")
WATCHING = InjectorConfig(
    revision="default", discovery=(LabelSelector(match_labels={"mesh": "a"}),)
)
SPACES = (namespace("shop", mesh="a"), namespace("team-b", mesh="b"))


def test_what_is_not_configured_has_istios_default() -> None:
    own = OwnMesh((OURS,), "istio-system")

    assert (own.root_namespace, own.trust_domain) == ("istio-system", "cluster.local")
    assert (own.cluster_domain, own.cluster_id) == ("cluster.local", "")
    assert not own.scoped_gateways
    assert not own.is_configured


def test_the_revision_default_decides_where_revisions_differ() -> None:
    configs = (
        InjectorConfig(revision="1-29-1", trust_domain="canary", root_namespace="other"),
        InjectorConfig(revision="default", trust_domain="corp"),
    )
    own = OwnMesh((OURS,), "istio-system", configs)

    assert (own.trust_domain, own.root_namespace) == ("corp", "other")


@pytest.mark.parametrize(("space", "foreign"), [("team-b", True), ("shop", False)])
def test_two_meshes_of_one_revision_are_told_apart_by_what_they_watch(
    space: str, foreign: bool
) -> None:
    own = OwnMesh((OURS, THEIRS), "istio-system", (WATCHING,), SPACES)

    assert own.is_foreign(sidecar("web-1", space)) == foreign
    assert own.watches(space) != foreign


def test_without_a_second_istiod_every_proxy_is_our_own() -> None:
    own = OwnMesh((OURS,), "istio-system", (WATCHING,), SPACES)

    assert not own.is_foreign(sidecar("web-1", "team-b"))


def test_a_revision_that_only_another_istiod_serves_is_foreign() -> None:
    other = istiod("istiod-b", namespace="istio-system-b", revision="b")
    own = OwnMesh((OURS, other), "istio-system")
    pod = sidecar("web-1", "team-b", annotations=Annotations(revision="b"))

    assert own.is_foreign(pod)
    assert own.own((pod, sidecar())) == [sidecar()]


@pytest.mark.parametrize(
    ("revision", "space", "ours"),
    [
        ("default", "istio-system", True),
        ("default", "istio-system-b", False),
        ("b", "", False),
        ("default", "", True),
    ],
)
def test_a_webhook_belongs_to_the_mesh_whose_istiod_it_calls(
    revision: str, space: str, ours: bool
) -> None:
    other = istiod("istiod-c", namespace="istio-system-c", revision="b")
    own = OwnMesh((OURS, THEIRS, other), "istio-system")

    assert own.serves(revision, space) == ours


def test_the_root_namespace_is_watched_whatever_its_labels_are() -> None:
    spaces = (*SPACES, namespace("istio-system"))

    assert OwnMesh((OURS,), "istio-system", (WATCHING,), spaces).watches("istio-system")


def test_istiods_environment_decides_which_cluster_this_is() -> None:
    pod = sidecar("web-1")
    pods = {"web-1.shop": pod}
    far = sync("web-1.shop", version="1.29.1")
    readings = [reading(proxies=[far])]

    assert local_clusters(readings, pods, "east") == {"east"}
    assert local_clusters(readings, pods) == {far.cluster_id}
