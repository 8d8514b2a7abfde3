"""What can be read, and what one thing requires of another."""

import pytest

from meshgate.collect.plan import ANALYSIS, ISTIOD, ITEMS, KINDS, REQUIRES, closure


def test_a_source_brings_what_it_requires() -> None:
    assert closure({ISTIOD}) == {ISTIOD, "pods"}
    assert closure({ANALYSIS}) == {ANALYSIS}
    assert closure(ITEMS) == ITEMS
    assert closure(()) == frozenset()


def test_a_name_that_is_no_item_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no such item: secrets, tokens"):
        closure({"tokens", "pods", "secrets"})


def test_what_is_required_is_read_however_far_it_goes() -> None:
    for item, required in REQUIRES.items():
        assert item in ITEMS
        read = closure([item])
        assert read >= {item, *required}
        # and nothing waits for itself
        assert all(item not in closure([each]) for each in required)
    assert closure(["retry_filters"]) == {"retry_filters", "istiod", "pods"}


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
def test_a_kind_says_its_path_and_the_right_to_it(item: str, path: str, right: str) -> None:
    assert (KINDS[item].path, KINDS[item].right) == (path, right)
