"""What the replays share: the healthy recording after one change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.snapshot.model import Snapshot
from meshgate.snapshot.store import load

Recording = dict[str, Any]
Break = Callable[[Recording], None]
Broken = Callable[[Break], Path]


def named(objects: list[Recording], prefix: str) -> Recording:
    """The first object whose name begins so."""
    return next(each for each in objects if each["metadata"]["name"].startswith(prefix))


@pytest.fixture
def broken(root: Path, recorded: Callable[[Snapshot], Path]) -> Broken:
    """The healthy recording after one change, as a file."""

    def write(change: Break) -> Path:
        healthy = load(root / "tests/fixtures/schema-1/healthy.json.gz")
        recording = msgspec.json.decode(msgspec.json.encode(healthy))
        change(recording)
        return recorded(msgspec.convert(recording, Snapshot))

    return write
