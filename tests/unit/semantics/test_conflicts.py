"""Conflicts between objects: what istiod omits a part of, and what only looks like it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshgate.semantics.conflicts import ObjectConflict, domains, inbound, outbound, subsets
from meshgate.snapshot.istio import (
    DestinationRule,
    DestinationRuleSpec,
    HttpRoute,
    PeerSelector,
    ServiceEntry,
    ServiceEntryPort,
    ServiceEntrySpec,
    Subset,
    VirtualService,
    VirtualServiceSpec,
)
from meshgate.snapshot.kubernetes import Metadata, Service, ServicePort, ServiceSpec
from tests.support.builders import sidecar


def at(name: str, namespace: str = "shop") -> Metadata:
    return Metadata(name=name, namespace=namespace)


def virtual_service(name: str, *hosts: str, namespace: str = "shop", **spec: Any) -> VirtualService:
    return VirtualService(
        metadata=at(name, namespace),
        spec=VirtualServiceSpec(**{"hosts": hosts or ("web",), "http": (HttpRoute(),), **spec}),
    )


def rule(name: str, *names: str, namespace: str = "shop", **spec: Any) -> DestinationRule:
    found = tuple(Subset(name=each) for each in names)
    return DestinationRule(
        metadata=at(name, namespace),
        spec=DestinationRuleSpec(**{"host": "web", "subsets": found, **spec}),
    )


def service(name: str, port: str, number: int = 8080, **fields: Any) -> Service:
    ports = (ServicePort(port=number, name=port, **fields),)
    return Service(metadata=at(name), spec=ServiceSpec(selector={"app": "web"}, ports=ports))


def test_two_virtual_services_of_one_host_conflict() -> None:
    full = "web.shop.svc.cluster.local"

    assert list(domains([virtual_service("a"), virtual_service("b", full, namespace="x")])) == [
        ObjectConflict(full, ("VirtualService shop/a", "VirtualService x/b"))
    ]


@pytest.mark.parametrize(
    "other",
    [
        virtual_service("b", "api"),
        # merged at a gateway
        virtual_service("b", gateways=("ingress",)),
        # sidecars of other namespaces
        virtual_service("b", "web.shop.svc.cluster.local", namespace="x", export_to=(".",)),
        virtual_service("b", export_to=("~",)),
        # no HTTP
        virtual_service("b", http=()),
    ],
    ids=["host", "gateway", "namespaces", "nobody", "tcp"],
)
def test_virtual_services_for_other_clients_or_hosts_do_not(other: VirtualService) -> None:
    assert list(domains([virtual_service("a", export_to=(".",)), other])) == []


def test_the_mesh_config_says_which_sidecars_see_objects_without_export() -> None:
    full = "web.shop.svc.cluster.local"
    services = [virtual_service("a"), virtual_service("b", full, namespace="x")]

    assert list(domains(services, default_export=(".",))) == []
    assert len(list(domains([*services, virtual_service("c")], default_export=(".",)))) == 1


def test_short_names_are_completed_with_the_clusters_domain() -> None:
    full = "web.shop.svc.example.org"
    services = [virtual_service("a"), virtual_service("b", full)]
    rules = [rule("a", "v1"), rule("b", "v1", host=full)]

    assert [each.name for each in domains(services, "example.org")] == [full]
    assert [each.name for each in subsets(rules, "example.org")] == [f"{full} subset v1"]


def test_a_subset_that_two_rules_of_one_host_define_conflicts() -> None:
    assert list(subsets([rule("a", "v1", "v2"), rule("b", "v2")])) == [
        ObjectConflict(
            "web.shop.svc.cluster.local subset v2",
            ("DestinationRule shop/a", "DestinationRule shop/b"),
        )
    ]


@pytest.mark.parametrize(
    "other",
    [
        rule("b", "v2"),
        rule("b", "v1", host="api"),
        rule("b", "v1", namespace="other"),
        rule("b", "v1", export_to=("other",)),
        rule("b", "v1", workload_selector=PeerSelector(match_labels={"app": "x"})),
    ],
    ids=["name", "host", "namespace", "exportTo", "selector"],
)
def test_rules_that_istiod_does_not_merge_do_not(other: DestinationRule) -> None:
    assert list(subsets([rule("a", "v1"), other])) == []


def entry(name: str, namespace: str = "shop", protocol: str = "TCP", **spec: Any) -> ServiceEntry:
    port = ServiceEntryPort(number=9999, protocol=protocol)
    return ServiceEntry(
        metadata=at(name, namespace),
        spec=ServiceEntrySpec(hosts=(f"{name}.example",), ports=(port,), **spec),
    )


def test_two_service_entries_of_a_tcp_port_without_addresses_conflict() -> None:
    assert list(outbound([entry("a"), entry("b", "other")])) == [
        ObjectConflict("0.0.0.0_9999", ("ServiceEntry other/b", "ServiceEntry shop/a"))
    ]


# as istiod 1.31.0 itself decides
@pytest.mark.parametrize(
    "other",
    [
        entry("b", protocol="TLS"),
        entry("b", protocol="HTTP"),
        entry("b", protocol="MONGO"),
        entry("b", addresses=("198.51.100.1",)),
        entry("b", "other", export_to=(".",)),
    ],
    ids=["TLS", "HTTP", "Mongo", "address", "namespaces"],
)
def test_service_entries_with_listeners_of_their_own_do_not(other: ServiceEntry) -> None:
    assert list(outbound([entry("a", export_to=(".",)), other])) == []


def test_a_port_with_two_protocols_conflicts_once_for_all_pods() -> None:
    pods = [sidecar(name, labels={"app": "web"}) for name in ("web-1", "web-2")]

    (found,) = inbound(pods, [service("a", "http"), service("b", "tcp")])

    assert found.objects == ("Service shop/a", "Service shop/b")


@pytest.mark.parametrize(
    "other",
    [
        service("b", "http-web"),
        service("b", "tcp", number=9090),
        service("b", "anything", app_protocol="http"),
        service("b", "udp-web", protocol="UDP"),
    ],
    ids=["protocol", "port", "appProtocol", "UDP"],
)
def test_services_that_agree_on_a_port_do_not(other: Service) -> None:
    pods = [sidecar("web-1", labels={"app": "web"})]

    assert list(inbound(pods, [service("a", "http"), other])) == []


def test_a_detected_protocol_conflicts_with_a_declared_one() -> None:
    pods = [sidecar("web-1", labels={"app": "web"})]

    assert len(list(inbound(pods, [service("a", "http"), service("b", "")]))) == 1


def test_a_port_of_a_server_first_protocol_is_tcp_without_a_name() -> None:
    pods = [sidecar("web-1", labels={"app": "web"})]
    unnamed = service("b", "", number=3306, target_port=8080)

    assert list(inbound(pods, [service("a", "tcp"), unnamed])) == []


def of(revision: str, found: Any) -> Any:
    """An object with the label of a revision."""
    labels = {"istio.io/rev": revision} if revision else {}
    metadata = msgspec.structs.replace(found.metadata, labels=labels)
    return msgspec.structs.replace(found, metadata=metadata)


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        pytest.param("1-29", "1-30", False, id="two revisions"),
        pytest.param("1-29", "1-29", True, id="one revision"),
        pytest.param("1-29", "", True, id="all revisions read the other"),
        pytest.param("", "", True, id="no label"),
    ],
)
def test_objects_that_no_istiod_reads_together_do_not_conflict(
    one: str, other: str, conflict: bool
) -> None:
    def both(make: Callable[..., Any], *fields: Any) -> list[Any]:
        return [of(one, make("a", *fields)), of(other, make("b", *fields))]

    assert bool(list(domains(both(virtual_service)))) is conflict
    assert bool(list(subsets(both(rule, "v1")))) is conflict
    assert bool(list(outbound(both(entry)))) is conflict


def test_only_the_objects_that_one_istiod_reads_are_named() -> None:
    rules = [of("1-29", rule("a", "v1")), of("1-30", rule("b", "v1")), of("1-30", rule("c", "v1"))]

    (found,) = subsets(rules)
    (twice,) = subsets([of("1-29", rule("a", "v1", "v1")), of("1-30", rule("b", "v1"))])

    assert found.objects == ("DestinationRule shop/b", "DestinationRule shop/c")
    assert twice.objects == ("DestinationRule shop/a",)
