"""EnvoyFilters about Retry-After, and the configuration of the proxies that they select.

Patches and configurations may contain anything: only what is about this header is kept.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.istiod import Transport, config_dump_path
from meshgate.collect.kubernetes import Cluster
from meshgate.deadline import concurrently
from meshgate.semantics.config_revisions import LABEL
from meshgate.semantics.header_rules import header_rules
from meshgate.semantics.meshes import OwnMesh
from meshgate.semantics.retry_after import reaches
from meshgate.snapshot.base import Base
from meshgate.snapshot.istiod import IstiodReading
from meshgate.snapshot.items import KINDS
from meshgate.snapshot.kubernetes import Metadata, Pod
from meshgate.snapshot.retry_after import (
    GivenConfig,
    HeaderRule,
    RetryFilter,
    RetryFilters,
    RetryPatch,
)

# --- as they are written ------------------------------------------------------------------------


class _Proxy(Base, frozen=True):
    proxy_version: str = ""


class _Match(Base, frozen=True):
    context: str = "ANY"
    proxy: _Proxy = _Proxy()


class _Patch(Base, frozen=True):
    value: Any = None


class _ConfigPatch(Base, frozen=True):
    apply_to: str = ""
    match: _Match = _Match()
    patch: _Patch = _Patch()


class _Selector(Base, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class _TargetRef(Base, frozen=True):
    kind: str = ""
    name: str = ""


class _Spec(Base, frozen=True):
    workload_selector: _Selector = _Selector()
    target_refs: tuple[_TargetRef, ...] = ()
    config_patches: tuple[_ConfigPatch, ...] = ()


class _Written(Base, frozen=True):
    metadata: Metadata
    spec: _Spec = _Spec()


def _filters(written: Iterable[_Written]) -> tuple[RetryFilter, ...]:
    found = (
        RetryFilter(
            name=each.metadata.name,
            namespace=each.metadata.namespace,
            patches=tuple(_patches(each.spec.config_patches)),
            selector=each.spec.workload_selector.labels,
            gateways=tuple(ref.name for ref in each.spec.target_refs),
            revision=each.metadata.labels.get(LABEL, ""),
        )
        for each in written
    )
    return tuple(each for each in found if each.patches)


def _patches(written: Iterable[_ConfigPatch]) -> Iterable[RetryPatch]:
    for number, each in enumerate(written, 1):
        if found := header_rules(each.patch.value):
            yield RetryPatch(
                number=number,
                apply_to=each.apply_to,
                context=each.match.context,
                places=found,
                proxy_version=each.match.proxy.proxy_version,
            )


# --- as istiod gives them -----------------------------------------------------------------------


class _ListenerState(Base, frozen=True):
    listener: Any = None


class _Listener(Base, frozen=True):
    active_state: _ListenerState = _ListenerState()


class _Route(Base, frozen=True):
    route_config: Any = None


class _Extension(Base, frozen=True):
    ecds_filter: Any = None


class _Section(Base, frozen=True):
    dynamic_listeners: tuple[_Listener, ...] = ()
    dynamic_route_configs: tuple[_Route, ...] = ()
    ecds_filters: tuple[_Extension, ...] = ()


class _Dump(Base, frozen=True):
    """Only what may hold a place: the secrets of a dump are not even decoded."""

    configs: tuple[_Section, ...] = ()


# made before there are threads, see snapshot/model.py
_DUMPS = msgspec.json.Decoder(_Dump)


def given_places(dump: bytes) -> tuple[HeaderRule, ...]:
    """Return the header rules of a config dump; raise ValueError if it is not one."""
    found: set[HeaderRule] = set()
    for section in _DUMPS.decode(dump).configs:
        for listener in section.dynamic_listeners:
            found.update(header_rules(listener.active_state.listener))
        for route in section.dynamic_route_configs:
            # inbound routes are part of the listener; RDS delivers outbound routes only
            found.update(header_rules(route.route_config, "OUTBOUND"))
        for extension in section.ecds_filters:
            found.update(header_rules(extension.ecds_filter))
    return tuple(sorted(found, key=lambda place: (place.kind, place.value, place.side)))


def read(
    cluster: Cluster,
    transport: Transport,
    readings: Iterable[IstiodReading],
    own: OwnMesh,
    pods: Iterable[Pod],
) -> RetryFilters:
    """All EnvoyFilters, and the configuration of each proxy that one of them is for.

    Args:
        cluster: the cluster.
        transport: how to reach istiod.
        readings: what each istiod replica reported.
        own: the mesh.
        pods: all pods.

    Returns:
        The filters, and the header rules in the configuration of each proxy that they select.
    """
    written = cluster.objects(msgspec.structs.replace(KINDS["envoy_filters"], type=_Written))
    filters = _filters(written)
    by_proxy = {f"{pod.metadata.name}.{pod.metadata.namespace}": pod for pod in pods}
    replicas = {
        pod.metadata.name: pod for pod in pods if pod.metadata.namespace == own.istio_namespace
    }
    wanted = {
        proxy.proxy: replicas[reading.pod]
        for reading in readings
        for proxy in reading.proxies
        if reading.pod in replicas
        and (pod := by_proxy.get(proxy.proxy))
        and any(reaches(each, pod, own.root_namespace) for each in filters)
    }
    given = concurrently(
        lambda each: _given(transport, each, wanted[each]), sorted(wanted), workers=4
    )
    return RetryFilters(seen=len(written), filters=filters, given=tuple(given))


def _given(transport: Transport, proxy: str, replica: Pod) -> GivenConfig:
    try:
        session = transport.session(replica)
        try:
            answer = session.get(config_dump_path(proxy))
        finally:
            session.close()
        if answer.status != 200:
            words = answer.body[:200].decode(errors="replace").strip()
            raise ReadError(
                f"istiod answered {answer.status} {words}",
                "",
                transient=answer.status in (404, 503),
            )
        return GivenConfig(proxy=proxy, places=given_places(answer.body))
    except ReadError as error:
        if error.transient:
            return GivenConfig(proxy=proxy, error=error.why)
        return GivenConfig(proxy=proxy, denied=error.why)
    except ValueError as error:
        return GivenConfig(proxy=proxy, denied=f"its configuration cannot be decoded: {error}")
