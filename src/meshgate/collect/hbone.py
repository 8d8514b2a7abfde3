"""The readers of what pods in ambient mode and waypoints do when they are connected to."""

from collections.abc import Iterable
from datetime import UTC, datetime

from meshgate.collect.connections import caller
from meshgate.collect.readers import Context, own
from meshgate.probe import hbone
from meshgate.probe.hbone_client import PORT
from meshgate.probe.tls import StorageError
from meshgate.semantics import workloads
from meshgate.semantics.hosts import authority
from meshgate.semantics.waypoints import Behind, http_behind, waypoints
from meshgate.snapshot.hbone import TunnelProbes
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Namespace, Pod

CLOSED = 1  # the port that is named to a pod without known ports, for the handshake


def read_ambient_probes(context: Context, found: Items) -> TunnelProbes:
    """Return what the ports of pods in ambient mode do when they are connected to."""
    pods = own(context, found).own(found.pods)
    ports = workloads.ambient_ports(pods, found.services, _by_name(found))
    targets = [
        hbone.Target(
            pod=_key(each.pod),
            address=each.pod.status.pod_ip,
            authority=authority(each.pod.status.pod_ip, each.number or CLOSED),
            port=each.number,
            host=each.pod.status.pod_ip if each.http else "",
        )
        for each in workloads.choose(ports, context.expectations)
    ]
    return _probe(context, found, targets)


def read_waypoint_probes(context: Context, found: Items) -> TunnelProbes:
    """Return what waypoints do with requests to what is behind them."""
    mesh = own(context, found)
    found_waypoints = waypoints(
        found.api_gateways,
        found.gateway_classes,
        [each for each in found.services if mesh.watches(each.metadata.namespace)],
        [each for each in mesh.own(found.pods) if workloads.is_active(each)],
        _by_name(found),
    )
    targets = [
        each
        for waypoint in found_waypoints
        for pod in waypoint.pods
        if pod.status.phase == "Running" and pod.status.pod_ip
        for each in _targets(pod, http_behind(waypoint, mesh.cluster_domain))
    ]
    return _probe(context, found, targets)


def _targets(pod: Pod, behind: list[Behind]) -> list[hbone.Target]:
    """Return what is requested through one pod of a waypoint, or only its handshake."""
    own_address = Behind(pod.status.pod_ip, PORT, "")
    return [
        hbone.Target(
            pod=_key(pod),
            address=pod.status.pod_ip,
            authority=authority(each.address, each.port),
            port=each.port,
            host=each.host,
            service=each.service,
        )
        for each in behind or [own_address]
    ]


def _probe(context: Context, found: Items, targets: Iterable[hbone.Target]) -> TunnelProbes:
    targets = list(targets)
    if not targets:
        return TunnelProbes()
    skipped_reason, identity, unsigned, root = caller(context, found)
    if skipped_reason:
        return TunnelProbes(skipped_reason=skipped_reason)
    rate = context.settings.probes.probe_rate
    try:
        probes = hbone.ask(targets, identity, root, datetime.now(UTC), rate)
    except StorageError as error:
        return TunnelProbes(unsigned=str(error))
    return TunnelProbes(
        identity=identity.name if identity else "", unsigned=unsigned, probes=probes
    )


def _by_name(found: Items) -> dict[str, Namespace]:
    return {each.metadata.name: each for each in found.namespaces}


def _key(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"
