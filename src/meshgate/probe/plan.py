"""Which probe pair is to be made; apart, so that reading an option loads no client."""

from typing import NamedTuple


class Plan(NamedTuple):
    """What is made: pods of this image, in this namespace; what they call beside each other.

    `seconds` is how long all of it may take.
    """

    image: str = ""
    namespace: str = "istio-verification-probes"
    declared: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    seconds: float = 60.0
