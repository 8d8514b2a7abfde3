"""The items: what each row says, and what follows from it."""

from typing import get_type_hints

import pytest

from meshgate.collect.readers import reader
from meshgate.snapshot.items import (
    ISTIOD,
    ITEMS,
    KINDS,
    SOURCES,
    Items,
    closure,
    expand,
    requires,
)
from meshgate.snapshot.sources import GROUPS


def test_a_source_brings_what_it_requires() -> None:
    assert closure({ISTIOD}) == {ISTIOD, "pods"}
    assert closure({"analysis"}) == {"analysis"}
    assert closure({"retry_filters"}) == {"retry_filters", "istiod", "namespaces", "pods"}
    assert closure(ITEMS) == ITEMS
    assert closure(()) == frozenset()


def test_a_group_stands_for_its_items() -> None:
    assert expand(["@webhooks", "pods"]) == (*GROUPS["webhooks"], "pods")
    assert expand(["pods", "@running"])[:2] == ("pods", "namespaces")
    assert closure({"@routing"}) == set(expand(GROUPS["routing"]))


@pytest.mark.parametrize("name", ["secrets", "@secrets", "routing", "@@routing", ""])
def test_an_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="unknown item"):
        closure({"pods", name})


@pytest.mark.parametrize("item", sorted(SOURCES))
def test_a_source_names_existing_items_and_never_waits_for_itself(item: str) -> None:
    assert set(expand(SOURCES[item].after)) <= SOURCES.keys()
    assert all(item not in closure([each]) for each in (*requires(item), *SOURCES[item].after))


@pytest.mark.parametrize("item", sorted(SOURCES))
def test_a_reader_returns_what_its_item_is(item: str) -> None:
    returned = get_type_hints(reader(SOURCES[item]))["return"]

    assert returned == get_type_hints(Items)[item]


def test_every_item_is_a_list_or_a_source() -> None:
    assert KINDS.keys() | SOURCES.keys() == ITEMS
    assert not KINDS.keys() & SOURCES.keys()


@pytest.mark.parametrize(
    ("item", "path", "right"),
    [
        ("pods", "/api/v1/pods", "list pods"),
        ("deployments", "/apis/apps/v1/deployments", "list deployments.apps"),
        (
            "envoy_filters",
            "/apis/networking.istio.io/v1alpha3/envoyfilters",
            "list envoyfilters.networking.istio.io",
        ),
    ],
)
def test_a_kind_has_a_path_and_a_right(item: str, path: str, right: str) -> None:
    assert (KINDS[item].path, KINDS[item].right) == (path, right)
