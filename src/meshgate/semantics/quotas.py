"""ResourceQuotas: what pods count as, and whether a rollout fits."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from meshgate.semantics.pod_resources import Amounts, totals
from meshgate.semantics.quantities import amount, shown
from meshgate.snapshot.new_pods import NewPod, ResourceQuota

# Resources of a quota: how it is counted, and the resource of a pod.
_ALIASES = {"cpu": "requests.cpu", "memory": "requests.memory"}
_ALIASES["ephemeral-storage"] = "requests.ephemeral-storage"

# Every container must name these where a quota counts them.
_REQUIRED = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


class Rollout(NamedTuple):
    """One workload's rollout.

    Attributes:
        new: the pod that would be created, with its defaults.
        old: what one of its present pods counts as; empty if it has none.
        present: how many there are.
    """

    new: NewPod
    old: Amounts
    present: int


def counted_as(name: str) -> str:
    """Return the full name of a quota's resource: `requests.cpu` for `cpu`."""
    return _ALIASES.get(name, name)


def usage(pod: NewPod) -> Amounts:
    """Return what one pod counts as in a quota, by the quota's resource names."""
    found: Amounts = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for kind in ("requests", "limits"):
        for resource, value in totals(pod, kind).items():
            found[f"{kind}.{resource}"] = value
    return found


def applies(quota: ResourceQuota, pod: NewPod) -> bool:
    """Return whether a quota counts a pod, by its scopes."""
    spec = quota.spec
    rows = [(each, "Exists", ()) for each in spec.scopes]
    if spec.scope_selector:
        rows += [
            (each.scope_name, each.operator, each.values)  # type: ignore[misc]
            for each in spec.scope_selector.match_expressions
        ]
    return all(_in_scope(pod, *row) for row in rows)


def _in_scope(pod: NewPod, scope: str, operator: str, values: tuple[str, ...]) -> bool:
    own = bool(pod.requests or pod.limits)
    needs = own or any(each.requests or each.limits for each in pod.containers)
    match scope:
        case "BestEffort":
            return not needs
        case "NotBestEffort":
            return needs
        case "Terminating":
            return pod.terminating
        case "NotTerminating":
            return not pod.terminating
        case "PriorityClass":
            name = pod.priority_class
            return {
                "In": name in values,
                "NotIn": name not in values,
                "DoesNotExist": not name,
            }.get(operator, bool(name))
    return False


def missing(quota: ResourceQuota, pod: NewPod) -> Iterator[str]:
    """Yield what a pod's containers must set because a quota counts it.

    Where the pod itself has resources, its containers need none.
    """
    if pod.requests or pod.limits:
        return
    counted = {counted_as(each) for each in quota.spec.hard}
    for name in _REQUIRED:
        if name in counted:
            kind, _, resource = name.partition(".")
            lacking = [e.name for e in pod.containers if resource not in getattr(e, kind)]
            if lacking:
                yield f"must specify {name} for: {', '.join(lacking)}"


def exceeded(quota: ResourceQuota, rollout: Rollout) -> Iterator[str]:
    """Yield the resources of a quota that keep a rollout from its end.

    The new pods must fit beside the old ones that the rollout may not delete yet, and all of them
    in the end.
    """
    new, pod = usage(rollout.new), rollout.new
    replicas = pod.replicas or rollout.present
    deletable = min(pod.unavailable, rollout.present)
    for name, hard in quota.spec.hard.items():
        resource = counted_as(name)
        need = new.get(resource)
        if not need or not replicas:
            continue
        used = amount(quota.status.used.get(name, "0"))
        old = rollout.old.get(resource, Decimal(0))
        free = amount(hard) - used
        first = need if free + deletable * old < need else Decimal(0)
        last = replicas * need if free + rollout.present * old < replicas * need else Decimal(0)
        if first or last:
            what = "one new pod needs" if first else f"{replicas} new pods need"
            yield (
                f"{what} {shown(first or last, resource)} of {name}: used "
                f"{shown(used, resource)} of {shown(amount(hard), resource)}"
            )
