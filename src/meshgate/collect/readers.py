"""The readers of the items that are more than a list of one kind (snapshot/items.py names them).

A reader gets the items that were read before it, among them those that it requires, and returns
the item's value.  It raises ReadError for what it cannot read.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec

from meshgate import settings as run_settings
from meshgate.collect import (
    istioctl,
    istiod,
    istiod_metrics,
    istiod_settings,
    retry_after,
    workloads,
)
from meshgate.collect.errors import ReadError
from meshgate.collect.kubernetes import Cluster
from meshgate.collect.shadow import offline_bundle, running
from meshgate.collect.shadow.programs import Programs
from meshgate.probe import admission, burst, mtls, signing
from meshgate.probe import ingress as gateways
from meshgate.probe import pair as probes
from meshgate.probe.plan import Plan
from meshgate.probe.tls import StorageError
from meshgate.probe.traffic import Traffic
from meshgate.semantics.meshes import OwnMesh, own_mesh
from meshgate.semantics.retry_after import matching_pod_labels
from meshgate.semantics.sampling import sample
from meshgate.semantics.topology import GatewayTopology, RoutingConfig
from meshgate.semantics.webhooks import Backend, Webhooks
from meshgate.semantics.workloads import chosen
from meshgate.snapshot.ingress import Ingress
from meshgate.snapshot.istioctl import Analysis
from meshgate.snapshot.istiod import IstiodMetrics, IstiodReading
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import Expectations
from meshgate.snapshot.mtls import PortProbes
from meshgate.snapshot.offline_bundle import OfflineBundle
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.retry_after import Burst, RetryFilters
from meshgate.snapshot.shadow import Shadow
from meshgate.snapshot.sources import Source
from meshgate.snapshot.upgrade import Settings, Workload
from meshgate.snapshot.wire import Admission, Signing

NO_WIRE = (
    "a port-forward ends inside the pod, behind its sidecar: from here no port is seen as others "
    "see it"
)
NO_PROGRAMS = (
    "the target's programs are not given (--shadow-istiod, --shadow-envoy, --shadow-manifests)"
)
UNIDENTIFIED = (
    "no token of audience istio-ca: run inside the cluster, or name one with --istiod-token-file"
)


MOST_TEMPTED = 3  # pods beside the probe pair


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
        own=_own(context, found),
    )
    return admission.ask(
        webhooks,
        webhooks.injection_enabled(found.namespaces),
        context.transport.dial,
        webhooks.opted_in(found.namespaces, found.pods),
    )


def _own(context: Context, found: Items) -> OwnMesh:
    return own_mesh(found, context.expectations.istio_namespace)


def read_signing(context: Context, found: Items) -> Signing:
    """Return what istiod's CA makes of a signing request."""
    token = context.transport.token()
    if token is None:
        return Signing(skipped_reason=UNIDENTIFIED)
    credential = signing.credential(token)
    asked = [_replica(context, pod) for pod in replicas(context, found)]
    return signing.ask(asked, credential, _root(context, found, credential), datetime.now(UTC))


def read_port_probes(context: Context, found: Items) -> PortProbes:
    """Return what the workloads' ports do when they are connected to."""
    if not context.transport.sees_the_wire:
        return PortProbes(skipped_reason=NO_WIRE)
    token = context.transport.token()
    if token is None:
        return PortProbes(skipped_reason=UNIDENTIFIED)
    credential = signing.credential(token)
    root = _root(context, found, credential)
    authorities = [_replica(context, pod) for pod in replicas(context, found)]
    pods = _own(context, found).own(found.pods)
    identity, unsigned = None, ""
    try:
        identity = signing.obtain(authorities, credential, root)
    except signing.Refused as error:
        unsigned = str(error)
    targets = [
        mtls.Target(
            f"{each.pod.metadata.namespace}/{each.pod.metadata.name}",
            each.pod.status.pod_ip,
            each.number,
            each.http,
        )
        for each in chosen(pods, found.services, context.expectations)
    ]
    try:
        found_probes = mtls.ask(
            targets, identity, root, datetime.now(UTC), context.settings.probes.probe_rate
        )
    except StorageError as error:
        return PortProbes(unsigned=str(error))
    return PortProbes(
        identity=identity.name if identity else "", unsigned=unsigned, probes=found_probes
    )


def read_pair(context: Context, found: Items) -> Pair:
    """Return what two new pods see of the mesh from inside."""
    plan, asked = Plan.of(context.settings.probes), context.expectations
    if not plan.image:
        return Pair(skipped_reason="the probe pair was not requested (--probe-pair=IMAGE)")
    if asked.shard and not asked.shard.startswith("0/"):
        return Pair(
            skipped_reason=f"this is shard {asked.shard}: the first one makes the probe pair"
        )
    if plan.namespace not in {each.metadata.name for each in found.namespaces}:
        raise ReadError(
            f"there is no namespace {plan.namespace} for the probe pair",
            "create it, labeled as the others of the mesh are (the chart does), or name another "
            "with --probe-namespace",
        )
    others = [
        each
        for each in found.services
        if each.metadata.namespace not in (plan.namespace, asked.istio_namespace)
    ]
    sampled = sample(found.pods, others, asked, context.settings.probes.probe_sample)
    filters = found.retry_filters.filters if found.retry_filters else ()
    throttled = matching_pod_labels(filters, plan.namespace, _own(context, found).root_namespace)
    throttled = throttled[:MOST_TEMPTED]
    plan = plan._replace(
        sampled=sampled, throttled=throttled, most=context.settings.probes.retry_after_burst
    )
    return probes.ask(context.cluster, plan, context.cluster.deadline)


def _root(context: Context, found: Items, credential: signing.Credential) -> str:
    """Return the roots that the workloads of our own namespace trust, or those of istiod's."""
    roots = {each.metadata.namespace: each.data.pem for each in found.root_certificates}
    ours = roots.get(credential.namespace)
    return ours or roots.get(context.expectations.istio_namespace) or ""


def _replica(context: Context, pod: Pod) -> signing.Replica:
    metadata = pod.metadata
    revision = metadata.labels.get("istio.io/rev", "default")
    service = "istiod" if revision == "default" else f"istiod-{revision}"
    backend = Backend(metadata.namespace, metadata.name, pod.status.pod_ip, signing.CA_PORT)
    return signing.Replica(
        metadata.name,
        f"{service}.{metadata.namespace}.svc",
        lambda: context.transport.dial(backend),
    )


def read_retry_filters(context: Context, found: Items) -> RetryFilters:
    """EnvoyFilters that are about Retry-After, and what the proxies are given of them."""
    return retry_after.read(
        context.cluster, context.transport, found.istiod, _own(context, found), found.pods
    )


def read_bursts(context: Context, found: Items) -> tuple[Burst, ...]:
    """Return what the declared targets answer to a burst."""
    return burst.ask(
        context.expectations.retry_after_targets, context.settings.probes.retry_after_burst
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
    topology = GatewayTopology(RoutingConfig.of(found, _own(context, found)))
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
