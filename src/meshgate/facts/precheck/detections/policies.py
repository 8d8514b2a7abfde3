"""Detections in policies, workloads outside the cluster and pod templates."""

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from meshgate.facts.precheck.detections.base import Detection, Mesh, Sign, named
from meshgate.semantics import workloads
from meshgate.semantics.releases import NO_PROMETHEUS_MERGE, Rule
from meshgate.snapshot.istio import AuthorizationSource
from meshgate.snapshot.upgrade import Workload

# pilot/cmd/pilot-agent/status/server.go of Istio 1.31, istioReservedPorts
RESERVED_PORTS = frozenset({15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090})
# The injector itself sets this one, and accepts it.
AGENT_PORT = "15020"

# pkg/util/net/ip.go of Istio 1.30, ValidateInterfaceNames
INTERFACE = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-]{0,14}")

# apimachinery's resource.ParseQuantity
QUANTITY = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")

# pkg/security/dial.go of Istio 1.30.4; the name leads to 169.254.169.254 in Google Cloud
METADATA_ADDRESSES = (ip_network("100.100.100.200/32"), ip_network("fd00:ec2::/32"))
LINK_LOCAL_MULTICAST = (ip_network("224.0.0.0/24"), ip_network("ff02::/16"))
METADATA_HOST = "metadata.google.internal"
URI = re.compile(r"https?://(?:[^/?#@]*@)?(\[[^]]*]|[^/:?#]+)", re.IGNORECASE)

# Characters that Istio did not quote in regular expressions; `*` is its own wildcard.
_SPECIAL = re.compile(r"[.\[\](){}+?^$|\\]")
# Go's strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def _injected(mesh: Mesh) -> Iterator[Workload]:
    """Yield the workloads that the injector reads, except those all of whose pods have no proxy."""
    has_proxy: dict[str, bool] = {}
    for pod in mesh.evidence.pods:
        if workloads.is_active(pod):
            owner = workloads.owner(pod)
            has_proxy[owner] = has_proxy.get(owner, False) or workloads.proxy(pod) is not None
    for each in mesh.evidence.workloads:
        if has_proxy.get(_subject(each), True):
            yield each


def annotation(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield workloads whose pod template has one of the annotations."""
    for each in _injected(mesh):
        for name in sorted({*each.annotations} & {*rule.names}):
            yield Sign(_subject(each), f"its pod template has {name}", (("annotation", name),))


def prometheus_port(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield workloads whose prometheus.io/port the injector rejects.

    It reads the port only where it merges metrics.
    """
    port_name, scrape, merge = rule.names
    settings = mesh.settings
    merges = not settings or any(NO_PROMETHEUS_MERGE not in each.mesh for each in settings)
    for each in _injected(mesh):
        port = each.values.get(port_name, "")
        merging = each.values.get(merge, "")
        off = each.values.get(scrape) in _FALSE or (merging in _FALSE if merging else not merges)
        if port and not off and port != AGENT_PORT and not _valid_port(port):
            yield Sign(
                _subject(each),
                f"its pod template has {port_name}: {port!r}",
                (("annotation", port_name),),
            )


def _valid_port(text: str) -> bool:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        return False
    number = int(text)
    return 1 <= number <= 65535 and number not in RESERVED_PORTS


def interface_names(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield workloads with an annotation that holds an invalid interface name."""
    for each in _injected(mesh):
        for name in sorted({*rule.names} & each.values.keys()):
            value = each.values[name]
            if value and not all(INTERFACE.fullmatch(one.strip()) for one in value.split(",")):
                yield Sign(
                    _subject(each),
                    f"its pod template has {name}: {value!r}",
                    (("annotation", name),),
                )


def _subject(each: Workload) -> str:
    return f"{each.kind} {each.namespace}/{each.name}"


def policy_metacharacters(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield AuthorizationPolicies whose principals or namespaces hold a special character."""
    for policy in mesh.evidence.authorization_policies:
        found = sorted(
            {
                value
                for one in policy.spec.rules
                for source in one.from_
                for value in _quoted(source.source)
            }
        )
        if found:
            yield Sign(
                named("AuthorizationPolicy", policy.metadata),
                f"matches {found[0]!r}" + (f" and {len(found) - 1} more" if found[1:] else ""),
            )


def _quoted(source: AuthorizationSource) -> Iterator[str]:
    principals = (*source.principals, *source.not_principals)
    namespaces = (*source.namespaces, *source.not_namespaces)
    accounts = (*source.service_accounts, *source.not_service_accounts)
    for value in principals:
        # the trust domain is a DNS name, and only a suffix match became a regular expression
        if value.startswith("*") and _SPECIAL.search(value):
            yield value
    for value in (*namespaces, *accounts):
        if _SPECIAL.search(value):
            yield value


def unlabeled_entry(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield WorkloadEntries without the label that announces HBONE."""
    (label,) = rule.names
    for each in mesh.evidence.workload_entries:
        if label not in each.metadata.labels:
            yield Sign(named("WorkloadEntry", each.metadata), f"has no label {label}")


def link_local_jwks(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield RequestAuthentications with a jwksUri at an address that istiod blocks."""
    for each in mesh.evidence.request_authentications:
        hosts = {_host(one.jwks_uri) for one in each.spec.jwt_rules}
        for host in sorted(filter(_blocked, hosts)):
            yield Sign(
                named("RequestAuthentication", each.metadata),
                f"has a jwksUri at {host}",
                (("host", host),),
            )


def _host(uri: str) -> str:
    match = URI.match(uri)
    return match[1].strip("[]").lower() if match else ""


def _blocked(host: str) -> bool:
    if host == METADATA_HOST:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (
        address.is_link_local
        or any(address in each for each in LINK_LOCAL_MULTICAST)
        or any(address in each for each in METADATA_ADDRESSES)
    )


def quantity(mesh: Mesh, rule: Rule) -> Iterator[Sign]:
    """Yield workloads with an annotation that is not a Kubernetes quantity."""
    for each in _injected(mesh):
        for name in sorted({*rule.names} & each.values.keys()):
            if not QUANTITY.fullmatch(each.values[name]):
                yield Sign(
                    _subject(each),
                    f"its pod template has {name}: {each.values[name]!r}",
                    (("annotation", name),),
                )


ALL: tuple[Detection, ...] = (
    *(annotation, prometheus_port, interface_names, policy_metacharacters, unlabeled_entry),
    *(link_local_jwks, quantity),
)
