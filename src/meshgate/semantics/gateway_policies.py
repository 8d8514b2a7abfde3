"""The AuthorizationPolicies that apply to a gateway."""

from collections.abc import Iterable

from meshgate.semantics.listeners import Listener
from meshgate.semantics.topology import GatewayTopology
from meshgate.snapshot.istio import AuthorizationPolicy


def policies_of(
    topology: GatewayTopology,
    listener: Listener,
    policies: Iterable[AuthorizationPolicy],
    root_namespace: str,
) -> list[AuthorizationPolicy]:
    """Return the policies that the pods behind a listener enforce.

    Args:
        topology: the gateways.
        listener: one of them.
        policies: all of the mesh.
        root_namespace: whose policies apply in every namespace.

    Returns:
        Policies of any action, in the order given.
    """
    namespaces = topology.namespaces_of(listener)
    labels = topology.labels_of(listener)
    found = []
    for policy in policies:
        namespace, spec = policy.metadata.namespace, policy.spec
        targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
        if targets:
            applies = namespace == listener.namespace and any(
                (each.kind, each.name) == ("Gateway", listener.name) for each in targets
            )
        else:
            wanted = spec.selector.match_labels if spec.selector else {}
            applies = (
                namespace in {*namespaces, root_namespace} and wanted.items() <= labels.items()
            )
        if applies:
            found.append(policy)
    return found
