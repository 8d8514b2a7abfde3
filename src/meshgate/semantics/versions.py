"""Versions as Istio prints them."""

import re
from functools import lru_cache
from typing import NamedTuple

_VERSION = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?:\.(\d+))?(?:-(alpha|beta|rc)\.?(\d+))?")

# In the tag of a private build Istio's version follows the word: `v2.3.1-istio1.29.1`.
_AFTER_ISTIO = re.compile(r"istio[-_.]?v?(?=\d+\.\d)", re.IGNORECASE)

# A release with all three numbers: two of them in one tag are ambiguous.
_RELEASE = re.compile(r"(?<![\d.])\d+\.\d+\.\d+")

# Istio has had no other; a tag that begins with another number is a vendor's own.
MAJOR = 1

STAGES = ("alpha", "beta", "rc")


class Version(NamedTuple):
    """A release, ordered; a pre-release comes before its release (`stage` 0 to 3 = final)."""

    major: int
    minor: int
    patch: int
    stage: int = 3
    number: int = 0

    @classmethod
    @lru_cache(maxsize=1024)  # thousands of proxies have the same one
    def parse(cls, text: str) -> "Version | None":
        """Return the version in `1.29.1-6991a379-Clean`, `v1.34.4` or `1.29`; None without one."""
        found = _VERSION.search(text)
        return cls._of(found) if found else None

    @classmethod
    def of_image(cls, image: str) -> "Version | None":
        """Return the Istio version that an image's tag names.

        None for a digest, for a tag without a version, and where a tag could mean more than one
        thing: `v2.3.1` may be a private version number.
        """
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if after := _AFTER_ISTIO.search(tag):
            found = _VERSION.match(tag, after.end())
        else:
            found = _VERSION.match(tag.removeprefix("v"))
            if len(_RELEASE.findall(tag)) > 1:
                return None
        version = cls._of(found) if found else None
        return version if version and version.major == MAJOR else None

    @classmethod
    def _of(cls, found: re.Match[str]) -> "Version":
        major, minor, patch, stage, number = found.groups()
        return cls(
            int(major),
            int(minor),
            int(patch or 0),
            STAGES.index(stage) if stage else len(STAGES),
            int(number or 0),
        )

    def __str__(self) -> str:
        plain = f"{self.major}.{self.minor}.{self.patch}"
        return plain if self.stage == len(STAGES) else f"{plain}-{STAGES[self.stage]}.{self.number}"


class Target(NamedTuple):
    """The version that `--target-version` names; `1.29` means any 1.29 patch release."""

    version: Version
    any_patch: bool = False

    @classmethod
    @lru_cache(maxsize=1024)  # thousands of proxies have the same one
    def parse(cls, text: str) -> "Target | None":
        """Return the target that `1.29.1` or `1.29` names; None for anything else."""
        found = _VERSION.match(text.removeprefix("v"))
        version = Version.parse(text)
        if found is None or version is None:
            return None
        return cls(version, any_patch=found.group(3) is None and found.group(4) is None)

    def met_by(self, version: Version) -> bool:
        """Whether a component of this version is at the target."""
        return version[:2] == self.version[:2] if self.any_patch else version == self.version

    def __str__(self) -> str:
        return f"{self.version.major}.{self.version.minor}" if self.any_patch else str(self.version)
