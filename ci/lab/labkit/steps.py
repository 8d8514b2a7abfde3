"""Timed steps, commands with useful errors, and locks."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class LabError(Exception):
    """Something that the user can act on; the message says what to do."""


_open_steps: list[str] = []
_line_is_open = False


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print the step, and how long it took when it ends; steps may be nested."""
    global _line_is_open
    indent = "  " * len(_open_steps)
    print(f"{chr(10) if _line_is_open else ''}{indent}{what} ... ", end="", flush=True)
    _open_steps.append(what)
    _line_is_open = True
    start = time.monotonic()
    verdict = "FAILED after "
    try:
        yield
        verdict = ""
    finally:
        _open_steps.pop()
        again = "" if _line_is_open else f"{indent}{what}: "
        print(f"{again}{verdict}{time.monotonic() - start:.1f} s", flush=True)
        _line_is_open = False


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command and return its output; an error carries the tail of what it printed."""
    try:
        done = subprocess.run(
            argv, env=env, cwd=cwd, input=stdin, timeout=timeout, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]}: not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{_shown(argv)}: timed out after {timeout:.0f} s") from None
    if done.returncode:
        said = tail(done.stdout + done.stderr)
        raise LabError(f"{_shown(argv)}: exit status {done.returncode}\n{said}")
    return done.stdout


def tail(text: str, lines: int = 25) -> str:
    """The last lines, indented."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


def poll(what: str, done: Callable[[], str], *, timeout: float, every: float = 0.3) -> None:
    """Call `done` until it returns no complaint; at the deadline show its last one."""
    deadline = time.monotonic() + timeout
    while complaint := done():
        if time.monotonic() > deadline:
            raise LabError(
                f"timed out after {timeout:.0f} s waiting for {what}:\n{tail(complaint)}"
            )
        time.sleep(every)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file, which is removed afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _take(path: Path) -> int:
    """Lock the file of that name, which the holder before us may just have unlinked."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another lab command ({path.name}) ...", file=sys.stderr)
            fcntl.flock(fd, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            return fd
        os.close(fd)


def _shown(argv: Sequence[str | Path]) -> str:
    words = " ".join(str(word) for word in argv)
    return words if len(words) < 200 else words[:200] + " ..."
