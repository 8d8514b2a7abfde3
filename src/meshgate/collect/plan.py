"""What can be read, and the right that each item needs: the ClusterRole is generated from here.

An item is a list of one Kubernetes kind, or a source that rests on such lists (istiod, analysis).
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from meshgate.snapshot.gateway_api import ApiGateway, Route
from meshgate.snapshot.istio import (
    AuthorizationPolicy,
    DestinationRule,
    EnvoyFilter,
    Gateway,
    PeerAuthentication,
    ServiceEntry,
    VirtualService,
    WorkloadEntry,
)
from meshgate.snapshot.kubernetes import (
    Controller,
    Deployment,
    DisruptionBudget,
    EndpointSlice,
    Namespace,
    NetworkPolicy,
    Pod,
    RootCertificate,
    Service,
    WebhookConfiguration,
)
from meshgate.snapshot.upgrade import Definition, Node


class Kind(msgspec.Struct, frozen=True):
    """A Kubernetes list: `item` is its name in the snapshot, `type` how one object is decoded.

    `optional`: a cluster without this kind (its CRD) has none of them, which is no gap.
    `only`: a field selector, where a few of many objects are all that is needed.
    """

    item: str
    group: str
    version: str
    resource: str
    type: Any
    optional: bool = False
    only: str = ""

    @property
    def path(self) -> str:
        """The cluster-wide list's path on the API server."""
        root = f"/apis/{self.group}" if self.group else "/api"
        return f"{root}/{self.version}/{self.resource}"

    @property
    def right(self) -> str:
        """The right as people write it: `list deployments.apps`."""
        return f"list {self.resource}" + (f".{self.group}" if self.group else "")


NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"

KINDS = {
    kind.item: kind
    for kind in (
        Kind("namespaces", "", "v1", "namespaces", Namespace),
        Kind("pods", "", "v1", "pods", Pod),
        Kind("deployments", "apps", "v1", "deployments", Deployment),
        Kind(
            "envoy_filters",
            "networking.istio.io",
            "v1alpha3",
            "envoyfilters",
            EnvoyFilter,
            optional=True,
        ),
        Kind(
            "mutating_webhooks",
            "admissionregistration.k8s.io",
            "v1",
            "mutatingwebhookconfigurations",
            WebhookConfiguration,
        ),
        Kind(
            "validating_webhooks",
            "admissionregistration.k8s.io",
            "v1",
            "validatingwebhookconfigurations",
            WebhookConfiguration,
        ),
        Kind("services", "", "v1", "services", Service),
        Kind("endpoint_slices", "discovery.k8s.io", "v1", "endpointslices", EndpointSlice),
        Kind(
            "root_certificates",
            "",
            "v1",
            "configmaps",
            RootCertificate,
            only="metadata.name=istio-ca-root-cert",
        ),
        Kind("stateful_sets", "apps", "v1", "statefulsets", Controller),
        Kind("daemon_sets", "apps", "v1", "daemonsets", Controller),
        Kind("disruption_budgets", "policy", "v1", "poddisruptionbudgets", DisruptionBudget),
        Kind("network_policies", "networking.k8s.io", "v1", "networkpolicies", NetworkPolicy),
        Kind(
            "peer_authentications",
            SECURITY,
            "v1",
            "peerauthentications",
            PeerAuthentication,
            optional=True,
        ),
        Kind(
            "authorization_policies",
            SECURITY,
            "v1",
            "authorizationpolicies",
            AuthorizationPolicy,
            optional=True,
        ),
        Kind("gateways", NETWORKING, "v1", "gateways", Gateway, optional=True),
        Kind(
            "virtual_services", NETWORKING, "v1", "virtualservices", VirtualService, optional=True
        ),
        Kind(
            "destination_rules",
            NETWORKING,
            "v1",
            "destinationrules",
            DestinationRule,
            optional=True,
        ),
        Kind("workload_entries", NETWORKING, "v1", "workloadentries", WorkloadEntry, optional=True),
        Kind("nodes", "", "v1", "nodes", Node),
        Kind("definitions", "apiextensions.k8s.io", "v1", "customresourcedefinitions", Definition),
        Kind("service_entries", NETWORKING, "v1", "serviceentries", ServiceEntry, optional=True),
        Kind("api_gateways", GATEWAY_API, "v1", "gateways", ApiGateway, optional=True),
        Kind("http_routes", GATEWAY_API, "v1", "httproutes", Route, optional=True),
        Kind("grpc_routes", GATEWAY_API, "v1", "grpcroutes", Route, optional=True),
        # of the experimental channel: many clusters have none
        Kind("tls_routes", GATEWAY_API, "v1alpha2", "tlsroutes", Route, optional=True),
    )
}

ISTIOD = "istiod"
METRICS = "istiod_numbers"
ANALYSIS = "analysis"
ADMISSION = "admission"
SIGNING = "signing"
RETRY_FILTERS = "retry_filters"
BURSTS = "bursts"
CONTACTS = "contacts"
PAIR = "pair"
ISTIOCTL = "istioctl"
PRECHECK = "precheck"
SETTINGS = "settings"
WORKLOADS = "workloads"
INGRESS = "ingress"
SHADOW = "shadow"
OFFLINE_BUNDLE = "rehearsal"

# What tells what runs now, for an upgrade to be compared with.
_TODAY = (
    "namespaces",
    "pods",
    "mutating_webhooks",
    "validating_webhooks",
    "services",
    "endpoint_slices",
    ISTIOD,
)

# What else must have been read for a source: istiod's replicas are pods.
REQUIRES = {
    ISTIOD: ("pods",),
    METRICS: ("pods",),
    ADMISSION: (
        "namespaces",
        "mutating_webhooks",
        "validating_webhooks",
        "services",
        "endpoint_slices",
    ),
    SIGNING: ("pods", "root_certificates"),
    RETRY_FILTERS: ("pods", ISTIOD),
    CONTACTS: ("pods", "services", "root_certificates"),
    # after istiod, or it would tell of two proxies that no list of pods has
    PAIR: ("namespaces", "pods", "services", ISTIOD),
    INGRESS: (
        "services",
        "endpoint_slices",
        "pods",
        "deployments",
        "gateways",
        "virtual_services",
        "destination_rules",
        "api_gateways",
        "http_routes",
        "grpc_routes",
        "tls_routes",
    ),
    SHADOW: _TODAY,
    OFFLINE_BUNDLE: _TODAY,
}

ITEMS = frozenset(
    {
        *KINDS,
        ISTIOD,
        METRICS,
        ANALYSIS,
        ADMISSION,
        SIGNING,
        RETRY_FILTERS,
        BURSTS,
        CONTACTS,
        PAIR,
        ISTIOCTL,
        PRECHECK,
        SETTINGS,
        WORKLOADS,
        INGRESS,
        SHADOW,
        OFFLINE_BUNDLE,
    }
)

# What is awaited where it is read too; without it there is less to read, and no gap.
AFTER = {PAIR: (RETRY_FILTERS,)}

# What else is read by a list: how istiod is set, and what a restart reaches.
ALSO_READ = (
    ("", ("configmaps",)),
    ("apps", ("daemonsets", "deployments", "statefulsets")),
)

# What `istioctl x precheck` reads; whether it may create things is answered by the façade.
PRECHECK_READS = (
    ("", ("configmaps", "namespaces", "pods", "services")),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ("apps", ("deployments",)),
)

# Istio's own kinds, and what stands around them: read by istiod and by istioctl alike.
_ISTIO_READS = (
    (
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    ),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ("extensions.istio.io", ("trafficextensions", "wasmplugins")),
    (
        "networking.istio.io",
        (
            "destinationrules",
            "envoyfilters",
            "gateways",
            "proxyconfigs",
            "serviceentries",
            "sidecars",
            "virtualservices",
            "workloadentries",
            "workloadgroups",
        ),
    ),
    (
        "security.istio.io",
        ("authorizationpolicies", "peerauthentications", "requestauthentications"),
    ),
    ("telemetry.istio.io", ("telemetries",)),
)

# What `istioctl analyze` 1.28 and 1.29 list and watch, measured at the façade; a version that asks
# for more is refused that, and its analysis could not be verified.  Secrets are not among them: the
# façade answers those itself, as empty.
ANALYZE_READS = (
    *_ISTIO_READS,
    ("", ("configmaps", "namespaces", "nodes", "pods", "services")),
    ("apps", ("deployments",)),
    ("gateway.networking.k8s.io", ("gateways", "grpcroutes", "httproutes", "listenersets")),
)

# What an istiod reads to make configuration, where it may write nothing.
SHADOW_READS = (
    *_ISTIO_READS,
    ("", ("configmaps", "endpoints", "namespaces", "nodes", "pods", "serviceaccounts", "services")),
    ("discovery.k8s.io", ("endpointslices",)),
    (
        "gateway.networking.k8s.io",
        (
            "backendtlspolicies",
            "gatewayclasses",
            "gateways",
            "grpcroutes",
            "httproutes",
            "listenersets",
            "referencegrants",
            "tcproutes",
            "tlsroutes",
        ),
    ),
    ("inference.networking.k8s.io", ("inferencepools",)),
    ("networking.k8s.io", ("ingressclasses", "ingresses")),
)


def closure(items: Iterable[str]) -> frozenset[str]:
    """The items with all that they require; raises ValueError for a name that is none."""
    wanted: set[str] = set()
    new = set(items)
    if unknown := new - ITEMS:
        raise ValueError(f"no such item: {', '.join(sorted(unknown))}")
    while new:
        wanted |= new
        new = {required for item in new for required in REQUIRES.get(item, ())} - wanted
    return frozenset(wanted)
