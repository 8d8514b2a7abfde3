"""The readers that connect to workloads and to istiod's CA, with an identity of the mesh."""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from meshgate.collect.errors import ReadError
from meshgate.collect.readers import Context, own, replicas
from meshgate.probe import declared_pairs as pairs
from meshgate.probe import identities, mtls, signing
from meshgate.probe import pair as probes
from meshgate.probe.plan import Plaintext, Plan
from meshgate.probe.tls import StorageError
from meshgate.semantics.declared_pairs import full_name
from meshgate.semantics.hosts import authority
from meshgate.semantics.pair_targets import PairTargets, pair_waypoints
from meshgate.semantics.retry_after import matching_pod_labels
from meshgate.semantics.sampling import sample
from meshgate.semantics.webhooks import Backend
from meshgate.semantics.workloads import (
    Port,
    ambient_ports,
    choose,
    chosen,
    is_ambient,
    is_first_shard,
    lasting,
)
from meshgate.settings import flag
from meshgate.snapshot.declared_pairs import PairAnswers
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mtls import PortProbes
from meshgate.snapshot.pair import Pair
from meshgate.snapshot.wire import Signing

NO_WIRE = (
    "a port-forward ends inside the pod, behind its sidecar: from here no port is seen as others "
    "see it"
)
UNIDENTIFIED = (
    "no token of audience istio-ca: run inside the cluster, or name one with "
    f"{flag('access.istiod_token_file')}"
)

MOST_TEMPTED = 3  # pods beside the probe pair


def read_signing(context: Context, found: Items) -> Signing:
    """Return what istiod's CA makes of a signing request."""
    token = context.transport.token()
    if token is None:
        return Signing(skipped_reason=UNIDENTIFIED)
    credential = signing.credential(token)
    asked = [_replica(context, pod) for pod in replicas(context, found)]
    return signing.ask(asked, credential, _root(context, found, credential), datetime.now(UTC))


class Caller(NamedTuple):
    """Who connects to ports: `identity` is what istiod signed, `unsigned` why it signed nothing.

    `skipped_reason`: why nothing can be connected to; `root`: what workloads trust.
    """

    skipped_reason: str = ""
    identity: signing.Identity | None = None
    unsigned: str = ""
    root: str = ""


def caller(context: Context, found: Items) -> Caller:
    """Return the identity with which ports are connected to."""
    if not context.transport.sees_the_wire:
        return Caller(skipped_reason=NO_WIRE)
    token = context.transport.token()
    if token is None:
        return Caller(skipped_reason=UNIDENTIFIED)
    credential = signing.credential(token)
    root = _root(context, found, credential)
    authorities = [_replica(context, pod) for pod in replicas(context, found)]
    try:
        return Caller(identity=signing.obtain(authorities, credential, root), root=root)
    except signing.Refused as error:
        return Caller(unsigned=str(error), root=root)


def read_port_probes(context: Context, found: Items) -> PortProbes:
    """Return what the workloads' ports do when they are connected to."""
    skipped_reason, identity, unsigned, root = caller(context, found)
    if skipped_reason:
        return PortProbes(skipped_reason=skipped_reason)
    pods = own(context, found).own(found.pods)
    targets = [
        mtls.Target(
            f"{each.pod.metadata.namespace}/{each.pod.metadata.name}",
            each.pod.status.pod_ip,
            each.number,
            each.http,
            lasting(each.pod),
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


def read_declared_pairs(context: Context, found: Items) -> PairAnswers:
    """Return how the declared requests are answered, each sent as its caller."""
    asked = context.expectations
    if not asked.pairs:
        return PairAnswers(skipped_reason=f"no pair is declared ({flag('probes.pairs')})")
    if not is_first_shard(asked.shard):
        return PairAnswers(skipped_reason=f"this is shard {asked.shard}: the first one sends them")
    if not context.transport.sees_the_wire:
        return PairAnswers(skipped_reason=NO_WIRE)
    token = context.transport.token()
    if token is None:
        return PairAnswers(skipped_reason=UNIDENTIFIED)
    mesh, credential = own(context, found), signing.credential(token)
    root = _root(context, found, credential)
    authorities = [_replica(context, pod) for pod in replicas(context, found)]
    signed: dict[str, signing.Identity] = {}
    unsigned: dict[str, str] = {}
    for caller in sorted({each.caller for each in asked.pairs}):
        try:
            signed[caller] = identities.identity(
                context.cluster, caller, credential, authorities, root
            )
        except ReadError as error:
            unsigned[caller] = f"{error.why} (fix: {error.remedy})" if error.remedy else error.why
        except signing.Refused as error:
            unsigned[caller] = str(error)
    waypoints = pair_waypoints(found.api_gateways, found.gateway_classes, found.namespaces)
    targets = PairTargets(mesh.own(found.pods), found.services, found.namespaces, waypoints)
    planned = [
        pairs.Planned(pair, each, full_name(pair, mesh.cluster_domain))
        for pair in asked.pairs
        for each in targets.of(pair, asked.sample).targets
    ]
    try:
        answers = pairs.send(planned, signed, context.settings.probes.probe_rate)
    except StorageError as error:
        return PairAnswers(skipped_reason=str(error))
    return PairAnswers(unsigned=unsigned, answers=answers, waypoints=waypoints)


def read_pair(context: Context, found: Items) -> Pair:
    """Return what two new pods see of the mesh from inside."""
    plan, asked = Plan.of(context.settings.probes), context.expectations
    if not plan.image:
        return Pair(
            skipped_reason="the probe pair was not requested "
            f"({flag('probes.probe_pair', 'IMAGE')})"
        )
    if not is_first_shard(asked.shard):
        return Pair(
            skipped_reason=f"this is shard {asked.shard}: the first one makes the probe pair"
        )
    namespaces = {each.metadata.name: each for each in found.namespaces}
    if plan.namespace not in namespaces:
        raise ReadError(
            f"there is no namespace {plan.namespace} for the probe pair",
            "create it, labeled as the others of the mesh are (the chart does), or name another "
            f"with {flag('probes.probe_namespace')}",
        )
    others = [
        each
        for each in found.services
        if each.metadata.namespace not in (plan.namespace, asked.istio_namespace)
    ]
    sampled = sample(found.pods, others, asked, context.settings.probes.probe_sample)
    filters = found.retry_filters.filters if found.retry_filters else ()
    throttled = matching_pod_labels(filters, plan.namespace, own(context, found).root_namespace)
    throttled = throttled[:MOST_TEMPTED]
    pods = own(context, found).own(found.pods)
    unsharded = msgspec.structs.replace(asked, shard="")
    ports = choose(ambient_ports(pods, found.services, namespaces), unsharded)
    plan = plan._replace(
        sampled=sampled,
        throttled=throttled,
        plaintext=tuple(plaintext(each) for each in ports if each.number),
        ambient=is_ambient(namespaces[plan.namespace]),
        most=context.settings.probes.retry_after_burst,
    )
    return probes.ask(context.cluster, plan, context.cluster.deadline)


def plaintext(port: Port) -> Plaintext:
    """Return a port as a pod outside the mesh connects to it."""
    scheme, address = "http" if port.http else "tcp", port.pod.status.pod_ip
    return Plaintext(port.key, f"{scheme}://{authority(address, port.number)}")


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
