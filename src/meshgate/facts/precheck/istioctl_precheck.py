"""The messages of `istioctl x precheck`, as findings."""

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.releases import use_istioctl_of
from meshgate.semantics.versions import Version
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.verdict import CouldNotVerify, Finding

# "missing permission to create": the person who applies the upgrade needs it, and meshgate does not
OWN_RIGHTS = "IST0141"


class Precheck:
    """The messages of one precheck that could read everything except Secrets."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @property
    def _messages(self) -> list[AnalysisMessage]:
        precheck = self._evidence.precheck
        version, target = Version.parse(precheck.istioctl_version), self._upgrade.target
        if version is None or version[:2] != target.version[:2]:
            raise CouldNotVerify(
                f"istioctl has the version {precheck.istioctl_version or '(unknown)'}, and the "
                f"target is {target}: each minor version checks something else",
                use_istioctl_of(target),
            )
        if precheck.refused:
            raise CouldNotVerify(
                f"istioctl x precheck was refused {len(precheck.refused)} reads, "
                f"the first was {precheck.refused[0]}",
                f"report a defect of meshgate with istioctl {precheck.istioctl_version}",
            )
        return [each for each in precheck.messages if each.code != OWN_RIGHTS]

    @property
    def namespaces(self) -> int:
        """How many namespaces the cluster has, all of which istioctl looked at."""
        return len(self._evidence.namespaces)

    @property
    def left_out(self) -> str:
        """Return a note about messages that are left out; empty if there are none."""
        count = sum(each.code == OWN_RIGHTS for each in self._evidence.precheck.messages)
        return (
            f"{count} findings of istioctl x precheck ({OWN_RIGHTS}) are omitted: they only say "
            "that meshgate itself has no right to install Istio"
            if count
            else ""
        )

    @property
    def errors(self) -> list[Finding]:
        """Messages of the level Error."""
        return self._of("Error")

    @property
    def warnings(self) -> list[Finding]:
        """Messages of the level Warning."""
        return self._of("Warning")

    def _of(self, level: str) -> list[Finding]:
        return [
            Finding(
                each.origin or "the cluster",
                f"{each.code} {each.message}",
                remedy=f"see {each.documentation_url.partition('?')[0]}"
                if each.documentation_url
                else "",
                problem=each.code,
            )
            for each in self._messages
            if each.level == level
        ]
