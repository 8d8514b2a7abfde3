"""Programs of the host that run in a lab's network and process namespace, and end with it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.node import Node
from labkit.steps import LabError, poll, tail


def answers(node: Node, url: str) -> bool:
    """Whether something answers there."""
    return not _silent(node, url)


def start(
    node: Node,
    name: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    ready: str | None = None,
) -> None:
    """Start it and wait until it answers at the URL `ready`, unless it does so already."""
    if ready and answers(node, ready):
        return
    place = node.lab.path / "guests" / name
    place.mkdir(parents=True, exist_ok=True)
    log = place / "log"
    environment = {**node.env, "HOME": str(place), "TMPDIR": str(place), **(env or {})}
    with log.open("wb") as file:
        started = subprocess.Popen(
            node.among(argv), env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=file,
            stderr=file, start_new_session=True,
        )  # fmt: skip

    def waiting() -> str:
        if started.poll() is not None:
            raise LabError(f"{name} ended\n{tail(log.read_text())}")
        return _silent(node, ready) if ready else ""

    poll(f"{name} to answer", waiting, timeout=120)


def _silent(node: Node, url: str) -> str:
    """Why there is no answer there, or nothing if there is one."""
    try:
        node.run("labapp", "get", url, timeout=10)
    except LabError as error:
        return str(error)
    return ""
