"""Whether nodes can pull images."""

from meshgate.snapshot.base import Base


class ImagePull(Base, frozen=True):
    """One image on one node.

    Attributes:
        node: its name.
        image: the image.
        refused: why the kubelet cannot pull it; empty if it has it.
        error: why that is not known: no pod, or no answer in time.
    """

    node: str
    image: str
    refused: str = ""
    error: str = ""


class ImagePulls(Base, frozen=True):
    """All of them, or why no image was requested."""

    skipped_reason: str = ""
    pulls: tuple[ImagePull, ...] = ()
