"""Behavior changes between the running and the target release that affect this mesh."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.detections import DETECTIONS
from meshgate.facts.precheck.detections.base import Mesh, Sign
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.releases import Rule, rules
from meshgate.semantics.versions import Version
from meshgate.snapshot.upgrade import Settings
from meshgate.verdict import Finding


class Changes:
    """The changes after the running release, up to the target."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @cached_property
    def ahead(self) -> dict[str, Rule]:
        """The rules of changes that the upgrade brings, by name.

        Raises CouldNotVerify if the ledger does not know the target.
        """
        self._upgrade.need_known_target()
        oldest, target = self._upgrade.oldest, self._upgrade.newest_patch
        return {
            name: rule
            for name, rule in rules().items()
            if not rule.holds(oldest) and rule.holds(target)
        }

    @property
    def removed(self) -> list[Finding]:
        """Settings and objects in use that stop working."""
        return self._found(removed=True)

    @property
    def turned(self) -> list[Finding]:
        """Objects that behave differently after the upgrade."""
        return self._found(removed=False)

    def _found(self, *, removed: bool) -> list[Finding]:
        return [
            _finding(name, rule, sign)
            for name, rule in self.ahead.items()
            if rule.removed is removed
            for sign in self._signs(rule)
        ]

    def _signs(self, rule: Rule) -> list[Sign]:
        settings = self._evidence.settings if _needs_settings(rule) else ()
        affected = tuple(each for each in settings if not _opted_out(each, rule))
        if settings and not affected:
            return []
        return list(DETECTIONS[rule.look](Mesh(self._evidence, affected), rule))


def _needs_settings(rule: Rule) -> bool:
    return bool(rule.unless or rule.profile) or rule.look in SETTINGS_LOOKS


# Detections that read the settings of istiod, its chart or the CNI.
SETTINGS_LOOKS = frozenset(
    {
        *("variable", "proxy_metadata", "mesh_config", "tracing", "compatibility", "nftables"),
        *("alpha_crd", "ambient_reconcile", "dry_run", "excluded_ambient", "tls_listener"),
        *("networks", "tcp_route", "prometheus_port"),
    }
)


def _opted_out(settings: Settings, rule: Rule) -> bool:
    """Whether one istiod keeps the old behavior: by a variable or by compatibilityVersion."""
    if {*settings.variables, *settings.cni} & {*rule.unless}:
        return True
    profile, chosen = Version.parse(rule.profile), Version.parse(settings.compatibility)
    return profile is not None and chosen is not None and chosen[:2] <= profile[:2]


def _finding(name: str, rule: Rule, sign: Sign) -> Finding:
    return Finding(
        sign.subject,
        f"{sign.seen}; since Istio {rule.since[-1]}, {rule.what}",
        remedy=rule.do,
        problem=name,
        owner=sign.owner,
        about=sign.about,
    )
