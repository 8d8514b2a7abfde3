"""The AuthorizationPolicies that apply to a gateway."""

from collections.abc import Iterable

from meshgate.semantics.authorization import is_dry_run
from meshgate.semantics.listeners import Listener
from meshgate.semantics.topology import GatewayTopology
from meshgate.snapshot.istio import AuthorizationPolicy


def policies_of(
    topology: GatewayTopology,
    listener: Listener,
    policies: Iterable[AuthorizationPolicy],
    root_namespace: str,
) -> list[AuthorizationPolicy]:
    """Return the policies that a pod behind a listener enforces.

    Args:
        topology: the gateways.
        listener: one of them.
        policies: all of the mesh.
        root_namespace: whose policies apply in every namespace.

    Returns:
        Policies in the order given, without those that enforce nothing: dry runs and AUDIT.
    """
    there = topology.templates_of(listener)
    found = []
    for policy in policies:
        namespace, spec = policy.metadata.namespace, policy.spec
        if is_dry_run(policy) or spec.action == "AUDIT":
            continue
        if not topology.is_read(policy.metadata, listener):
            continue
        targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
        if targets:
            # a GatewayClass is a target for waypoints alone
            applies = listener.api and any(
                (each.kind, namespace, each.name) == ("Gateway", listener.namespace, listener.name)
                for each in targets
            )
        else:
            wanted = spec.selector.match_labels if spec.selector else {}
            applies = any(
                namespace in (home, root_namespace) and wanted.items() <= labels.items()
                for home, labels in there
            )
        if applies:
            found.append(policy)
    return found
