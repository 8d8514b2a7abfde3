"""What an upgrade is tried with, in the shadow."""

from pathlib import Path

import msgspec


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """The target's programs and manifests, and the limits; times in seconds.

    `deadline` bounds the search for who brings a refusal, `timeout` each single step.
    """

    istiod: str
    envoy: str
    manifests: Path
    timeout: float = 60.0
    deadline: float = 300.0
    classes: int = 500
