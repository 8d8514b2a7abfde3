"""The facts that settling and the run share: one computation, and the same result each time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshgate.plugin.fixtures import MESH, mesh_of
from meshgate.snapshot.store import load
from tests.support.builders import snapshot
from tests.support.checks import Judgment


@pytest.fixture
def config() -> Any:
    """The part of pytest's configuration that holds the facts."""
    return SimpleNamespace(stash=pytest.Stash())


def test_the_facts_of_one_capture_are_computed_once(config: Any) -> None:
    capture = snapshot()

    assert mesh_of(config, capture) is mesh_of(config, capture) is config.stash[MESH]


def test_another_capture_has_its_own_facts_even_if_it_is_equal(config: Any) -> None:
    first, second = snapshot(), snapshot()

    assert mesh_of(config, first) is not mesh_of(config, second)
    assert config.stash[MESH].evidence.snapshot is second


@pytest.mark.parametrize("name", ["healthy", "broken"])
def test_a_check_has_the_same_outcome_on_facts_that_it_used_before(root: Path, name: str) -> None:
    recording = load(root / f"demo/{name}.json.gz")
    used = Judgment(recording)

    again = Judgment(recording, used.mesh)

    assert again.mesh is used.mesh
    assert again.ruling == used.ruling
    assert again.document == used.document
