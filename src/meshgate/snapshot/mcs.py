"""Kubernetes' Multi-Cluster Services API, as far as facts use it."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata

# What istiod reads by default (MCS_API_GROUP and MCS_API_VERSION).
MCS_GROUP, MCS_VERSION = "multicluster.x-k8s.io", "v1alpha1"


class ServiceImportSpec(Base, frozen=True):
    """`ips`: the addresses for which istiod serves the host; it ignores an import without one."""

    ips: tuple[str, ...] = ()


class ServiceImport(Base, frozen=True):
    """A Service of the cluster set; `api_version` is the one at which it was read."""

    metadata: Metadata
    api_version: str = ""
    spec: ServiceImportSpec = ServiceImportSpec()
