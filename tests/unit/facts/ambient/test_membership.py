"""What belongs to ambient mode, and what every report says when it is accepted unverified."""

from typing import Any

import pytest

from meshgate.facts.ambient.membership import AmbientMesh
from meshgate.facts.mesh import notes_about
from meshgate.facts.unverified import Unverified
from tests.support import ambient_builders as build
from tests.support.builders import expecting, istiod, mesh, pod, running, sidecar
from tests.support.webhook_builders import namespace

ACCEPTED = expecting(accepted_unverified=("ambient",))


def ambient(**changes: Any) -> AmbientMesh:
    return AmbientMesh(mesh(**changes).evidence)


def test_a_mesh_of_sidecars_is_not_in_ambient_mode() -> None:
    assert not ambient().is_used


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pods": (istiod(), build.app())}, "Pod shop/web-1"),
        ({"pods": (istiod(), build.waypoint())}, "Pod shop/waypoint-1"),
        (
            {"pods": (istiod(), build.app(), build.app("web-2", "news"), build.waypoint())},
            "2 pods (namespaces news, shop) and Pod shop/waypoint-1",
        ),
        ({"namespaces": (build.SHOP,), "pods": (istiod(),)}, "Namespace shop"),
        (
            {"namespaces": tuple(namespace(name, **build.AMBIENT) for name in "abcd")},
            "namespaces a, b, c and others",
        ),
    ],
)
def test_what_is_in_ambient_mode(changes: dict[str, Any], words: str) -> None:
    found = ambient(**changes)

    assert found.is_used
    assert found.words == words


def test_a_label_counts_before_the_agent_captures_the_pod() -> None:
    bare = pod("web-1", containers=[running("app")])

    assert ambient(namespaces=(build.SHOP,), pods=(istiod(), bare)).pods == [bare]


@pytest.mark.parametrize(
    "other",
    [
        sidecar(),
        pod("on-the-node", containers=[running("app")], host_network=True),
        pod("opted-out", containers=[running("app")], labels={"istio.io/dataplane-mode": "none"}),
        build.app(deleted=True),
        build.app(phase="Succeeded"),
    ],
    ids=["sidecar", "host network", "opted out", "leaving", "finished"],
)
def test_pods_that_no_agent_captures(other: Any) -> None:
    assert not ambient(namespaces=(build.SHOP,), pods=(istiod(), other)).pods


def test_every_report_mentions_what_was_accepted() -> None:
    pods = (istiod(), build.app())

    assert Unverified(mesh(pods=pods).evidence).note == ""
    assert Unverified(mesh(**ACCEPTED).evidence).note == ""
    (note,) = notes_about(mesh(pods=pods, **ACCEPTED), ["pods"])
    assert "--accept-unverified=ambient" in note
    assert "Pod shop/web-1" in note
