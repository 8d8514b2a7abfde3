"""Configurations that differ only in the addresses of a cluster's pods and Services are alike."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http_pb2,
)

from meshgate.collect.shadow.envoy import Assembled
from meshgate.collect.shadow.fingerprint import Fingerprints
from meshgate.probe import ads


def cluster(*endpoints: str, name: str = "web") -> tuple[str, bytes]:
    """A cluster with these endpoints."""
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC)
    for each in endpoints:
        address = made.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address
        address.socket_address.address = each
        address.socket_address.port_value = 8080
    return name, made.SerializeToString()


def listener(
    address: str, domains: tuple[str, ...] = (), match: tuple[str, int] | None = None
) -> tuple[str, bytes]:
    """A listener on an address, with a virtual host for these domains."""
    made = listener_pb2.Listener(name=f"{address}_80")
    made.address.socket_address.address = address
    chain = made.filter_chains.add()
    if match:
        prefix = chain.filter_chain_match.prefix_ranges.add(address_prefix=match[0])
        prefix.prefix_len.value = match[1]
    http = http_pb2.HttpConnectionManager(stat_prefix="x")
    http.route_config.virtual_hosts.add(name="web", domains=domains)
    chain.filters.add(name="http").typed_config.CopyFrom(
        type(chain.filters.add().typed_config)(type_url=ads.HTTP, value=http.SerializeToString())
    )
    return made.name, made.SerializeToString()


def fingerprint(
    *clusters: tuple[str, bytes], listeners: tuple[Any, ...] = (), pod: str = "a"
) -> str:
    """The fingerprint of a proxy's configuration."""
    node = ads.node(f"sidecar~192.0.2.1~{pod}.b~c", "a.b", {}, {})
    return Fingerprints().of(Assembled(node, clusters, listeners))


def test_other_addresses_and_another_proxy_are_alike() -> None:
    ours = fingerprint(
        cluster("10.0.0.1", "10.0.0.2"),
        listeners=(
            listener("10.96.0.7", ("web.shop", "10.96.0.7", "10.96.0.7:80"), ("10.96.0.9", 32)),
        ),
    )
    theirs = fingerprint(
        cluster("10.244.13.101", "10.244.2.2"),
        listeners=(
            listener(
                "10.100.0.12", ("web.shop", "10.100.0.12", "10.100.0.12:80"), ("10.100.0.3", 32)
            ),
        ),
        pod="other",
    )

    assert ours == theirs


def test_the_family_of_an_address_counts() -> None:
    assert fingerprint(cluster("10.0.0.1")) != fingerprint(cluster("2001:db8::1"))
    assert fingerprint(cluster("fd00::1")) == fingerprint(cluster("fd00::2:3"))


def test_special_addresses_are_not_exchanged_for_others() -> None:
    for special in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254"):
        assert fingerprint(cluster(special)) != fingerprint(cluster("10.0.0.1"))


def test_whether_two_addresses_are_equal_counts() -> None:
    same = fingerprint(listeners=(listener("10.96.0.7"), listener("10.96.0.7")))
    other = fingerprint(listeners=(listener("10.96.0.7"), listener("10.96.0.8")))
    equal = fingerprint(listeners=(listener("10.96.0.7", ("10.96.0.7", "10.96.0.7")),))
    distinct = fingerprint(listeners=(listener("10.96.0.7", ("10.96.0.7", "10.96.0.8")),))

    assert same != other
    assert equal != distinct


def test_a_range_of_addresses_counts() -> None:
    ours = listener("10.96.0.7", match=("10.1.0.0", 16))
    theirs = listener("10.96.0.7", match=("10.2.0.0", 16))

    assert fingerprint(listeners=(ours,)) != fingerprint(listeners=(theirs,))


def test_everything_else_counts() -> None:
    ours = fingerprint(cluster("10.0.0.1"), listeners=(listener("10.96.0.7", ("web.shop",)),))

    assert ours != fingerprint(cluster("10.0.0.1"))
    assert ours != fingerprint(
        cluster("10.0.0.1", name="api"), listeners=(listener("10.96.0.7", ("web.shop",)),)
    )
    assert ours != fingerprint(
        cluster("10.0.0.1"), listeners=(listener("10.96.0.7", ("api.shop",)),)
    )
    assert ours != fingerprint(
        cluster("10.0.0.1", "10.0.0.2"), listeners=(listener("10.96.0.7", ("web.shop",)),)
    )
