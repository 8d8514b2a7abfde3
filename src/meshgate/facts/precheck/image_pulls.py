"""Images of the target that a node cannot pull."""

from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.settings import flag
from meshgate.snapshot.image_pulls import ImagePull
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class ImagePulls:
    """What each node made of each image."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def all(self) -> tuple[ImagePull, ...]:
        """One result for each node and image; raises NotApplicable if no image was named."""
        if not self._evidence.expectations.images:
            raise NotApplicable(f"no image was named ({flag('probes.probe_image')})")
        found = self._evidence.image_pulls
        if found.skipped_reason:
            raise NotApplicable(found.skipped_reason)
        return found.pulls

    @property
    def refused(self) -> list[Finding]:
        """Images that a node cannot pull.

        Raises CouldNotVerify if there is none, and a node reported nothing.
        """
        found = [
            Finding(
                f"Node {each.node}",
                f"cannot pull the image {each.image}: {each.refused}",
                "an image that every node has or can pull",
                f"check the registry of {each.image}, the node's access to it and its pull secrets",
                problem="image-not-pulled",
                about=(("image", each.image),),
            )
            for each in self.all
            if each.refused
        ]
        unknown = [each for each in self.all if each.error]
        if unknown and not found:
            raise CouldNotVerify(
                f"Node {unknown[0].node} did not report whether it can pull {unknown[0].image}: "
                f"{unknown[0].error}",
                f"raise {flag('probes.probe_image_deadline')}, or look at the events of the "
                "probes' namespace",
                transient=True,
            )
        return found
