"""What a shadow upgrade runs, and within which limits."""

from dataclasses import dataclass

from meshgate.settings import Settings, Simulation


@dataclass(frozen=True, kw_only=True)
class Programs(Simulation):
    """The settings of the shadow upgrade, with the version that the programs must have.

    Attributes:
        version: the target version; empty for any.
    """

    version: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "Programs | None":
        """Return the target's programs; None where the settings name none."""
        if not settings.simulation.istiod:
            return None
        target = settings.criteria.target_version or ""
        if settings.simulation.rollback:
            target = ""  # the check compares it with the release that ran before
        return cls(**vars(settings.simulation), version=target)
