"""The plan of a probe pair; in a module without clients, since options import it."""

from typing import NamedTuple

from meshgate.settings import Probes


class Plaintext(NamedTuple):
    """A port, `namespace/pod:port`, and its URL: http, or tcp where nothing is sent."""

    key: str
    url: str


class Plan(NamedTuple):
    """The pods to create, and what they call besides each other.

    Attributes:
        image: their image; empty for no pair.
        namespace: where they are created.
        declared: URLs of Services that must answer.
        sampled: URLs of Services that are expected to answer.
        throttled: labels of further pods, one for each set that EnvoyFilters select.
        plaintext: addresses that pods outside the mesh connect to in plaintext.
        ambient: whether the namespace is in ambient mode, so that the pods have no sidecar.
        most: requests to each of those in `throttled`.
        seconds: for all of it.
    """

    image: str = ""
    namespace: str = "istio-verification-probes"
    declared: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    throttled: tuple[dict[str, str], ...] = ()
    plaintext: tuple[Plaintext, ...] = ()
    ambient: bool = False
    most: int = 20
    seconds: float = 60.0

    @classmethod
    def of(cls, settings: Probes) -> "Plan":
        """Return the plan of these settings; what is called by itself is added by the reader."""
        return cls(
            image=settings.probe_pair,
            namespace=settings.probe_namespace,
            declared=settings.probe_call,
            seconds=settings.probe_deadline,
        )
