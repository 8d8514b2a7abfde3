"""Whether the previous release could run again: in stage A after the upgrade, in stage B now."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

from meshgate.facts.controlplane.control_plane import ControlPlane
from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.gateway_api_crds import accepted_bundle, counted_objects
from meshgate.facts.precheck.proxy_skew import ProxySkew
from meshgate.facts.precheck.shadow_upgrade import ShadowUpgrade
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.certificates import parse
from meshgate.semantics.releases import ALPHA_GATEWAY_API, Crd, Release, ledger, minor
from meshgate.semantics.versions import Version
from meshgate.settings import SHADOW_OPTIONS, flag
from meshgate.snapshot.upgrade import Definition
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

ROOTS = "istio-ca-root-cert"


class Rollback:
    """From the target back to the release before it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    # --- which release --------------------------------------------------------------------------

    @cached_property
    def previous(self) -> Version:
        """The release to return to: the oldest that runs, or ran in the baseline.

        Raises NotApplicable if no release is older than the target.
        """
        before = self._evidence.expectations.before
        recorded = before.istiod_versions if before else ()
        known = [*self._upgrade.running.values(), *filter(None, map(Version.parse, recorded))]
        older = [each for each in known if each < self._upgrade.newest_patch]
        if older and min(older)[:3] != self._upgrade.target.version[:3]:
            return min(older)
        raise NotApplicable("no istiod runs or ran a release older than the target")

    @cached_property
    def _release(self) -> Release:
        release = ledger().get(minor(self.previous))
        if release is None:
            raise CouldNotVerify(
                f"this meshgate does not know Istio {minor(self.previous)}, the release to roll "
                "back to",
                f"use a meshgate release that knows Istio {minor(self.previous)}",
            )
        return release

    # --- stage A --------------------------------------------------------------------------------

    @property
    def foreseen(self) -> list[Finding]:
        """What would prevent a rollback after the upgrade."""
        return [*self._too_far(), *self._bundles_apart()]

    def _too_far(self) -> Iterator[Finding]:
        """Yield the step itself, if the previous istiod does not support the target's proxies."""
        target = self._upgrade.target
        if target.version.minor - self.previous.minor > self._upgrade.skew:
            yield Finding(
                f"Istio {minor(self.previous)}",
                f"does not support proxies of {target}: after the restart of the workloads a "
                "rollback would leave proxies without a supported istiod",
                f"at most {self._upgrade.skew} minor version between istiod and proxies",
                "upgrade one minor version at a time",
                problem="rollback-skew",
                about=(("from", str(target)), ("to", minor(self.previous))),
            )

    def _bundles_apart(self) -> Iterator[Finding]:
        """Yield CRDs that must be replaced for the target by one that the previous release drops.

        The bundle with the target's minimum is the oldest that the target reads.
        """
        target = ledger().get(minor(self._upgrade.target.version))
        objects = counted_objects(self._evidence)
        for definition in self._evidence.definitions:
            name = definition.metadata.name
            then, now = self._release.crd.get(name), target.crd.get(name) if target else None
            if then is None or now is None or not self._read(then) or not now.minimum:
                continue
            needed = now.ignored(definition.metadata.annotations.bundle, self._upgrade.newest_patch)
            if objects.get(name) and needed and then.ignored(now.minimum, self.previous):
                yield Finding(
                    f"CustomResourceDefinition {name}",
                    f"istiod {self._upgrade.target} needs {accepted_bundle(now)}, and istiod "
                    f"{self.previous} reads only {accepted_bundle(then)}",
                    "a bundle that both releases read",
                    f"plan the deletion of the objects of {name}, or accept that a rollback loses "
                    "them",
                    problem="bundles-apart",
                    about=(("to", minor(self.previous)),),
                )

    def _read(self, crd: Crd) -> bool:
        """Return whether istiod reads an alpha CRD, or the CRD is none."""
        return not crd.alpha or any(
            each.variables.get(ALPHA_GATEWAY_API) == "true" for each in self._evidence.settings
        )

    # --- stage B --------------------------------------------------------------------------------

    def _need_history(self) -> None:
        """Raise NotApplicable if nothing shows which release ran before."""
        if self._evidence.expectations.before is not None:
            return
        several = False
        with suppress(CouldNotVerify):  # other checks report that they cannot be read
            several = len(self._evidence.facts(ControlPlane).deployments) > 1
        if not several:
            raise NotApplicable(
                f"only a baseline shows which release ran before ({flag('run.baseline')})"
            )

    @property
    def obstacles(self) -> list[Finding]:
        """What prevents a rollback now."""
        self._need_history()
        return [*self._too_far(), *self._unserved(), *self._lost_roots()]

    @property
    def losses(self) -> list[Finding]:
        """What a rollback would lose, and what it needs afterwards."""
        self._need_history()
        return [*self._unread(), *self._newer_proxies()]

    @cached_property
    def watched(self) -> list[tuple[Definition, Crd]]:
        """The installed CRDs that the previous istiod watches."""
        return [
            (definition, crd)
            for definition in self._evidence.definitions
            if (crd := self._release.crd.get(definition.metadata.name)) and self._read(crd)
        ]

    def _unserved(self) -> Iterator[Finding]:
        """Yield CRDs that keep the previous istiod from becoming ready."""
        for definition, crd in self.watched:
            served = [each.name for each in definition.spec.versions if each.served]
            if crd.version in served or self._ignored(definition, crd):
                continue
            name, stored = definition.metadata.name, definition.status.stored_versions
            kept = (
                f"; objects are stored as {', '.join(stored)}, so the CRD cannot be downgraded"
                if stored and crd.version not in stored
                else ""
            )
            yield Finding(
                f"CustomResourceDefinition {name}",
                f"serves {', '.join(served) or 'no version'}, and istiod {self.previous} watches "
                f"{crd.version}: it would never become ready{kept}",
                f"{crd.version} is served",
                f"install a bundle whose {name} serves {crd.version} too",
                problem="rollback-crd",
                about=(("version", crd.version),),
            )

    def _ignored(self, definition: Definition, crd: Crd) -> str:
        return crd.ignored(definition.metadata.annotations.bundle, self.previous)

    def _unread(self) -> Iterator[Finding]:
        """Yield kinds with objects that the target reads and the previous release ignores."""
        target = ledger().get(minor(self._upgrade.target.version))
        objects = counted_objects(self._evidence)
        for definition in self._evidence.definitions:
            name = definition.metadata.name
            now = target.crd.get(name) if target else None
            then = self._release.crd.get(name)
            if now is None or not self._read(now) or not objects.get(name):
                continue
            bundle = definition.metadata.annotations.bundle
            reads = then is not None and self._read(then) and not self._ignored(definition, then)
            if not reads and not now.ignored(bundle, self._upgrade.newest_patch):
                yield Finding(
                    f"CustomResourceDefinition {name}",
                    f"has {objects[name]} objects, which istiod {self.previous} ignores: a "
                    "rollback loses their traffic",
                    remedy=f"kubectl get {name} -A",
                    problem="rollback-ignores",
                    about=(("to", minor(self.previous)),),
                )

    def _lost_roots(self) -> Iterator[Finding]:
        """Yield the roots, if the mesh no longer trusts one that it trusted in the baseline."""
        before = self._evidence.expectations.before
        if before is None or not before.roots:
            return
        namespace = self._evidence.expectations.istio_namespace
        now = {
            root
            for each in self._evidence.root_certificates
            if each.metadata.namespace == namespace
            for root in parse(each.data.pem)
        }
        lost = [each for each in parse(before.roots) if each not in now]
        if lost:
            yield Finding(
                f"ConfigMap {namespace}/{ROOTS}",
                f"no longer contains the root {lost[0].subject.rfc4514_string()!r} of the "
                "baseline: proxies from before the upgrade and from after it do not trust each "
                "other",
                "the roots of the baseline, beside new ones",
                "add the previous root to the roots of istiod's CA until all workloads restarted",
                problem="rollback-roots",
            )

    def _newer_proxies(self) -> Iterator[Finding]:
        """Yield how many proxies a rollback would leave newer than istiod."""
        versions = [each for each in ProxySkew(self._evidence).versions.values() if each]
        newer = [each for each in versions if each[:2] > self.previous[:2]]
        if newer:
            yield Finding(
                "Proxies",
                f"{len(newer)} of {len(versions)} run {minor(max(newer))} or newer and would be "
                f"newer than istiod {self.previous}",
                remedy="Restart their workloads right after a rollback, or with revisions before.",
                problem="rollback-proxies",
            )

    # --- the rollback, simulated ----------------------------------------------------------------

    @cached_property
    def _simulated(self) -> ShadowUpgrade:
        """The simulation with the previous release's programs (--shadow-rollback)."""
        self._need_history()
        shadow = self._evidence.shadow
        found = Version.parse(shadow.version)
        if shadow.skipped_reason or (found and self._upgrade.target.met_by(found)):
            raise NotApplicable(
                f"no rollback was simulated ({flag('simulation.rollback')} with the previous "
                "release's programs)"
            )
        if found is None or found[:2] != self.previous[:2]:
            raise CouldNotVerify(
                f"the simulation used istiod {shadow.version}, and the previous release is "
                f"{self.previous}",
                f"pass {SHADOW_OPTIONS} of {self.previous}",
            )
        return ShadowUpgrade(self._evidence, shadow)

    @property
    def proxies(self) -> int:
        """How many proxies the simulation represents."""
        return self._simulated.proxies

    @property
    def rejected(self) -> list[Finding]:
        """What the previous release rejects or drops of the configuration that exists now."""
        simulated = self._simulated
        return [*simulated.refused, *simulated.gone]

    @property
    def changed(self) -> list[Finding]:
        """What the previous release would change without dropping anything."""
        return self._simulated.changed
