"""Temporary folders that do not stay when the process is killed.

A process that is killed (SIGKILL, out of memory) cannot remove its folders, which contain a
kubeconfig or recordings.  Each folder has a lock that its process holds.  The kernel releases it
when the process ends, and the next process that needs a folder removes those without an owner.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "meshgate-"
_LOCK, _FILES = "lock", "files"


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder, in `parent` or in $TMPDIR, and remove it with all that is in it."""
    _remove_abandoned(parent or Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(dir=parent, prefix=PREFIX) as name:
        lock = _locked(Path(name))
        try:
            files = Path(name, _FILES)
            files.mkdir(mode=0o700)
            yield files
        finally:
            os.close(lock)


def _locked(folder: Path) -> int:
    """Return the open lock of a folder; it has its name only once this process holds it."""
    unnamed = folder / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(folder / _LOCK)
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of this user whose process has ended."""
    for lock in parent.glob(f"{PREFIX}*/{_LOCK}"):
        # one that is in use, or of which another process removes the files, stays
        with suppress(OSError):
            if lock.parent.lstat().st_uid == os.getuid():
                _remove_unless_locked(lock)


def _remove_unless_locked(lock: Path) -> None:
    """Remove the folder of a lock; raise BlockingIOError if a process holds it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent)
    finally:
        os.close(descriptor)
