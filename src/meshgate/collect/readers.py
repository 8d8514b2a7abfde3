"""The readers of the items that are more than a list of one kind (snapshot/items.py names them).

A reader gets the items that were read before it, among them those that it requires, and returns
the item's value.  It raises ReadError for what it cannot read.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import msgspec

from meshgate import settings as run_settings
from meshgate.collect import (
    istioctl,
    istiod,
    istiod_metrics,
    istiod_settings,
    proxy_metrics,
    retry_after,
    workloads,
)
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.prometheus import Prometheus
from meshgate.collect.shadow import offline_bundle, running
from meshgate.collect.shadow.programs import Programs
from meshgate.probe import admission, burst, image_pulls
from meshgate.probe import ingress as gateways
from meshgate.probe.traffic import Traffic
from meshgate.semantics.capacity import accepts_pods
from meshgate.semantics.meshes import OwnMesh, own_mesh
from meshgate.semantics.topology import GatewayTopology, RoutingConfig
from meshgate.semantics.webhooks import Webhooks
from meshgate.settings import SHADOW_OPTIONS, flag
from meshgate.snapshot.image_pulls import ImagePulls
from meshgate.snapshot.ingress import Ingress
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.istiod import IstiodMetrics, IstiodReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.retry_after import Burst, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.sources import Source
from meshgate.snapshot.traffic_metrics import TrafficMetrics
from meshgate.snapshot.upgrade import Settings, Workload
from meshgate.snapshot.wire import Admission

NO_PROGRAMS = f"the target's programs are not given ({SHADOW_OPTIONS})"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader may use.

    Attributes:
        cluster: the API server.
        transport: the way to istiod and to pods.
        expectations: what the snapshot is judged by.
        settings: limits, and what to probe.
        progress: is called with what is being done.
    """

    cluster: Cluster
    transport: istiod.Transport
    expectations: Expectations
    settings: run_settings.Settings = run_settings.Settings()
    progress: Callable[[str], None] = lambda words: None

    @property
    def traffic(self) -> Traffic:
        """Return what is sent through the gateways."""
        return Traffic.of(self.settings.ingress, self.expectations.answers)


def read_istiod(context: Context, found: Items) -> tuple[IstiodReading, ...]:
    """Return what each replica says of itself and its proxies."""
    return istiod.read(replicas(context, found), context.transport)


def read_metrics(context: Context, found: Items) -> tuple[IstiodMetrics, ...]:
    """Return what each replica counted within a window."""
    return istiod_metrics.read(
        replicas(context, found), context.transport, context.settings.access.window
    )


def replicas(context: Context, found: Items) -> list[Pod]:
    """Return the running istiod pods of the mesh's namespace."""
    return [
        pod
        for pod in found.pods
        if pod.metadata.namespace == context.expectations.istio_namespace
        and pod.metadata.labels.get("app") == "istiod"
        and pod.status.phase == "Running"
        and pod.metadata.deletion_timestamp is None
    ]


def read_analysis(context: Context, found: Items) -> Analysis:
    """Return what `istioctl analyze` says."""
    return istioctl.analyze(
        context.cluster,
        istioctl=context.settings.access.istioctl,
        istio_namespace=context.expectations.istio_namespace,
        timeout=context.settings.access.analyze_timeout,
    )


def read_admission(context: Context, found: Items) -> Admission:
    """Return what istiod's webhooks answer to samples."""
    webhooks = Webhooks(
        mutating=found.mutating_webhooks,
        validating=found.validating_webhooks,
        services=found.services,
        slices=found.endpoint_slices,
        own=own(context, found),
    )
    return admission.ask(
        webhooks,
        webhooks.injection_enabled(found.namespaces),
        context.transport.dial,
        webhooks.opted_in(found.namespaces, found.pods),
    )


def own(context: Context, found: Items) -> OwnMesh:
    """Return the mesh of the istiod namespace."""
    return own_mesh(found, context.expectations.istio_namespace)


def read_retry_filters(context: Context, found: Items) -> RetryFilters:
    """EnvoyFilters that are about Retry-After, and what the proxies are given of them."""
    return retry_after.read(
        context.cluster, context.transport, found.istiod, own(context, found), found.pods
    )


def read_bursts(context: Context, found: Items) -> tuple[Burst, ...]:
    """Return what the declared targets answer to a burst."""
    return burst.ask(
        context.expectations.retry_after_targets, context.settings.probes.retry_after_burst
    )


def read_traffic_metrics(context: Context, found: Items) -> TrafficMetrics:
    """Return the traffic that Prometheus recorded before the upgrade and now, or proxies now."""
    asked, before = context.settings.traffic, context.expectations.before
    timeout, deadline = context.settings.access.request_timeout, context.cluster.deadline
    mesh = own(context, found)
    pods = list(mesh.own(found.pods))
    if asked.prometheus:
        server = Prometheus(
            asked.prometheus, timeout, deadline, labels=asked.labels, cluster_id=mesh.cluster_id
        )
        gateways = proxy_metrics.gateways(pods)
        end = before.taken if before else None
        return server.read(asked.window, end, gateways, found.pods)
    if asked.proxies:
        window = proxy_metrics.read(
            context.transport,
            pods,
            asked.proxies,
            timeout,
            deadline,
            has_ended=partial(proxy_metrics.has_ended, context.cluster),
        )
        return TrafficMetrics(now=window)
    return TrafficMetrics(
        skipped_reason=f"neither {flag('traffic.prometheus')} nor {flag('traffic.proxies')} is set"
    )


def read_image_pulls(context: Context, found: Items) -> ImagePulls:
    """Return whether each node that accepts pods can pull the named images."""
    asked = context.settings.probes
    if not asked.probe_image:
        return ImagePulls(skipped_reason=f"no image was named ({flag('probes.probe_image')})")
    nodes = [each.metadata.name for each in found.nodes if accepts_pods(each)]
    return ImagePulls(
        pulls=image_pulls.pull(
            context.cluster,
            nodes,
            asked.probe_image,
            namespace=asked.probe_namespace,
            seconds=asked.probe_image_deadline,
            deadline=context.cluster.deadline,
        )
    )


def read_istioctl(context: Context, found: Items) -> str:
    """Which version istioctl is of."""
    access = context.settings.access
    return istioctl.version(access.istioctl, access.analyze_timeout)


def read_precheck(context: Context, found: Items) -> Analysis:
    """Return what `istioctl x precheck` says."""
    return istioctl.precheck(
        context.cluster,
        istioctl=context.settings.access.istioctl,
        istio_namespace=context.expectations.istio_namespace,
        timeout=context.settings.access.analyze_timeout,
    )


def read_settings(context: Context, found: Items) -> tuple[Settings, ...]:
    """How each istiod is set."""
    return istiod_settings.read(context.cluster, context.expectations.istio_namespace)


def read_workloads(context: Context, found: Items) -> tuple[Workload, ...]:
    """Return what a restart would be of."""
    return workloads.read(context.cluster)


def read_ingress(context: Context, found: Items) -> Ingress:
    """Return what the gateways make of requests to their listeners and routes."""
    plan = plan_ingress(context, found)
    return gateways.send(plan.planned, plan.vantages, context.traffic, skipped=plan.skipped)


def plan_ingress(context: Context, found: Items) -> gateways.Plan:
    """Return the requests that would be sent, and where from."""
    topology = GatewayTopology(RoutingConfig.of(found, own(context, found)))
    return gateways.plan(topology, context.traffic, context.transport.enter)


def read_shadow(context: Context, found: Items) -> Shadow:
    """Return what the target's istiod would send, and whether the target's Envoy would take it."""
    programs = Programs.of(context.settings)
    if programs is None:
        return Shadow(skipped_reason=NO_PROGRAMS)
    from meshgate.collect.shadow import simulation  # protobuf's messages take a second to load

    namespace = context.expectations.istio_namespace
    with running.asked(context.transport, found, namespace) as current:
        return simulation.simulate_live(
            context.cluster, current, programs, namespace, context.progress
        )


def read_offline_bundle(context: Context, found: Items) -> OfflineBundle:
    """Return everything that an upgrade can be simulated with without a cluster."""
    namespace = context.expectations.istio_namespace
    with running.asked(context.transport, found, namespace) as current:
        return offline_bundle.record(context.cluster, current)


Reader = Callable[[Context, Items], Any]


def reader(source: Source) -> Reader:
    """Return the function that a row of the items names."""
    module, _, name = source.reader.partition(":")
    found: Reader = getattr(import_module(f"meshgate.collect.{module}"), name)
    return found
