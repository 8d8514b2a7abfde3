"""EnvoyFilters at the target: those that stop applying are findings."""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.istio import ConfigPatch
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support.builders import expecting, mesh, reading, sync
from tests.support.upgrade_builders import patch, patched


def upgraded(*patches: ConfigPatch) -> Mesh:
    """1.28.2 on its way to 1.29.1, with one EnvoyFilter."""
    answer = reading(version="1.28.2", proxies=[sync(version="1.28.2")])
    return mesh(
        istiod=(answer,), envoy_filters=(patched(*patches),), **expecting(target_version="1.29.1")
    )


@pytest.mark.parametrize("pattern", [r"^1\.28.*", r"1\.28", "1.28.2", r"^1\.2[0-8]\."])
def test_a_pattern_that_stops_matching_is_told(pattern: str) -> None:
    (found,) = upgraded(patch(pattern)).envoy_filters.lost

    assert found.subject == "EnvoyFilter shop/lua"
    assert f"its proxyVersion {pattern} matches the running proxies and not 1.29.1" in found.seen


@pytest.mark.parametrize("pattern", ["", r"^1\..*", r"^1\.(28|29)", r"^1\.29", r"^1\.20", "1.2"])
def test_one_that_goes_on_or_never_did_is_not(pattern: str) -> None:
    assert upgraded(patch(pattern)).envoy_filters.lost == []


def test_one_that_is_taken_over_from_is_not() -> None:
    assert upgraded(patch(r"^1\.28"), patch(r"^1\.29")).envoy_filters.lost == []


@pytest.mark.parametrize("pattern", ["(", "(?!1)", r"(1)\1", "1(?=.28)", "1++"])
def test_an_invalid_pattern_is_unknown(pattern: str) -> None:
    with pytest.raises(CouldNotVerify, match="EnvoyFilter shop/lua: its proxyVersion"):
        upgraded(patch(pattern)).envoy_filters.lost  # noqa: B018


@pytest.mark.parametrize("pattern", [r"^1[[:punct:]]28", r"\Q1.28\E", r"^1\.28\.2\z", r"(?U)1.28"])
def test_patterns_are_read_as_go_reads_them(pattern: str) -> None:
    assert len(upgraded(patch(pattern)).envoy_filters.lost) == 1


def test_a_nested_repetition_takes_no_time() -> None:
    assert upgraded(patch(r"^(([0-9.]+)+)+$x")).envoy_filters.lost == []


def test_a_target_without_a_patch_stands_for_all_its_patches() -> None:
    def seen(pattern: str) -> Mesh:
        return mesh(
            istiod=(reading(version="1.28.2", proxies=[sync(version="1.28.2")]),),
            envoy_filters=(patched(patch(pattern)),),
            **expecting(target_version="1.29"),
        )

    assert seen(r"^1\.2").envoy_filters.lost == []
    assert len(seen(r"^1\.28").envoy_filters.lost) == 1
    with pytest.raises(CouldNotVerify, match=r"matches some patches of 1\.29"):
        seen(r"^1\.(28\.2|29\.1)$").envoy_filters.lost  # noqa: B018


def test_deprecated_names_and_missing_types_are_warned_of() -> None:
    seen = upgraded(patch(name="envoy.lua"), patch(typed=False), patch()).envoy_filters

    assert [each.seen for each in seen.fragile] == [
        "uses the deprecated filter name envoy.lua",
        "inserts the filter envoy.filters.http.lua without a typed_config",
    ]


def test_without_filters_there_is_nothing_to_say() -> None:
    with pytest.raises(NotApplicable):
        mesh(envoy_filters=()).envoy_filters.lost  # noqa: B018
