"""How istiod is configured: its injector, its mesh config and the environment of its Deployment."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import LabelSelector


class DefaultExports(Base, frozen=True):
    """Where objects without exportTo are exported to, by the mesh config; empty for everywhere."""

    virtual_services: tuple[str, ...] = ()
    destination_rules: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


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
        ingress_mode: ingressControllerMode of the mesh config; empty for the default.
        ingress_class: ingressClass of the mesh config; empty for the default.
        ingress_selector: the value of the label `istio` of the pods that serve Kubernetes Ingress;
            empty for the default.
        default_exports: where objects without exportTo are exported to.
        least_tls: tlsDefaults.minProtocolVersion of the mesh config.
        several_providers: whether one proxy may have CUSTOM policies of several providers
            (PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS).
        gateway_controller: the controllerName of GatewayClasses that istiod serves
            (PILOT_GATEWAY_API_CONTROLLER_NAME); empty for the default.
        auto_mtls: enableAutoMtls of the mesh config: whether proxies use mTLS without a
            DestinationRule that sets it.
        mcs_hosts: whether istiod serves `NAME.NAMESPACE.svc.clusterset.local` for ServiceImports of
            the API group and version that this meshgate reads (ENABLE_MCS_HOST).
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
    ingress_mode: str = ""
    ingress_class: str = ""
    ingress_selector: str = ""
    default_exports: DefaultExports = DefaultExports()
    least_tls: str = ""
    auto_mtls: bool = True
    gateway_controller: str = ""
    several_providers: bool = False
    mcs_hosts: bool = False
