"""Files that follow from the code are what the code makes today."""

import importlib.util
from pathlib import Path

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("generate", ROOT / "ci/generate.py")
assert SPEC
assert SPEC.loader
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)

FILES: dict[Path, str] = generate.generated()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_file_is_not_stale(path: Path) -> None:
    assert path.read_text() == FILES[path], "run: make generate"


def test_the_table_has_every_stage_and_every_check() -> None:
    text = f"before {generate.BEGIN}\nold\n{generate.END} after"

    found = generate.between(text, generate.stages())

    assert found.startswith("before ")
    assert found.endswith(" after")
    assert "old" not in found
    assert found.count("\n| ") == 1 + len(generate.STAGES)
    assert "| [CP001](docs/checks/CP001.md) to [CP" in found
