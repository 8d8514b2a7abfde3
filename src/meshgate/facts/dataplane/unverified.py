"""What stage D cannot verify, and what `--accept-unverified` accepts of it."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics import workloads
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import AMBIENT, EXTERNAL_CA
from meshgate.verdict import CouldNotVerify, Finding


class Unverified:
    """The parts of the mesh that are out of reach of stage D's probes."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def accepts(self, part: str) -> bool:
        """Return whether `--accept-unverified` names this part."""
        return part in self._evidence.expectations.accepted_unverified

    @cached_property
    def ambient(self) -> list[Pod]:
        """Active pods in ambient mode, and the waypoints that serve them."""
        namespaces = {each.metadata.name: each for each in self._evidence.namespaces}
        return [
            pod
            for pod in self._evidence.pods
            if workloads.is_active(pod)
            and (workloads.ambient(pod, namespaces) or workloads.is_waypoint(pod))
        ]

    def need(self, part: str, *, always: bool = False) -> None:
        """Raise CouldNotVerify if the mesh has this part and it was not accepted.

        Args:
            part: AMBIENT.
            always: whether to raise even if it is accepted.
        """
        if part == AMBIENT and self.ambient and (always or not self.accepts(AMBIENT)):
            raise CouldNotVerify(
                f"{_counted(self.ambient)} in ambient mode, which is not verified",
                f"verify them by other means and pass --accept-unverified={AMBIENT}"
                if not always
                else "omit --require-mtls=strict: it cannot be verified in ambient mode",
            )

    @property
    def accepted(self) -> list[Finding]:
        """What was not verified and is accepted: a warning in every report."""
        found = []
        if self.ambient and self.accepts(AMBIENT):
            found.append(
                Finding(
                    "the mesh",
                    f"{_counted(self.ambient)} in ambient mode, which is not verified (accepted "
                    f"with --accept-unverified={AMBIENT})",
                    remedy="Verify them by other means.",
                    problem="ambient-not-verified",
                )
            )
        if self._evidence.port_probes.unsigned and self.accepts(EXTERNAL_CA):
            found.append(
                Finding(
                    "the mesh",
                    "no port was probed with a mesh certificate: istiod signs none (accepted with "
                    f"--accept-unverified={EXTERNAL_CA})",
                    remedy="Verify that workloads accept each other's certificates by other means.",
                    problem="no-mesh-certificate",
                )
            )
        return found


def _counted(pods: list[Pod]) -> str:
    if len(pods) == 1:
        return f"Pod {pods[0].metadata.namespace}/{pods[0].metadata.name} is"
    spaces = sorted({pod.metadata.namespace for pod in pods})
    where = ", ".join(spaces[:3]) + (" and others" if len(spaces) > 3 else "")
    return f"{len(pods)} pods (namespaces {where}) are"
