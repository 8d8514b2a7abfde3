"""Detections in Istio's objects: VirtualServices, DestinationRules, Gateways, EnvoyFilters."""

from collections import defaultdict
from collections.abc import Iterator

from meshgate.facts.precheck.detections.base import Detection, Mesh, Sign, named
from meshgate.semantics.releases import Rule
from meshgate.snapshot.istio import DestinationRule, PortTraffic, TrafficPolicy

MANAGED = "gateway.istio.io/managed"

# pkg/config/validation/validation.go of Istio 1.31
MAX_PROXY_VERSION = 1024


def mirror(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield VirtualServices that mirror requests."""
    for each in mesh.evidence.virtual_services:
        if any(route.mirror or route.mirrors for route in each.spec.http):
            yield Sign(named("VirtualService", each.metadata), "mirrors requests")


def connection_pool(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield DestinationRules that limit a connection pool."""
    for each in mesh.evidence.destination_rules:
        if any(policy.connection_pool for policy in _of_ports(each)):
            yield Sign(named("DestinationRule", each.metadata), "limits a connection pool")


def retry_budget_default(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield DestinationRules whose retryBudget has no percent."""
    for each in mesh.evidence.destination_rules:
        budgets = [policy.retry_budget for policy in _policies(each)]
        if any(budget and budget.percent is None for budget in budgets):
            yield Sign(named("DestinationRule", each.metadata), "sets retryBudget without percent")


def retry_budget_subset(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield DestinationRules with a retryBudget and subsets that have their own policy."""
    for each in mesh.evidence.destination_rules:
        subsets = any(subset.traffic_policy for subset in each.spec.subsets)
        if subsets and any(policy.retry_budget for policy in _policies(each)):
            yield Sign(
                named("DestinationRule", each.metadata),
                "sets retryBudget and has subsets with a trafficPolicy",
            )


def outlier_detection(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield DestinationRules with outlierDetection and without minHealthPercent."""
    for each in mesh.evidence.destination_rules:
        found = [policy.outlier_detection for policy in _of_ports(each)]
        if any(one and one.min_health_percent is None for one in found):
            yield Sign(
                named("DestinationRule", each.metadata),
                "sets outlierDetection without minHealthPercent",
            )


def subset_tls(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield DestinationRules whose TLS mode a subset's policy does not repeat."""
    for each in mesh.evidence.destination_rules:
        general = each.spec.traffic_policy
        if not (general and general.tls and general.tls.mode):
            continue
        for subset in each.spec.subsets:
            policy = subset.traffic_policy
            if policy and not (policy.tls and policy.tls.mode):
                yield Sign(
                    named("DestinationRule", each.metadata),
                    f"sets tls.mode {general.tls.mode}, and the trafficPolicy of its subset "
                    f"{subset.name} sets none",
                    (("subset", subset.name),),
                )


def _policies(rule: DestinationRule) -> list[TrafficPolicy]:
    found = [rule.spec.traffic_policy, *(each.traffic_policy for each in rule.spec.subsets)]
    return [each for each in found if each is not None]


def _of_ports(rule: DestinationRule) -> list[TrafficPolicy | PortTraffic]:
    """Return the policies of a rule and its subsets, and those of their ports."""
    found = _policies(rule)
    return [*found, *(level for each in found for level in each.port_level_settings)]


def shared_host(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield hosts of ServiceEntries that another namespace defines too."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    domain = mesh.evidence.own_mesh.cluster_domain
    for service in mesh.evidence.services:
        name, namespace = service.metadata.name, service.metadata.namespace
        places[f"{name}.{namespace}.svc.{domain}"].add(namespace)
    for each in mesh.evidence.service_entries:
        for host in each.spec.hosts:
            places[host].add(each.metadata.namespace)
    for each in mesh.evidence.service_entries:
        for host in sorted({*each.spec.hosts}):
            others = sorted(places[host] - {each.metadata.namespace})
            if others:
                yield Sign(
                    named("ServiceEntry", each.metadata),
                    f"defines the host {host}, which {', '.join(others[:3])} defines too",
                    (("host", host),),
                )


def external_sds(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield Istio Gateways that get certificates from an SDS provider."""
    for gateway in mesh.evidence.gateways:
        used = [each.tls for each in gateway.spec.servers if each.tls]
        names = {name for each in used for name in (each.credential_name, *each.credential_names)}
        for name in sorted(each for each in names if each.startswith("sds://")):
            yield Sign(
                named("Gateway", gateway.metadata),
                f"uses the credentialName {name}",
                (("credential", name),),
            )


def merged_gateway(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield Istio Gateways that select pods of another namespace which istiod deploys."""
    managed = [each for each in mesh.evidence.pods if MANAGED in each.metadata.labels]
    for gateway in mesh.evidence.gateways:
        selector, home = gateway.spec.selector, gateway.metadata.namespace
        selected = sorted(
            pod.metadata.namespace
            for pod in managed
            if selector
            and pod.metadata.namespace != home
            and selector.items() <= pod.metadata.labels.items()
        )
        if selected:
            yield Sign(
                named("Gateway", gateway.metadata),
                f"selects gateway pods that istiod deploys in {selected[0]}",
                (("namespace", selected[0]),),
            )


def long_proxy_version(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield EnvoyFilters with a proxyVersion that the target's validation rejects."""
    for each in mesh.evidence.envoy_filters:
        versions = [one.match.proxy for one in each.spec.config_patches if one.match]
        longest = max((len(one.proxy_version) for one in versions if one), default=0)
        if longest > MAX_PROXY_VERSION:
            yield Sign(
                named("EnvoyFilter", each.metadata),
                f"has a proxyVersion of more than {MAX_PROXY_VERSION} characters",
            )


ALL: tuple[Detection, ...] = (
    *(mirror, connection_pool, retry_budget_default, retry_budget_subset, outlier_detection),
    *(subset_tls, shared_host, external_sds, merged_gateway, long_proxy_version),
)
