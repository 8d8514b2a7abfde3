"""Ztunnels and waypoints: the istiod that each is connected to."""

from typing import Any

import pytest

from meshgate.snapshot.kubernetes import Annotations
from meshgate.verdict import NotApplicable
from tests.support import ambient_builders as build
from tests.support.builders import istiod, mesh, reading


def disconnected(**changes: Any) -> list[str]:
    return [str(each) for each in build.ambient_mesh(**changes).ambient_proxies.disconnected]


def test_a_healthy_mesh() -> None:
    assert disconnected() == []
    assert len(build.ambient_mesh().ambient_proxies.all) == 2


def test_a_mesh_of_sidecars() -> None:
    with pytest.raises(NotApplicable, match="no ztunnel and no waypoint"):
        _ = mesh().ambient_proxies.disconnected


def test_a_ztunnel_without_a_version_is_connected() -> None:
    assert disconnected(istiod=(build.connected(ztunnel=""),)) == []


def test_a_ztunnel_that_lost_istiod() -> None:
    only = reading(proxies=[build.sync("waypoint-1.shop", "waypoint")])

    (finding,) = disconnected(istiod=(only,))

    assert finding.startswith("Pod istio-system/ztunnel-1: its proxy is running but not connected")


def test_an_istiod_of_another_revision() -> None:
    replicas = (istiod(), istiod("istiod-canary-1", revision="canary"))
    ztunnel = build.agent("ztunnel-1", annotations=Annotations(revision="canary"))
    pods = (*replicas, build.CNI_AGENT, ztunnel, build.waypoint(), build.app())
    readings = (build.connected(), reading("istiod-canary-1"))

    (finding,) = disconnected(pods=pods, istiod=readings)

    assert finding.startswith(
        "Pod istio-system/ztunnel-1: is connected to Pod istio-system/istiod-1, an istiod of "
        "revision default (expected an istiod of revision canary)"
    )


def test_a_tag_is_not_a_revision() -> None:
    ztunnel = build.agent("ztunnel-1", annotations=Annotations(revision="stable"))
    pods = (istiod(), build.CNI_AGENT, ztunnel, build.waypoint(), build.app())

    assert disconnected(pods=pods) == []
