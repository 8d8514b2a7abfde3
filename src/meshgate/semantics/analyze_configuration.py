"""The configuration that can disprove messages of `istioctl analyze`."""

from typing import NamedTuple

from meshgate.semantics.hosts import DEFAULT_DOMAIN
from meshgate.snapshot.istio import (
    DestinationRule,
    EnvoyFilter,
    Gateway,
    ServiceEntry,
    VirtualService,
    WorkloadEntry,
)
from meshgate.snapshot.kubernetes import Metadata, Pod, Service
from meshgate.snapshot.mcs import ServiceImport
from meshgate.snapshot.request_authentication import RequestAuthentication
from meshgate.snapshot.telemetry import Telemetry


class Configuration(NamedTuple):
    """The objects that can disprove a message.

    Attributes:
        domain: the cluster's.
        root_namespace: the mesh's.
        default_export: where VirtualServices without exportTo are exported to; empty for all.
        remote_clusters: the other clusters whose objects istiod reads.
        revisions: of the istiods that run.
        service_imports: those in namespaces that istiod watches.
        mcs_hosts: whether every istiod serves the hosts of ServiceImports.
        default_service_export: where Services without exportTo are exported to; empty for all.
    """

    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    service_entries: tuple[ServiceEntry, ...] = ()
    services: tuple[Service, ...] = ()
    pods: tuple[Pod, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    telemetries: tuple[Telemetry, ...] = ()
    workload_entries: tuple[WorkloadEntry, ...] = ()
    request_authentications: tuple[RequestAuthentication, ...] = ()
    domain: str = DEFAULT_DOMAIN
    root_namespace: str = ""
    default_export: tuple[str, ...] = ()
    remote_clusters: tuple[str, ...] = ()
    revisions: frozenset[str] = frozenset()
    service_imports: tuple[ServiceImport, ...] = ()
    mcs_hosts: bool = False
    default_service_export: tuple[str, ...] = ()

    def virtual_service(self, origin: str) -> VirtualService | None:
        """Return the VirtualService that a message is about."""
        return next(
            (each for each in self.virtual_services if key_of(each.metadata) == object_of(origin)),
            None,
        )


def object_of(origin: str) -> tuple[str, str]:
    """Return the namespace and name in `Kind namespace/name`."""
    namespace, _, name = origin.partition(" ")[2].partition("/")
    return namespace, name


def key_of(metadata: Metadata) -> tuple[str, str]:
    return metadata.namespace, metadata.name


def subject(kind: str, metadata: Metadata) -> str:
    return f"{kind} {metadata.namespace}/{metadata.name}"
