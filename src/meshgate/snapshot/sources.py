"""Where an item is from: a list of the API server, or a reader."""

from typing import Any

import msgspec

# API groups
NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"
WEBHOOKS = "admissionregistration.k8s.io"

# Names for several items, written `@name` in the catalogue's `reads` and in `requires`.
GROUPS = {
    "webhooks": ("mutating_webhooks", "validating_webhooks", "services", "endpoint_slices"),
    "routing": (
        "services",
        "endpoint_slices",
        "pods",
        "deployments",
        "gateways",
        "virtual_services",
        "destination_rules",
        "api_gateways",
        "gateway_classes",
        "listener_sets",
        "http_routes",
        "grpc_routes",
        "tls_routes",
        "tcp_routes",
        "udp_routes",
        "ingresses",
        "ingress_classes",
        "@mesh",
    ),
    # which objects belong to the mesh
    "mesh": ("namespaces", "pods", "injector_configs"),
    # what is connected to, and the roots that it trusts
    "wire": ("namespaces", "pods", "services", "root_certificates"),
    # the running mesh, which an upgrade is compared with
    "running": ("namespaces", "pods", "@webhooks", "istiod"),
}


class Listed(msgspec.Struct, frozen=True):
    """An item that is the list of one Kubernetes kind.

    Attributes:
        group: the API group, empty for the core API.
        resource: the plural name in the API's paths.
        versions: the API versions that the type decodes, the preferred one first.
        optional: whether a cluster may lack the kind (its CRD is not installed).
        only: a field selector, where a few of many objects are enough.
        ambient: whether only a mesh with ambient mode needs it: earlier releases did not record it.
    """

    group: str
    resource: str
    versions: tuple[str, ...] = ("v1",)
    optional: bool = False
    only: str = ""
    ambient: bool = False


class Source(msgspec.Struct, frozen=True):
    """An item that a reader produces.

    Attributes:
        reader: the function, as `module:function` below `meshgate.collect`.
        requires: the items (or `@group`) that must have been read in full.
        after: the items that the reader waits for where they are read too.
        cleans_up: whether it removes what it created, and gets time for that after the deadline.
        ambient: whether only a mesh with ambient mode has it: earlier releases did not record it.
    """

    reader: str
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    cleans_up: bool = False
    ambient: bool = False


class Kind(msgspec.Struct, frozen=True):
    """One list of the API server, and the type that decodes one of its objects.

    Attributes:
        item: its name in the snapshot.
        version: the preferred API version.
        older: other versions that the type decodes too, the preferred one first.
        optional: whether a cluster may lack the kind.
        only: a field selector.
        namespace: the namespace that is listed; empty for all.
    """

    item: str
    group: str
    version: str
    resource: str
    type: Any
    optional: bool = False
    only: str = ""
    older: tuple[str, ...] = ()
    namespace: str = ""

    @property
    def path(self) -> str:
        """The path of the list on the API server."""
        within = f"namespaces/{self.namespace}/" if self.namespace else ""
        return f"{self.root}/{self.version}/{within}{self.resource}"

    @property
    def root(self) -> str:
        """The path of its API group."""
        return f"/apis/{self.group}" if self.group else "/api"

    @property
    def name(self) -> str:
        """The resource with its group: `deployments.apps`."""
        return self.resource + (f".{self.group}" if self.group else "")

    @property
    def right(self) -> str:
        """The right to list it: `list deployments.apps`."""
        return f"list {self.name}"
