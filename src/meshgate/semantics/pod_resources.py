"""What a pod requests, after the defaults of LimitRanges, and which of their limits it breaks."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import msgspec

from meshgate.semantics.quantities import amount, shown
from meshgate.snapshot.new_pods import LimitRange, LimitRangeItem, NewContainer, NewPod

Amounts = dict[str, Decimal]


def defaulted(pod: NewPod, ranges: Iterable[LimitRange]) -> NewPod:
    """Return the pod as it is after the API server's defaults and those of LimitRanges.

    A request without a value is the limit, else the default of a LimitRange, which the API server
    applies to injected containers too: it runs after the webhooks again.
    """
    items = [each for one in ranges for each in one.spec.limits if each.type == "Container"]
    return msgspec.structs.replace(
        pod, containers=tuple(_defaulted(each, items) for each in pod.containers)
    )


def _defaulted(container: NewContainer, items: Iterable[LimitRangeItem]) -> NewContainer:
    requests, limits = {**container.limits, **container.requests}, dict(container.limits)
    for each in items:
        requests = {**each.default_request, **requests}
        limits = {**each.default, **limits}
    return msgspec.structs.replace(container, requests=requests, limits=limits)


def totals(pod: NewPod, kind: str) -> Amounts:
    """Return what a pod needs of each resource: `kind` is `requests` or `limits`.

    Init containers run one after the other, beside the sidecars that were started before.  What the
    pod itself sets replaces their sum.
    """
    running: Amounts = {}
    peak: Amounts = {}
    for each in (each for each in pod.containers if each.init):
        own = _amounts(getattr(each, kind))
        if each.sidecar:
            running = _sum(running, own)
        else:
            peak = _highest(peak, _sum(running, own))
    for each in (each for each in pod.containers if not each.init):
        running = _sum(running, _amounts(getattr(each, kind)))
    whole = {**_highest(peak, running), **_amounts(getattr(pod, kind))}
    return _sum(whole, _amounts(pod.overhead))


def _amounts(quantities: Mapping[str, str]) -> Amounts:
    return {resource: amount(quantity) for resource, quantity in quantities.items()}


def _sum(first: Amounts, second: Amounts) -> Amounts:
    zero = Decimal(0)
    return {name: first.get(name, zero) + second.get(name, zero) for name in {*first, *second}}


def _highest(first: Amounts, second: Amounts) -> Amounts:
    zero = Decimal(0)
    return {name: max(first.get(name, zero), second.get(name, zero)) for name in {*first, *second}}


def broken_limits(pod: NewPod, limit: LimitRange) -> Iterator[str]:
    """Yield which limits of a LimitRange a pod breaks; `pod` has its defaults.

    A default limit below the request of a container makes the pod invalid.

    (plugin/pkg/admission/limitranger of Kubernetes 1.34)
    """
    for item in limit.spec.limits:
        if item.type == "Container":
            for each in pod.containers:
                who = f'container "{each.name}"'
                requests, limits = _amounts(each.requests), _amounts(each.limits)
                yield from _broken(item, requests, limits, who)
                for resource, most in _amounts(item.default).items():
                    own = requests.get(resource, most)
                    if limits.get(resource) == most < own:
                        words = f"{shown(own, resource)} of {resource}"
                        yield f"{who} requests {words}, and its limit is {shown(most, resource)}"
        elif item.type == "Pod":
            yield from _broken(item, totals(pod, "requests"), totals(pod, "limits"), "the pod")


def _broken(item: LimitRangeItem, requests: Amounts, limits: Amounts, who: str) -> Iterator[str]:
    for resource, least in _amounts(item.min).items():
        words = f"at least {shown(least, resource)} of {resource}"
        if resource not in requests:
            yield f"{who} must request {words}, and requests none"
        elif requests[resource] < least:
            yield f"{who} must request {words}, and requests {shown(requests[resource], resource)}"
        if resource in limits and limits[resource] < least:
            yield f"{who} must have a limit of {words}"
    for resource, most in _amounts(item.max).items():
        words = f"at most {shown(most, resource)} of {resource}"
        if resource not in limits:
            yield f"{who} must have a limit of {words}, and has none"
        elif limits[resource] > most:
            yield f"{who} must have a limit of {words}, and has {shown(limits[resource], resource)}"
        elif requests.get(resource, most) > most:
            yield f"{who} must request {words}"
    for resource, ratio in _amounts(item.max_limit_request_ratio).items():
        request, limit = requests.get(resource, Decimal(0)), limits.get(resource)
        if not request or limit is None:
            yield f"{who} must have a request and a limit of {resource}"
        elif limit / request > ratio:
            yield f"{who} has a limit of {resource} that is more than {ratio} times the request"
