"""Istio's own resources, as far as facts use them."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.kubernetes import Metadata


class WorkloadSelector(Base, frozen=True):
    labels: dict[str, str] = {}


class EnvoyFilterSpec(Base, frozen=True):
    workload_selector: WorkloadSelector | None = None


class EnvoyFilter(Base, frozen=True):
    metadata: Metadata
    spec: EnvoyFilterSpec = EnvoyFilterSpec()
