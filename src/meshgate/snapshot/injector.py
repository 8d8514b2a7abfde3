"""How istiod is configured: its injector, its mesh config and the environment of its Deployment."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector


class InjectorConfig(Base, frozen=True):
    """The ConfigMaps and the environment of one revision's istiod, as far as checks use them.

    Attributes:
        revision: the revision whose istiod uses it.
        policy: `enabled`, or `disabled` where pods must opt in by themselves.
        never: selectors of pods that are not injected (neverInjectSelector).
        always: selectors of pods that are (alwaysInjectSelector).
        excluded_ports: inbound ports that bypass every sidecar, comma-separated.
        included_ports: the only inbound ports that sidecars handle; empty or `*` for all.
        discovery: selectors of the namespaces that istiod watches (discoverySelectors of the mesh
            config); empty for all.
        trust_domain: trustDomain of the mesh config; empty for the default.
        trust_domain_aliases: trust domains whose identities count as the mesh's own.
        root_namespace: rootNamespace of the mesh config; empty for istiod's own namespace.
        cluster_domain: the domain of Services; empty for the default.
        cluster_id: the ID of this cluster (CLUSTER_ID); empty if it is not known.
        scoped_gateways: whether a Gateway selects only pods in its namespace
            (PILOT_SCOPE_GATEWAY_TO_NAMESPACE).
    """

    revision: str
    policy: str = "enabled"
    never: tuple[LabelSelector, ...] = ()
    always: tuple[LabelSelector, ...] = ()
    excluded_ports: str = ""
    included_ports: str = ""
    discovery: tuple[LabelSelector, ...] = ()
    trust_domain: str = ""
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = ""
    cluster_domain: str = ""
    cluster_id: str = ""
    scoped_gateways: bool = False
