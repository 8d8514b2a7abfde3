"""ListenerSets: which of them a Gateway accepts."""

from collections.abc import Iterable

from meshgate.semantics.selectors import selects
from meshgate.snapshot.gateway_api import ApiGateway, ListenerSet, ObservedCondition
from meshgate.snapshot.kubernetes import Namespace

# The label that the API server sets on each Namespace.
_NAME = "kubernetes.io/metadata.name"
_NOT_ALLOWED = "NotAllowed"


def permitted(gateway: ApiGateway, added: ListenerSet, namespaces: Iterable[Namespace]) -> bool:
    """Return whether spec.allowedListeners of a Gateway permits a ListenerSet.

    Args:
        gateway: the Gateway that the ListenerSet names.
        added: the ListenerSet.
        namespaces: all of the mesh.

    Returns:
        Whether its namespace is permitted; by default none is.
    """
    allowed = gateway.spec.allowed_listeners.namespaces
    own = added.metadata.namespace
    match allowed.from_:
        case "All":
            return True
        case "Same":
            return own == gateway.metadata.namespace
        case "Selector":
            selector = allowed.selector
            return selector is not None and any(
                selects(selector, {**each.metadata.labels, _NAME: own})
                for each in namespaces
                if each.metadata.name == own
            )
    return False


def accepted(added: ListenerSet) -> ObservedCondition | None:
    """Return the condition Accepted of a ListenerSet; None without one."""
    return next((each for each in added.status.conditions if each.type == "Accepted"), None)


def is_added(gateway: ApiGateway, added: ListenerSet, namespaces: Iterable[Namespace]) -> bool:
    """Return whether a ListenerSet adds listeners to its Gateway: by its status, if it has one.

    Args:
        gateway: the Gateway that the ListenerSet names.
        added: the ListenerSet.
        namespaces: all of the mesh.

    Returns:
        Whether it does; without a condition Accepted as `permitted` says.
    """
    condition = accepted(added)
    if condition is None or condition.observed_generation < added.metadata.generation:
        return permitted(gateway, added, namespaces)
    return condition.status == "True" or condition.reason != _NOT_ALLOWED
