"""JSON patches, as webhooks answer them."""

from typing import Any

import pytest

from meshgate.semantics.json_patch import patched


@pytest.mark.parametrize(
    ("row", "result"),
    [
        ({"op": "add", "path": "/a/0", "value": 0}, {"a": [0, 1, 2]}),
        ({"op": "add", "path": "/a/-", "value": 3}, {"a": [1, 2, 3]}),
        ({"op": "add", "path": "/b~1c", "value": 3}, {"a": [1, 2], "b/c": 3}),
        ({"op": "replace", "path": "/a/1", "value": 3}, {"a": [1, 3]}),
        ({"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"op": "remove", "path": "/a"}, {}),
    ],
)
def test_a_patch_is_applied_to_a_copy(row: dict[str, Any], result: Any) -> None:
    document = {"a": [1, 2]}

    assert patched(document, [row]) == result
    assert document == {"a": [1, 2]}


@pytest.mark.parametrize(
    "row",
    [
        {"op": "remove", "path": "/none"},
        {"op": "add", "path": "/none/x", "value": 1},
        {"op": "move", "path": "/a", "from": "/b"},
        {"op": "add", "path": "a", "value": 1},
    ],
)
def test_a_patch_that_does_not_fit_is_an_error(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot apply"):
        patched({"a": [1]}, [row])
