"""Versions as Istio prints them."""

import re
from typing import NamedTuple

_VERSION = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?:\.(\d+))?(?:-(alpha|beta|rc)\.?(\d+))?")


class Version(NamedTuple):
    """A release, ordered; a pre-release comes before its release (`stage` 0 to 3 = final)."""

    major: int
    minor: int
    patch: int
    stage: int = 3
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> "Version | None":
        """What `1.29.1-6991a379-Clean`, `v1.34.4` or `1.29.1-distroless` says; None for nothing."""
        found = _VERSION.search(text)
        if not found:
            return None
        major, minor, patch, stage, number = found.groups()
        return cls(
            int(major),
            int(minor),
            int(patch or 0),
            ["alpha", "beta", "rc"].index(stage) if stage else 3,
            int(number or 0),
        )

    @classmethod
    def of_image(cls, image: str) -> "Version | None":
        """What an image's tag says; None for a digest, or a tag without a version."""
        return cls.parse(image.rpartition("/")[2].partition("@")[0].partition(":")[2])

    def __str__(self) -> str:
        plain = f"{self.major}.{self.minor}.{self.patch}"
        return (
            plain
            if self.stage == 3
            else f"{plain}-{('alpha', 'beta', 'rc')[self.stage]}.{self.number}"
        )
