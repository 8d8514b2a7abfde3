"""Retry-After: which proxies an EnvoyFilter reaches, and which values of the header are valid."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from meshgate.semantics.workloads import GATEWAY_NAME, injected_revision
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.retry_after import RetryFilter

THROTTLED = (429, 503)
BACK_OFF = "back-off"
VALID = "an integer of at least 1, or an HTTP date in the future"

_SIDECAR_CONTEXTS = ("", "ANY", "SIDECAR_INBOUND")


def reaches(each: RetryFilter, pod: Pod, root_namespace: str) -> bool:
    """Return whether istiod applies the filter to this pod's proxy, before version and context.

    Args:
        each: the filter.
        pod: the pod.
        root_namespace: the mesh's root namespace; filters there apply to all namespaces.

    Returns:
        Whether it applies.
    """
    own = injected_revision(pod)
    if each.revision and own and own != each.revision:
        return False
    return selects_labels(each, pod.metadata.namespace, pod.metadata.labels, root_namespace)


def selects_labels(
    each: RetryFilter, namespace: str, labels: Mapping[str, str], root_namespace: str
) -> bool:
    """Return whether the filter applies to a pod with these labels, whether or not it exists.

    Args:
        each: the filter.
        namespace: the pod's namespace.
        labels: the pod's labels.
        root_namespace: the mesh's root namespace, whose filters apply everywhere.

    Returns:
        True if the filter's workloadSelector or targetRefs select such a pod.
    """
    if each.gateways:
        return namespace == each.namespace and labels.get(GATEWAY_NAME) in each.gateways
    return each.namespace in (namespace, root_namespace) and (
        each.selector.items() <= labels.items()
    )


def matching_pod_labels(
    filters: Iterable[RetryFilter], namespace: str, root_namespace: str
) -> tuple[dict[str, str], ...]:
    """Return the labels of pods whose sidecars would add Retry-After to an answer.

    Args:
        filters: the filters about Retry-After.
        namespace: the namespace in which the pods would be created.
        root_namespace: the mesh's root namespace.

    Returns:
        The selector of each filter that applies there, each set of labels once.
    """
    found: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
    for each in filters:
        if adds_retry_after(each) and selects_labels(
            each, namespace, each.selector, root_namespace
        ):
            found.setdefault(frozenset(each.selector.items()), each.selector)
    return tuple(found.values())


def adds_retry_after(each: RetryFilter) -> bool:
    """Return whether the filter adds Retry-After to what a sidecar answers."""
    return not each.gateways and any(
        patch.context in _SIDECAR_CONTEXTS and any(place.kind != BACK_OFF for place in patch.places)
        for patch in each.patches
    )


def answers_always(each: RetryFilter, status: int) -> bool:
    """Return whether a script of the filter adds Retry-After to every answer with this status."""
    return any(
        patch.context in _SIDECAR_CONTEXTS and status in place.statuses
        for patch in each.patches
        for place in patch.places
    )


def honors_retry_after(each: RetryFilter) -> bool:
    """Return whether the filter makes proxies wait as Retry-After says before they retry."""
    return any(place.kind == BACK_OFF for patch in each.patches for place in patch.places)


def retry_after_error(value: str, now: datetime) -> str:
    """Return why a value of Retry-After is invalid; empty if it is valid (RFC 9110, 10.2.3)."""
    if value.isascii() and value.isdigit():
        return "" if value.strip("0") else "is less than 1 second"
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return "is neither a number of seconds nor an HTTP date"
    return "" if _aware(date) > now else "is a date in the past"


def _aware(date: datetime) -> datetime:
    return date if date.tzinfo else date.replace(tzinfo=UTC)
