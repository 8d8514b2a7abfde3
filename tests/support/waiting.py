"""Wait for what other processes do."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def until(holds: Callable[[], bool], timeout: float = 60) -> None:
    """Wait until it holds, for `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"it was not so within {timeout:.0f} s"
        time.sleep(0.1)


def marked(marker: str) -> dict[int, str]:
    """Return the commands of the processes with a marker in their environment, by PID."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marker.encode() in (each / "environ").read_bytes():
                words = (each / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(each.name)] = words.decode(errors="replace")
    return found
