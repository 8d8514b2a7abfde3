"""The project's files that an installed package contains too: checks, demo recordings, pages.

They have one source, the top-level directories; the wheel contains copies in `meshgate/project/`.
"""

from pathlib import Path

_CARRIED = Path(__file__).parent / "project"

ROOT = _CARRIED if _CARRIED.is_dir() else Path(__file__).parents[2]

CONFIGURATION = ROOT / "pytest.ini"
CHECKS = ROOT / "verification"


def demo(name: str) -> Path:
    """Return a demo recording, `healthy` or `broken`."""
    return ROOT / "demo" / f"{name}.json.gz"
