"""Detections in the Gateway API: Gateways, routes and policies for backends."""

from collections import defaultdict
from collections.abc import Iterator

from meshgate.facts.precheck.detections.base import Detection, Mesh, Sign, named
from meshgate.semantics import pods, workloads
from meshgate.semantics.destination_rules import sets_tls
from meshgate.semantics.gateway_classes import ISTIO, IstioRoutes
from meshgate.semantics.hosts import covers, fully_qualified
from meshgate.semantics.releases import ALPHA_GATEWAY_API, Rule
from meshgate.snapshot.gateway_api import ApiGateway, BackendTlsPolicy, PolicyTarget

REDIRECT = "RequestRedirect"

# Conditions of a BackendTLSPolicy that are False if its CA certificates cannot be used.
USABLE = frozenset({"Accepted", "ResolvedRefs"})


def tls_listener(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield TLS listeners of Gateways that istiod ignores today for want of the alpha flag."""
    if _alpha(mesh):
        return
    for gateway in _served(mesh).gateways:
        for listener in gateway.spec.listeners:
            if listener.protocol == "TLS":
                yield Sign(
                    named("Gateway", gateway.metadata),
                    f"its listener {listener.name} has the protocol TLS",
                    (("listener", listener.name),),
                )


def _served(mesh: Mesh) -> IstioRoutes:
    """Return the Gateways of Istio's controllers, and their routes."""
    found = mesh.evidence
    return IstioRoutes(
        found.api_gateways,
        found.gateway_classes,
        found.listener_sets,
        found.own_mesh.gateway_controller,
    )


def _alpha(mesh: Mesh) -> bool:
    """Return whether every istiod reads the alpha kinds of the Gateway API."""
    return all(each.variables.get(ALPHA_GATEWAY_API) == "true" for each in mesh.settings)


def tcp_route(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield TCPRoutes that istiod ignores today for want of the alpha flag."""
    if _alpha(mesh):
        return
    for route in filter(_served(mesh).has, mesh.evidence.tcp_routes):
        yield Sign(named("TCPRoute", route.metadata), "has no effect today")


def gateway_account(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield pods of a Gateway with certificates that run with an unexpected ServiceAccount.

    Source: istiod's `gateway_collection.go`.  A Gateway with a host name as address is not
    deployed by istiod, and any ServiceAccount of its namespace may read its certificates.
    """
    gateways = {
        (each.metadata.namespace, each.metadata.name): each
        for each in _served(mesh).gateways
        if _deployed(each) and any(_terminates(one.protocol) for one in each.spec.listeners)
    }
    for pod in mesh.evidence.pods:
        name = pod.metadata.labels.get(workloads.GATEWAY_NAME, "")
        gateway = gateways.get((pod.metadata.namespace, name))
        if gateway is None or not workloads.is_active(pod):
            continue
        expected = gateway.metadata.annotations.service_account or (
            f"{name}-{gateway.spec.gateway_class_name}"
        )
        if pod.spec.service_account_name != expected:
            yield Sign(
                pods.name(pod),
                f"has the ServiceAccount {pod.spec.service_account_name}, not {expected}, and "
                f"serves the certificates of {named('Gateway', gateway.metadata)}",
                (("gateway", name),),
                workloads.owner(pod),
            )


def _deployed(gateway: ApiGateway) -> bool:
    addresses = gateway.spec.addresses
    return not addresses or (len(addresses) == 1 and addresses[0].type == "IPAddress")


def _terminates(protocol: str) -> bool:
    return protocol in ("HTTPS", "TLS")


def cors_filter(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield HTTPRoutes with a CORS filter."""
    for route in filter(_served(mesh).has, mesh.evidence.http_routes):
        if any(each.type == "CORS" for one in route.spec.rules for each in one.filters):
            yield Sign(named("HTTPRoute", route.metadata), "has a CORS filter")


def no_backends(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield HTTPRoutes with a rule that has neither backends nor a redirect."""
    for route in filter(_served(mesh).has, mesh.evidence.http_routes):
        if any(
            not each.backend_refs and all(one.type != REDIRECT for one in each.filters)
            for each in route.spec.rules
        ):
            yield Sign(named("HTTPRoute", route.metadata), "has a rule without backendRefs")


def backend_tls_conflict(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield BackendTLSPolicies with a target that another one has too."""
    policies: defaultdict[tuple[str, PolicyTarget], list[BackendTlsPolicy]] = defaultdict(list)
    for each in mesh.evidence.backend_tls_policies:
        for target in set(each.spec.target_refs):
            policies[each.metadata.namespace, target].append(each)
    for (_, target), found in sorted(policies.items(), key=lambda item: str(item[0])):
        for each in found if len(found) > 1 else ():
            others = sorted(one.metadata.name for one in found if one is not each)
            yield Sign(
                named("BackendTLSPolicy", each.metadata),
                f"has the same target ({_target(target)}) as {', '.join(others[:3])}",
                (("target", _target(target)),),
            )


def _target(target: PolicyTarget) -> str:
    return f"{target.kind} {target.name}" + (f":{target.section_name}" * bool(target.section_name))


def backend_tls_and_rule(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield BackendTLSPolicies for a host whose DestinationRule sets TLS too."""
    domain = mesh.evidence.own_mesh.cluster_domain
    rules = [
        (fully_qualified(each.spec.host, each.metadata.namespace, domain), each)
        for each in mesh.evidence.destination_rules
        if sets_tls(each)
    ]
    for policy in mesh.evidence.backend_tls_policies:
        for host in sorted({one for each in _hosts(mesh, policy) for one in each}):
            for pattern, each in rules:
                if covers(pattern, host):
                    subject = named("DestinationRule", each.metadata)
                    yield Sign(
                        named("BackendTLSPolicy", policy.metadata),
                        f"sets TLS for {host}, and {subject} sets it too",
                        (("host", host), ("rule", subject)),
                    )


def _hosts(mesh: Mesh, policy: BackendTlsPolicy) -> Iterator[tuple[str, ...]]:
    namespace = policy.metadata.namespace
    for target in policy.spec.target_refs:
        if target.kind == "Service":
            yield (fully_qualified(target.name, namespace, mesh.evidence.own_mesh.cluster_domain),)
        for each in mesh.evidence.service_entries if target.kind == "ServiceEntry" else ():
            if (each.metadata.namespace, each.metadata.name) == (namespace, target.name):
                yield each.spec.hosts


def invalid_backend_tls(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield BackendTLSPolicies that istiod reports as unusable."""
    for each in mesh.evidence.backend_tls_policies:
        reasons = {
            condition.reason or condition.type
            for ancestor in each.status.ancestors
            if ancestor.controller_name.startswith(ISTIO)
            for condition in ancestor.conditions
            if condition.type in USABLE and condition.status == "False"
        }
        if reasons:
            yield Sign(
                named("BackendTLSPolicy", each.metadata),
                f"is not usable ({', '.join(sorted(reasons))})",
            )


ALL: tuple[Detection, ...] = (
    *(tls_listener, tcp_route, gateway_account, cors_filter, no_backends),
    *(backend_tls_conflict, backend_tls_and_rule, invalid_backend_tls),
)
