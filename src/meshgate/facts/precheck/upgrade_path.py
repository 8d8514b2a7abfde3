"""The upgrade's path: what runs, what will run, and whether Istio supports this step."""

from datetime import timedelta
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane, image_version
from meshgate.facts.evidence import Evidence
from meshgate.semantics.releases import Fix, fixes, ledger, minor, shipped
from meshgate.semantics.versions import Target, Version
from meshgate.settings import flag
from meshgate.snapshot.kubernetes import Deployment
from meshgate.snapshot.upgrade import Release, Support
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# How long before its end of life a target is warned about: a release is supported for eight
# months, and the next upgrade has to be planned.
NOTICE = timedelta(weeks=6)

# Stands for the newest patch of a minor release where the target names no patch.
_NEWEST = 10_000


class Upgrade:
    """From every istiod that runs, and every proxy, to one target."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._control_plane = evidence.facts(ControlPlane)

    # --- to ---------------------------------------------------------------------------------------

    @cached_property
    def target(self) -> Target:
        """The version to upgrade to: `--target-version`, else the version of istioctl.

        `1.31` means any patch.
        """
        asked = self._evidence.expectations.target_version or self._evidence.istioctl
        if (target := Target.parse(asked)) is None:
            raise CouldNotVerify(
                f"the target version is unknown: {asked!r} is not a version",
                f"name one with {flag('criteria.target_version', 'X.Y.Z')}",
            )
        return target

    @property
    def newest_patch(self) -> Version:
        """The target's version; for a target without a patch a version after all its patches."""
        version = self.target.version
        return version._replace(patch=_NEWEST) if self.target.any_patch else version

    def need_known_target(self) -> None:
        """Raise CouldNotVerify unless the release ledger knows the target's minor release."""
        if (name := minor(self.target.version)) not in ledger():
            known = sorted(ledger(), key=lambda each: int(each.partition(".")[2]))
            raise CouldNotVerify(
                f"this meshgate does not know Istio {name} (it knows {known[0]} to {known[-1]})",
                f"use a meshgate release that knows Istio {name}",
            )

    @property
    def _support(self) -> Support:
        return self._evidence.expectations.support or shipped()

    @property
    def skew(self) -> int:
        """How many minor versions a proxy may be behind istiod."""
        return self._support.skew

    @property
    def _release(self) -> Release:
        name = minor(self.target.version)
        try:
            return self._support.release[name]
        except KeyError:
            raise CouldNotVerify(
                f"the support matrix of {self._support.date} ({self._support.source}) does not "
                f"contain Istio {name}",
                f"pass a newer one with {flag('criteria.support_matrix', 'FILE')}",
            ) from None

    # --- from -------------------------------------------------------------------------------------

    @cached_property
    def running(self) -> dict[str, Version]:
        """The version of every istiod by `Deployment namespace/name`.

        It is the oldest version that a replica reports, else the version of its image.
        """
        return {
            f"Deployment {self._control_plane.namespace}/{each.metadata.name}": self._runs(each)
            for each in self._control_plane.deployments
        }

    def _runs(self, deployment: Deployment) -> Version:
        found = self._control_plane.versions(deployment)
        if not found and (version := image_version(deployment)):
            found = [version]
        if not found:
            raise CouldNotVerify(
                f"the version of Deployment {self._control_plane.namespace}/"
                f"{deployment.metadata.name} is unknown: no replica answers, and its image tag "
                "names no version",
                f"kubectl -n {self._control_plane.namespace} rollout status "
                f"deployment/{deployment.metadata.name}",
                transient=True,
            )
        return min(found)

    @cached_property
    def oldest(self) -> Version:
        """The oldest version that an istiod runs: every change after it counts."""
        if not self.running:
            raise NotApplicable(self._new)
        return min(self.running.values())

    @property
    def _new(self) -> str:
        return (
            f"no istiod runs in {self._control_plane.namespace}: this is an installation, "
            "not an upgrade"
        )

    # --- the way ----------------------------------------------------------------------------------

    @property
    def wrong_steps(self) -> list[Finding]:
        """Istiods for which the target is neither a patch nor the next minor version."""
        if not self.running:
            raise NotApplicable(self._new)
        self.need_known_target()
        return [
            Finding(
                subject,
                f"runs {version}, and {self.target} is {wrong[0]}",
                "a patch, or the next minor version",
                wrong[1],
                problem="wrong-step",
                about=(("from", minor(version)), ("to", str(self.target))),
            )
            for subject, version in self.running.items()
            if (wrong := self._wrong(version))
        ]

    def _wrong(self, version: Version) -> tuple[str, str] | None:
        target = self.target.version
        steps = target.minor - version.minor
        if version.major != target.major:
            return "another major version", "follow Istio's instructions for this step"
        if steps > 1:
            stop = f"{version.major}.{version.minor + 1}"
            return f"{steps} minor versions ahead", f"upgrade to the newest {stop} first"
        rollback = self._evidence.expectations.allow_rollback and steps >= -1
        if self.newest_patch >= version or rollback:
            return None
        return (
            "older",
            "correct the target; if this is a rollback by one minor version, pass "
            f"{flag('criteria.allow_rollback')}",
        )

    @property
    def rollbacks(self) -> list[Finding]:
        """Istiods that are newer than the target, where a rollback is allowed."""
        if not self._evidence.expectations.allow_rollback:
            return []
        return [
            Finding(
                subject,
                f"runs {version} and is rolled back to {self.target}",
                remedy="restart the workloads right after the rollback, or with revisions before "
                "it: no proxy may be newer than istiod",
                problem="rollback",
                about=(("to", str(self.target)),),
            )
            for subject, version in self.running.items()
            if version > self.newest_patch and self.target.version.minor - version.minor >= -1
        ]

    @property
    def lost_fixes(self) -> list[Finding]:
        """Security fixes that an istiod has and the target lacks."""
        return [
            Finding(
                subject,
                f"runs {version} with the security fix {fix.id} ({fix.what}), which "
                f"{self.target} lacks",
                f"{_first_with(fix, self.target.version)} or newer",
                f"choose {_first_with(fix, self.target.version)} or a newer patch as the target",
                problem="lost-fix",
                about=(("fix", fix.id),),
            )
            for subject, version in self.running.items()
            for fix in fixes()
            if fix.contained(version) and fix.missing(self.newest_patch)
        ]

    # --- Kubernetes and support ------------------------------------------------------------------

    @property
    def unsupported_kubernetes(self) -> list[Finding]:
        """The cluster, if the target does not support its Kubernetes version."""
        first, last = self._release.kubernetes
        text = self._evidence.snapshot.kubernetes_version
        version, low, high = Version.parse(text), Version.parse(first), Version.parse(last)
        if version is None or low is None or high is None:
            raise CouldNotVerify(f"cannot compare Kubernetes {text!r} with {first} to {last}")
        if low[:2] <= version[:2] <= high[:2]:
            return []
        return [
            Finding(
                f"Kubernetes {minor(version)}",
                f"Istio {minor(self.target.version)} does not support it",
                f"{first} to {last}, by the support matrix of {self._support.date}",
                f"upgrade Kubernetes to {first} or newer first"
                if version[:2] < low[:2]
                else f"choose an Istio release that supports Kubernetes {minor(version)}",
                problem="unsupported-kubernetes",
                about=(("istio", minor(self.target.version)),),
            )
        ]

    @property
    def ended(self) -> list[Finding]:
        """The target, if its support has ended or ends within NOTICE."""
        end, today = self._release.end_of_life, self._evidence.snapshot.taken.date()
        if end is None or today + NOTICE < end:
            return []
        name = minor(self.target.version)
        known = ledger().get(name)
        about = "about " if known and known.estimated and known.end_of_life == end else ""
        return [
            Finding(
                f"Istio {name}",
                f"has reached its end of life on {end}"
                if today > end
                else f"reaches its end of life on {about}{end}",
                "a release that gets security fixes for longer",
                f"plan the upgrade to the release after {name} now",
                problem="end-of-life",
            )
        ]


def _first_with(fix: Fix, version: Version) -> str:
    own = f"{minor(version)}."
    return next(each for each in fix.since if each.startswith(own))
