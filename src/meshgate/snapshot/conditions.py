"""Conditions of AuthorizationPolicies, with the values that may leave the cluster."""

import msgspec

from meshgate.snapshot.base import Base

# The conditions whose values are evaluated; those of others, such as headers, may be secret.
EVALUATED = ("destination.port", "source.namespace", "source.principal")


class AuthorizationCondition(Base, frozen=True):
    """A condition (`when`), with its values only where they are evaluated."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key not in EVALUATED:
            msgspec.structs.force_setattr(self, "values", ())
            msgspec.structs.force_setattr(self, "not_values", ())
