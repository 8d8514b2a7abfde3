"""What an injector's own configuration says of the pods that its webhook selects."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector


class InjectorConfig(Base, frozen=True):
    """The ConfigMaps of one revision's injector and mesh config, as far as checks use them.

    Attributes:
        revision: the revision whose istiod uses it.
        policy: `enabled`, or `disabled` where pods must opt in by themselves.
        never: selectors of pods that are not injected (neverInjectSelector).
        always: selectors of pods that are (alwaysInjectSelector).
        excluded_ports: inbound ports that bypass every sidecar, comma-separated.
        included_ports: the only inbound ports that sidecars handle; empty or `*` for all.
        discovery: selectors of the namespaces that istiod watches (discoverySelectors of the mesh
            config); empty for all.
    """

    revision: str
    policy: str = "enabled"
    never: tuple[LabelSelector, ...] = ()
    always: tuple[LabelSelector, ...] = ()
    excluded_ports: str = ""
    included_ports: str = ""
    discovery: tuple[LabelSelector, ...] = ()
