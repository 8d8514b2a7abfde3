"""The catalogue: rows by id, and a mistake in an id that says which ones there are."""

import pytest

from meshgate.catalogue import STAGES, check, checks


def test_a_check_is_found_by_its_id() -> None:
    row = check("CP001")

    assert (row.id, row.stage, row.page) == ("CP001", "controlplane", "docs/checks/CP001.md")
    assert row.reads


def test_an_id_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"no check XX999; there are PC001, PC002"):
        check("XX999")


def test_ids_are_in_order_and_of_known_stages() -> None:
    rows = list(checks().values())

    assert [row.stage for row in rows] == sorted((row.stage for row in rows), key=STAGES.index)
    assert all(row.id == id for id, row in checks().items())
