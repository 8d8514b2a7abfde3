"""Which Services the probe pair calls when it samples the mesh."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from meshgate.semantics.selectors import fronts
from meshgate.semantics.workloads import Port, chosen, hashed, target
from meshgate.snapshot.kubernetes import Pod, Service
from meshgate.snapshot.model import Expectations


def sample(
    pods: Iterable[Pod], services: Iterable[Service], asked: Expectations, count: int
) -> tuple[str, ...]:
    """Return the URLs of up to `count` HTTP Services of the mesh, the same ones every time.

    Args:
        pods: all pods.
        services: the Services to choose from.
        asked: which ports are excluded, sampled or sharded.
        count: the maximum number of URLs.

    Returns:
        Sorted URLs, one for each chosen Service.
    """
    services = tuple(services)
    by_namespace: defaultdict[str, list[Port]] = defaultdict(list)
    for port in chosen(pods, services, asked):
        if port.http and not port.bypass:
            by_namespace[port.pod.metadata.namespace].append(port)
    urls: list[str] = []
    for service in sorted(services, key=lambda each: hashed(_host(each))):
        if len(urls) < count and service.spec.cluster_ips != ("None",):
            urls += list(_urls(service, by_namespace[service.metadata.namespace]))[:1]
    return tuple(sorted(urls))


def _host(service: Service) -> str:
    return f"{service.metadata.name}.{service.metadata.namespace}"


def _urls(service: Service, ports: Iterable[Port]) -> Iterator[str]:
    for port in ports:
        for each in service.spec.ports:
            if fronts(service, port.pod) and target(each, port.pod) == port.number:
                yield f"http://{_host(service)}:{each.port}/"
