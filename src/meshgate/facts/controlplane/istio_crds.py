"""Istio's own CRDs, compared with the release that istiod runs."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.semantics.releases import ledger
from meshgate.semantics.versions import Version
from meshgate.snapshot.upgrade import IstioCrd
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

REMEDY = "upgrade the base chart of this istiod's release, which contains the CRDs"


class IstioCrds:
    """The CRDs of the base chart."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    @cached_property
    def _newest(self) -> Version:
        """The version of the newest istiod; raises CouldNotVerify if none is known."""
        self._control_plane.need_own()
        versions = [
            version
            for each in self._control_plane.answers
            if (version := Version.parse(each.version))
        ]
        if not versions:
            raise CouldNotVerify("no istiod replica reports its version", "see CP001")
        return max(versions)

    @cached_property
    def _expected(self) -> dict[str, dict[str, str]]:
        """Each field that istiod's release has, with the release that adds it, by CRD.

        Raises NotApplicable for a release before the first one whose fields are known.
        """
        found: dict[str, dict[str, str]] = {}
        for release, each in ledger().items():
            since = Version.parse(f"{release}.0")
            if since and since[:2] <= self._newest[:2]:
                for name, paths in each.field.items():
                    found.setdefault(name, {}).update(dict.fromkeys(paths, release))
        if not found:
            raise NotApplicable(f"istiod {self._newest} adds no field to its CRDs that is known")
        return found

    @cached_property
    def all(self) -> tuple[IstioCrd, ...]:
        """The CRDs whose fields are known; raises NotApplicable if the cluster has none."""
        if not self._evidence.istio_crds:
            raise NotApplicable("none of Istio's CRDs is installed, or this snapshot lacks them")
        _ = self._expected
        return self._evidence.istio_crds

    @property
    def outdated(self) -> list[Finding]:
        """CRDs without the fields that istiod's release adds: the API server drops these."""
        return [finding for each in self.all for finding in self._outdated(each)]

    def _outdated(self, crd: IstioCrd) -> Iterator[Finding]:
        expected = self._expected.get(crd.name, {})
        lacking = {path: since for path, since in expected.items() if path not in crd.fields}
        if lacking:
            newest = max(lacking.values(), key=lambda each: Version.parse(f"{each}.0") or ())
            yield Finding(
                f"CustomResourceDefinition {crd.name}",
                f"is older than istiod {self._newest}: it lacks "
                + ", ".join(f"{path} (since {since})" for path, since in sorted(lacking.items())),
                f"the CRD of Istio {newest} or newer",
                REMEDY,
                problem="older-crd",
                about=(("since", newest),),
            )

    @property
    def missing(self) -> list[Finding]:
        """CRDs of istiod's release that are not installed, which the chart allows."""
        there = {each.name for each in self.all}
        return [
            Finding(
                f"CustomResourceDefinition {name}",
                f"is not installed, and istiod {self._newest} has it",
                "the CRD, unless base.excludedCRDs names it",
                REMEDY,
                problem="missing-crd",
            )
            for name in sorted(self._expected.keys() - there)
        ]
