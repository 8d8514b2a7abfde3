"""The cache: folders with the digest of what they were made from in their names.

A folder is made beside its place and renamed at the end, so that it is either whole or absent. Each
has a lock of its own: who waits, waits for what is needed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from labkit import paths
from labkit.steps import LabError, locked, step

# Measured from nothing with all releases: Go's caches 19 GiB, the lab's own 5 GiB.
NEEDED_SPACE = 25 * 2**30


def cached(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """Return the folder made from this recipe; make it if it is missing."""
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    place = paths.cache() / f"{name}-{digest}"
    if place.exists():
        return place
    partial = place.with_name(f"{place.name}.partial")
    with locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():  # else another command made it meanwhile
            _check_space()
            with step(f"build {name}"):
                shutil.rmtree(partial, ignore_errors=True)  # the remains of an interrupted build
                partial.mkdir(parents=True)
                make(partial)
                partial.rename(place)
    return place


def _check_space() -> None:
    free = shutil.disk_usage(paths.cache()).free
    if free < NEEDED_SPACE and not any(paths.cache().glob("kubernetes-*")):
        raise LabError(
            f"{paths.home()} has {free >> 30} GiB free and a first build needs "
            f"{NEEDED_SPACE >> 30}; make room or set MESHGATE_LAB_HOME"
        )


def digest(files: Iterable[Path]) -> str:
    """Return the digest of the files' names and contents."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
