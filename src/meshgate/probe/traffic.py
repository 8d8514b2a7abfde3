"""What is sent through the gateways: the settings, and the declared answers."""

from dataclasses import dataclass

from meshgate.settings import Ingress
from meshgate.snapshot.ingress import Answer


@dataclass(frozen=True, kw_only=True)
class Traffic(Ingress):
    """The settings of requests through the gateways, with the answers that a file declares."""

    answers: tuple[Answer, ...] = ()

    @classmethod
    def of(cls, settings: Ingress, answers: tuple[Answer, ...]) -> "Traffic":
        """Return the settings together with the answers."""
        return cls(**vars(settings), answers=answers)
