"""EnvoyFilters at the target: what stops applying is told, what takes over is not."""

import pytest

from meshgate.facts.mesh import Mesh
from meshgate.snapshot.istio import ConfigPatch
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.builders import expecting, mesh, reading, sync
from tests.upgrade_builders import patch, patched


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
    assert f"its proxyVersion {pattern} matches what runs now and not 1.29.1" in found.seen


@pytest.mark.parametrize("pattern", ["", r"^1\..*", r"^1\.(28|29)", r"^1\.29", r"^1\.20", "1.2"])
def test_one_that_goes_on_or_never_did_is_not(pattern: str) -> None:
    assert upgraded(patch(pattern)).envoy_filters.lost == []


def test_one_that_is_taken_over_from_is_not() -> None:
    assert upgraded(patch(r"^1\.28"), patch(r"^1\.29")).envoy_filters.lost == []


@pytest.mark.parametrize(
    "pattern",
    ["(", "^1[[:punct:]]28", r"\Q1.28\E", r"^1\.28\z", "(?!1)", r"(1)\1", "1(?=.28)", "1++"],
)
def test_what_cannot_be_evaluated_is_named_and_no_pass(pattern: str) -> None:
    with pytest.raises(CouldNotVerify, match="EnvoyFilter shop/lua: its proxyVersion"):
        upgraded(patch(pattern)).envoy_filters.lost  # noqa: B018


def test_deprecated_names_and_missing_types_are_warned_of() -> None:
    seen = upgraded(patch(name="envoy.lua"), patch(typed=False), patch()).envoy_filters

    assert [each.seen for each in seen.fragile] == [
        "names the filter envoy.lua, which is deprecated",
        "puts in the filter envoy.filters.http.lua without a typed_config",
    ]


def test_without_filters_there_is_nothing_to_say() -> None:
    with pytest.raises(NotApplicable):
        mesh(envoy_filters=()).envoy_filters.lost  # noqa: B018
