"""What is known of Istio's releases: the ledger in `releases/MINOR.toml`, one file per minor."""

import tomllib
from datetime import date
from functools import cache
from importlib.resources import files

import msgspec

from meshgate.semantics.versions import Target, Version
from meshgate.settings import flag
from meshgate.snapshot.upgrade import Release as SupportedRelease
from meshgate.snapshot.upgrade import Support

SOURCE = "https://istio.io/latest/docs/releases/supported-releases/"
# The day on which support dates and Kubernetes versions were compared with SOURCE.
AS_OF = date(2026, 11, 28)
# Minor versions by which a proxy may be older than istiod; it may never be newer.
SKEW = 1

ALPHA_GATEWAY_API = "PILOT_ENABLE_ALPHA_GATEWAY_API"

# What the settings name if the mesh config turns off the merging of metrics.
NO_PROMETHEUS_MERGE = "enablePrometheusMerge: false"

# Istio no longer publishes to these registries; they are switched off from SHUTDOWN on.
RETIRED_REGISTRIES = ("gcr.io/istio-release", "registry.istio.io")
SHUTDOWN = date(2026, 12, 8)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One behavior change of a release.  `releases/README.md` explains the fields."""

    since: tuple[str, ...]
    what: str
    look: str
    do: str
    names: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    profile: str = ""
    until: str = ""
    removed: bool = False

    def holds(self, version: Version) -> bool:
        """Return whether a release has the change.

        The first patch of the version's own minor counts if `since` names one, else the newest
        entry.  A pre-release has what its release brings.
        """
        end = Version.parse(self.until)
        if end is not None and version[:3] >= end[:3]:
            return False
        begins = sorted(filter(None, map(Version.parse, self.since)))
        own = [each for each in begins if each[:2] == version[:2]]
        return version[:3] >= (own or begins[-1:])[0][:3]


class Crd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A CRD that istiod of one minor release watches.

    Attributes:
        version: the only API version that istiod reads.
        minimum: istiod ignores the CRD if its bundle is older.
        maximum: istiod ignores the CRD if its bundle is newer, from patch `maximum_since` on.
        alpha: istiod watches it only with PILOT_ENABLE_ALPHA_GATEWAY_API=true.
    """

    version: str
    minimum: str = ""
    maximum: str = ""
    maximum_since: str = ""
    alpha: bool = False

    def ignored(self, bundle: str, release: Version) -> str:
        """Return why istiod ignores a CRD of this bundle version; empty if it reads the CRD."""
        found = Version.parse(bundle)
        if self.minimum:
            least = Version.parse(self.minimum)
            if found is None:
                return "it has no bundle-version annotation"
            if least and found[:3] < least[:3]:
                return f"bundle {bundle} is older than {self.minimum}"
        if self.maximum and found:
            most, since = Version.parse(self.maximum), Version.parse(self.maximum_since)
            if most and since and release[:3] >= since[:3] and found[:3] > most[:3]:
                return f"bundle {bundle} is newer than {self.maximum}"
        return ""


class Fix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published security fix: the first patch that has it, for each minor release."""

    id: str
    what: str
    since: tuple[str, ...]

    def missing(self, version: Version) -> bool:
        """Return whether a release of a minor named in `since` is older than the fix."""
        own = [
            each
            for each in map(Version.parse, self.since)
            if each is not None and each[:2] == version[:2]
        ]
        return bool(own) and version[:3] < own[0][:3]

    def contained(self, version: Version) -> bool:
        """Return whether a release has the fix: a named minor, or one that is newer than all."""
        named = {each[:2] for each in map(Version.parse, self.since) if each is not None}
        return (version[:2] in named or version[:2] > max(named)) and not self.missing(version)


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One minor release.

    Attributes:
        kubernetes: the first and the last supported minor version.
        end_of_life: the last day of support; None if it is not known yet.
        estimated: the end of life is an estimate.
        crd: the CRDs that istiod watches, by full name.
        field: fields that the release adds to Istio's own CRDs, as dotted paths, by full name.
        rule: the behavior changes that begin with this release, by name.
        fix: security fixes that are first published for this release.
    """

    kubernetes: tuple[str, str]
    end_of_life: date | None = None
    released: date | None = None
    estimated: bool = False
    crd: dict[str, Crd] = {}
    field: dict[str, tuple[str, ...]] = {}
    rule: dict[str, Rule] = {}
    fix: tuple[Fix, ...] = ()


@cache
def ledger() -> dict[str, Release]:
    """Return every known release by its minor version, such as `1.31`."""
    return {
        file.name.removesuffix(".toml"): msgspec.convert(tomllib.loads(file.read_text()), Release)
        for file in sorted(files("meshgate").joinpath("releases").iterdir(), key=lambda f: f.name)
        if file.name.endswith(".toml")
    }


def minor(version: Version) -> str:
    """Return `1.31` for every 1.31 patch."""
    return f"{version.major}.{version.minor}"


def use_istioctl_of(target: Target) -> str:
    """Return the remedy for an istioctl, and so an image, of another release than the target."""
    option = flag("access.istioctl")
    return f"use the image whose tag has -istio{target}, or pass istioctl {target} with {option}"


@cache
def rules() -> dict[str, Rule]:
    """Return every rule of every release by name."""
    return {name: rule for release in ledger().values() for name, rule in release.rule.items()}


def crd_fields() -> dict[str, frozenset[str]]:
    """Return every field of Istio's own CRDs that a release adds, by the CRD's full name."""
    found: dict[str, set[str]] = {}
    for release in ledger().values():
        for name, paths in release.field.items():
            found.setdefault(name, set()).update(paths)
    return {name: frozenset(paths) for name, paths in sorted(found.items())}


def fixes() -> tuple[Fix, ...]:
    """Return every published security fix."""
    return tuple(fix for release in ledger().values() for fix in release.fix)


def shipped() -> Support:
    """Return the support matrix of the ledger."""
    return Support(
        source=SOURCE,
        date=AS_OF,
        skew=SKEW,
        release={
            name: SupportedRelease(kubernetes=each.kubernetes, end_of_life=each.end_of_life)
            for name, each in ledger().items()
        },
    )


def read_support(text: str) -> Support:
    """Return the support matrix in a TOML text; raise ValueError if it is invalid."""
    return msgspec.convert(tomllib.loads(text), Support)


def looked_for(*looks: str) -> frozenset[str]:
    """Return the names that rules of these looks are about: no other setting is collected."""
    return frozenset(name for rule in rules().values() if rule.look in looks for name in rule.names)


def opt_outs() -> frozenset[str]:
    """Return the variables that restore the behavior from before a change."""
    return frozenset(name for rule in rules().values() for name in rule.unless)


def tracked_variables() -> frozenset[str]:
    """Return every environment variable of istiod that a rule or a CRD depends on."""
    return looked_for("variable", "dry_run", "nftables") | opt_outs() | {ALPHA_GATEWAY_API}
