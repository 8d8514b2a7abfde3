"""How two istiods differ: by name and by meaning, and without a secret."""

from typing import Any

import pytest

from meshgate.semantics.config_diff import changes, resources


def http(*filters: str, **fields: Any) -> dict[tuple[str, str], Any]:
    """A listener with these filters."""
    chain = {"filters": [{"name": name} for name in filters], **fields}
    return {("listener", "in"): {"name": "in", "filterChains": [{"name": "main", **chain}]}}


def test_the_resources_of_a_dump_are_found_and_secrets_are_not() -> None:
    dump = {
        "configs": [
            {"dynamicActiveClusters": [{"cluster": {"name": "a"}}]},
            {"dynamicListeners": [{"name": "l", "activeState": {"listener": {"name": "l"}}}, {}]},
            {"dynamicRouteConfigs": [{"routeConfig": {"name": "80"}}]},
            {"dynamicActiveSecrets": [{"name": "s", "secret": {"name": "s"}}]},
        ]
    }

    assert set(resources(dump)) == {("cluster", "a"), ("listener", "l"), ("route", "80")}


def test_what_is_the_same_is_no_change() -> None:
    assert changes(http("a", "b"), http("a", "b"), {}) == ()


def test_an_entry_more_shifts_no_other() -> None:
    (one,) = changes(http("a", "b"), http("new", "a", "b"), {})

    assert (one.kind, one.path) == ("added", "/filterChains[main]/filters[new]")


def test_what_is_gone_is_told_with_who_brought_it() -> None:
    (one,) = changes(http("lua", "b"), http("b"), {"lua": "EnvoyFilter shop/lua"})

    assert (one.kind, one.path) == ("removed", "/filterChains[main]/filters[lua]")
    assert one.brought_by == "EnvoyFilter shop/lua"


def test_another_order_is_a_change() -> None:
    (one,) = changes(http("a", "b", "c"), http("a", "c", "b"), {"c": "EnvoyFilter shop/c"})

    assert (one.kind, one.path) == ("reordered", "/filterChains[main]/filters")
    assert one.brought_by == "EnvoyFilter shop/c"


def test_a_whole_resource_may_come_and_go() -> None:
    found = changes({("cluster", "a"): {"name": "a"}}, {("cluster", "b"): {"name": "b"}}, {})

    assert [(one.kind, one.resource, one.path) for one in found] == [
        ("removed", "a", ""),
        ("added", "b", ""),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7"),
        (True, "true"),
        ("15s", "15s"),
        ("ROUND_ROBIN", "ROUND_ROBIN"),
        ("Bearer abc", "(text of 10)"),
        ({"password": "x"}, "(1 fields)"),
        (["x"], "(1 entries)"),
    ],
)
def test_no_text_is_shown_that_may_be_a_secret(value: Any, shown: str) -> None:
    (one,) = changes(http("a", x=None), http("a", x=value), {})

    assert one.after == shown
