"""What no check verifies, and what `--accept-unverified` accepts of it."""

from functools import cached_property

from meshgate.facts.ambient.membership import AmbientMesh
from meshgate.facts.evidence import Evidence
from meshgate.settings import flag
from meshgate.snapshot.model import AMBIENT, EXTERNAL_CA
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class Unverified:
    """The parts of the mesh that no probe reaches."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def accepts(self, part: str) -> bool:
        """Return whether `--accept-unverified` names this part."""
        return part in self._evidence.expectations.accepted_unverified

    @cached_property
    def _ambient(self) -> AmbientMesh:
        return AmbientMesh(self._evidence)

    @property
    def accepts_ambient(self) -> bool:
        """Whether ambient mode is accepted unverified; never with `--require-mtls=strict`."""
        return self.accepts(AMBIENT) and self._evidence.expectations.require_mtls != "strict"

    def of_ambient(self, why: str, remedy: str) -> CouldNotVerify | NotApplicable:
        """Return the error for a part of ambient mode that was not verified.

        Args:
            why: what was not verified, and why.
            remedy: what makes it possible to verify it.

        Returns:
            NotApplicable if ambient mode is accepted unverified, else CouldNotVerify.
        """
        option = flag("criteria.accept_unverified", AMBIENT)
        if self.accepts_ambient:
            return NotApplicable(f"{why} (accepted with {option})")
        strict = (
            f" without {flag('criteria.require_mtls', 'strict')}" if self.accepts(AMBIENT) else ""
        )
        return CouldNotVerify(why, f"{remedy}, or accept it with {option}{strict}")

    @property
    def accepted(self) -> list[Finding]:
        """What was not verified and is accepted: a warning in stage D."""
        found = []
        if self._evidence.port_probes.unsigned and self.accepts(EXTERNAL_CA):
            found.append(
                Finding(
                    "the mesh",
                    "no port was probed with a mesh certificate: istiod signs none (accepted with "
                    f"{flag('criteria.accept_unverified', EXTERNAL_CA)})",
                    remedy="Verify that workloads accept each other's certificates by other means.",
                    problem="no-mesh-certificate",
                )
            )
        return found

    @property
    def note(self) -> str:
        """The remark on an accepted ambient mode for every report; empty if there is none."""
        if self.accepts(AMBIENT) and self._ambient.is_used:
            return (
                f"what is not verified of ambient mode is accepted "
                f"({flag('criteria.accept_unverified', AMBIENT)}): {self._ambient.words}"
            )
        return ""
