"""Versions as Istio prints them."""

import re
from typing import NamedTuple

_TARGET = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-(alpha|beta|rc)\.?(\d+))?(?:-[\w.-]+)?")
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


class TargetVersion(NamedTuple):
    """What `--target-version` asks for: one release, or any patch of a minor version.

    `patch` is None where only the minor version was given (`1.29`).
    """

    major: int
    minor: int
    patch: int | None = None
    stage: int = 3
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> "TargetVersion":
        """Return the target that `1.29`, `1.29.1`, `v1.30.0-rc.0` or `1.29.1-distroless` names.

        Raises ValueError for anything else, such as `latest`.
        """
        found = _TARGET.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not a version: use X.Y.Z, or X.Y for any patch")
        major, minor, patch, stage, number = found.groups()
        return cls(
            int(major),
            int(minor),
            int(patch) if patch else (0 if stage else None),
            ("alpha", "beta", "rc").index(stage) if stage else 3,
            int(number or 0),
        )

    def matches(self, version: Version | None) -> bool:
        """Return whether this version satisfies the target; an unknown one never does."""
        if version is None:
            return False
        if self.patch is None:
            return self[:2] == version[:2]
        return self.least == version

    @property
    def least(self) -> Version:
        """The oldest version that satisfies the target: for comparing minor versions."""
        return Version(self.major, self.minor, self.patch or 0, self.stage, self.number)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" if self.patch is None else str(self.least)
