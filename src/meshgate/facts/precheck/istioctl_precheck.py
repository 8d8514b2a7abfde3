"""What `istioctl x precheck` says of an upgrade, as findings."""

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.versions import Version
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.verdict import CouldNotVerify, Finding

# "may it create this": the verifier may not, by design; whoever applies the upgrade must
OWN_RIGHTS = "IST0141"


class Precheck:
    """The messages of one precheck that could look at everything but Secrets."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._upgrade = Upgrade(evidence)

    @property
    def _messages(self) -> list[AnalysisMessage]:
        precheck = self._evidence.precheck
        version, target = Version.parse(precheck.istioctl_version), self._upgrade.target
        if version is None or version[:2] != target[:2]:
            raise CouldNotVerify(
                f"istioctl is of {precheck.istioctl_version or 'no version'}, and the target is "
                f"{target}: what a precheck looks at changes with each minor version",
                f"name istioctl {target.major}.{target.minor} with --istioctl",
            )
        if precheck.refused:
            raise CouldNotVerify(
                f"istioctl x precheck was refused {len(precheck.refused)} reads, "
                f"the first was {precheck.refused[0]}",
                "please report this istioctl version: it is " + precheck.istioctl_version,
            )
        return [each for each in precheck.messages if each.code != OWN_RIGHTS]

    @property
    def left_out(self) -> str:
        """What was left out, in words; empty where nothing was."""
        count = sum(each.code == OWN_RIGHTS for each in self._evidence.precheck.messages)
        return (
            f"{count} findings of istioctl x precheck ({OWN_RIGHTS}) were left out: they only say "
            "that the verifier itself may not install Istio"
            if count
            else ""
        )

    @property
    def errors(self) -> list[Finding]:
        """What precheck calls an error."""
        return self._of("Error")

    @property
    def warnings(self) -> list[Finding]:
        """What it warns of."""
        return self._of("Warning")

    def _of(self, level: str) -> list[Finding]:
        return [
            Finding(
                each.origin or "the cluster",
                f"{each.code} {each.message}",
                remedy=f"see {each.documentation_url.partition('?')[0]}"
                if each.documentation_url
                else "",
            )
            for each in self._messages
            if each.level == level
        ]
