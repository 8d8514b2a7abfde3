"""Which probe pair is to be made; apart, so that reading an option loads no client."""

from typing import NamedTuple


class Plan(NamedTuple):
    """What is made: pods of this image, in this namespace; what they call beside each other.

    `throttled`: labels of pods that are made beside the pair, for what an EnvoyFilter has such pods
    answer, and `most` how many requests each gets.  `seconds` is how long all of it may take.
    """

    image: str = ""
    namespace: str = "istio-verification-probes"
    declared: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    throttled: tuple[dict[str, str], ...] = ()
    most: int = 20
    seconds: float = 60.0
