"""Paths: the lab's source, the shared cache, and one folder for each lab."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.steps import LabError

SOURCE = Path(__file__).resolve().parent.parent
PROJECT = SOURCE.parent.parent


def home() -> Path:
    """The folder that holds everything the lab writes."""
    if chosen := os.environ.get("MESHGATE_LAB_HOME"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "meshgate-lab"


def cache() -> Path:
    """The read-only parts that all labs share: programs, root filesystems, images."""
    return home() / "cache"


def nodes() -> Path:
    """The parent of all labs' folders."""
    return home() / "nodes"


@dataclass(frozen=True)
class LabDir:
    """The folder of one lab."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise LabError(
                f"{self.name!r} is not a valid lab name: use a-z, 0-9 and '-', at most 32"
            )

    @property
    def path(self) -> Path:
        """Everything of this lab is below it."""
        return nodes() / self.name

    @property
    def lock(self) -> Path:
        """The lock that every change of the lab holds."""
        return nodes() / f"{self.name}.lock"

    @property
    def var(self) -> Path:
        """The node's /var."""
        return self.path / "var"

    @property
    def shared(self) -> Path:
        """Files that the node and the host's side hand to each other."""
        return self.var / "lib" / "meshgate"

    @property
    def kubeconfig(self) -> Path:
        """The cluster's administrator."""
        return self.shared / "admin.conf"

    @property
    def bin(self) -> Path:
        """First in PATH for `lab exec`."""
        return self.path / "bin"

    def link(self, programs: Mapping[str, Path]) -> None:
        """Put programs there, or others of the same names in their place."""
        self.bin.mkdir(parents=True, exist_ok=True)
        for name, program in programs.items():
            (self.bin / name).unlink(missing_ok=True)
            (self.bin / name).symlink_to(program)

    @property
    def cgroup(self) -> str:
        """The name of this lab's cgroup in every hierarchy."""
        return f"meshgate-{self.name}"


def all_labs() -> list[LabDir]:
    """Every lab that has a folder."""
    return [LabDir(place.name) for place in sorted(nodes().glob("*/"))]
