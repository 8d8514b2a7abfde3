"""Programs of the Go modules in ci/, built when a test needs them."""

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.conftest import ROOT


@cache
def built(name: str, module: str, tags: str = "") -> Path:
    """Return a program whose sources go.sum verifies; the first build takes minutes.

    Args:
        name: the tool.
        module: the folder of its go.mod.
        tags: build tags, separated by commas.

    Returns:
        The program, in Go's cache.
    """
    found = subprocess.run(
        ["go", "tool", "-n", name],
        cwd=ROOT / module,
        env={
            **os.environ,
            "GOFLAGS": f"-buildvcs=false -trimpath -tags={tags}",
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "auto",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"these tests need Go: {found.stderr}"
    return Path(found.stdout.strip())
