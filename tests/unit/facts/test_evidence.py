"""Evidence: what was not read is never taken for nothing there."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshgate.facts.evidence import Evidence
from meshgate.facts.mesh import Mesh
from meshgate.snapshot.items import ITEMS, OFFLINE_BUNDLE
from meshgate.snapshot.model import Gap, Undecodable
from meshgate.verdict import CouldNotVerify
from tests.support import ambient_builders
from tests.support.builders import envoy_filter, snapshot, without

FACTS: dict[str, tuple[Callable[[Mesh], Any], set[str]]] = {
    "unfinished_rollouts": (
        lambda mesh: mesh.control_plane.unfinished_rollouts,
        {"deployments", "pods", "istiod"},
    ),
    "silent_replicas": (lambda mesh: mesh.control_plane.silent_replicas, {"pods", "istiod"}),
    "disconnected": (lambda mesh: mesh.proxies.disconnected, {"pods", "istiod"}),
    "rejections": (lambda mesh: mesh.proxies.rejections, {"pods", "istiod"}),
    "stale": (lambda mesh: mesh.proxies.stale, {"pods", "istiod"}),
    "errors": (lambda mesh: mesh.analysis.errors, {"analysis"}),
    "warnings": (lambda mesh: mesh.analysis.warnings, {"analysis"}),
}

# what a claim may rest on
CLAIMED = ITEMS - {OFFLINE_BUNDLE}

NEEDS = [(name, item) for name, (_, items) in FACTS.items() for item in sorted(items)]


@pytest.mark.parametrize("item", sorted(CLAIMED))
def test_an_item_that_was_read_is_given(item: str) -> None:
    whole = snapshot()

    assert getattr(Evidence(whole), item) == getattr(whole, item)


@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.parametrize("item", sorted(CLAIMED))
def test_a_gap_is_raised_with_its_own_reason(item: str, transient: bool) -> None:
    evidence = Evidence(without(item, why="the dog ate it", transient=transient))

    with pytest.raises(CouldNotVerify) as raised:
        getattr(evidence, item)

    assert (raised.value.why, raised.value.remedy) == ("the dog ate it", "grant it")
    assert raised.value.transient is transient


def test_an_object_that_cannot_be_decoded_is_one_finding_and_the_others_are_used() -> None:
    odd = Undecodable(
        kind="envoyfilters.networking.istio.io",
        name="shop/odd",
        field="spec.configPatches[0].patch.value.name",
        why="Expected `str`, got `int`",
    )
    gap = Gap(item="envoy_filters", why="cannot decode shop/odd", objects=(odd,))
    read = tuple(ITEMS - {"envoy_filters"})
    evidence = Evidence(snapshot(envoy_filters=(envoy_filter("lua"),), gaps=(gap,), read=read))

    (finding,) = evidence.undecodable(["pods", "envoy_filters"])

    assert len(evidence.envoy_filters) == 1
    assert finding.subject == "EnvoyFilter shop/odd"
    assert "Expected `str`, got `int`" in finding.seen
    assert evidence.undecodable(["pods"]) == []


@pytest.mark.parametrize("item", sorted(CLAIMED))
def test_an_item_that_was_not_requested_is_missing(item: str) -> None:
    # a mesh in ambient mode needs every item
    used = ambient_builders.HEALTHY
    evidence = Evidence(snapshot(**used, read=tuple(ITEMS - {item})))

    with pytest.raises(CouldNotVerify, match=f"has no {item.replace('_', ' ')}") as raised:
        getattr(evidence, item)

    assert not raised.value.transient


def test_an_analysis_that_was_read_and_is_not_there_is_missing() -> None:
    with pytest.raises(CouldNotVerify, match="has no analysis"):
        _ = Evidence(snapshot(analysis=None)).analysis


@pytest.mark.parametrize(("fact", "item"), NEEDS)
def test_no_fact_is_good_without_what_it_rests_on(fact: str, item: str) -> None:
    take, _ = FACTS[fact]

    assert take(Mesh(snapshot())) == []
    with pytest.raises(CouldNotVerify, match="no right to it"):
        take(Mesh(without(item)))


def test_an_empty_snapshot_proves_nothing() -> None:
    empty = msgspec.structs.replace(snapshot(), read=())

    for take, _ in FACTS.values():
        with pytest.raises(CouldNotVerify):
            take(Mesh(empty))
