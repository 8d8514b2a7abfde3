"""Istio's Telemetry, as far as facts use it."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.istio import ExtensionProvider, PeerSelector, TargetRef
from meshgate.snapshot.kubernetes import Metadata


class ProviderUse(Base, frozen=True):
    """One row of a Telemetry, for tracing, metrics or access logs."""

    providers: tuple[ExtensionProvider, ...] = ()


class TelemetrySpec(Base, frozen=True):
    selector: PeerSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    tracing: tuple[ProviderUse, ...] = ()
    metrics: tuple[ProviderUse, ...] = ()
    access_logging: tuple[ProviderUse, ...] = ()


class Telemetry(Base, frozen=True):
    metadata: Metadata
    spec: TelemetrySpec = TelemetrySpec()
