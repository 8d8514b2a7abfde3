"""What an upgrade is tried with, in the shadow."""

from pathlib import Path

import msgspec


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """The target's programs and manifests, and the limits; times in seconds.

    `version`, where it is given, is what they must be of.  `deadline` bounds the whole of it,
    `timeout` each single step; `memory`, in MiB, each program.
    """

    istiod: str
    envoy: str
    manifests: Path
    version: str = ""
    timeout: float = 60.0
    deadline: float = 900.0
    classes: int = 500
    memory: int = 2048
