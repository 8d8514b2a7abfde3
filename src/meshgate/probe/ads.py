"""What istiod would send to a proxy: asked over plaintext ADS, as that proxy, on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http_pb2,
)
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import json_format

_TYPES = "type.googleapis.com/"
CLUSTERS = f"{_TYPES}envoy.config.cluster.v3.Cluster"
ENDPOINTS = f"{_TYPES}envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENERS = f"{_TYPES}envoy.config.listener.v3.Listener"
ROUTES = f"{_TYPES}envoy.config.route.v3.RouteConfiguration"
EXTENSIONS = f"{_TYPES}envoy.config.core.v3.TypedExtensionConfig"
HTTP = f"{_TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


class NoConfiguration(Exception):
    """istiod gave none; the message says why."""


class Configuration(msgspec.Struct, frozen=True):
    """All that one proxy is given: the encoded resources, by type URL."""

    node: Any
    resources: dict[str, tuple[bytes, ...]]


def node(id: str, cluster: str, metadata: dict[str, Any], locality: dict[str, str]) -> Any:
    """Return a proxy as it introduces itself.

    Args:
        id: the node id, `sidecar~IP~POD.NAMESPACE~DOMAIN`.
        cluster: the node's cluster.
        metadata: the node's metadata.
        locality: its region, zone and subzone.

    Returns:
        The Node message.
    """
    made = base_pb2.Node(id=id, cluster=cluster)
    json_format.ParseDict(metadata, made.metadata)
    json_format.ParseDict(locality, made.locality)
    return made


@contextmanager
def connected(address: str, node: Any, timeout: float) -> Iterator[Configuration]:
    """Return a proxy's configuration; the proxy stays connected while the block runs.

    Raises NoConfiguration when istiod does not answer within `timeout` seconds.

    Args:
        address: istiod's address, `HOST:PORT`.
        node: the proxy to pose as.
        timeout: seconds for each answer.

    Returns:
        A context manager that yields the configuration.
    """
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        requests: SimpleQueue[Any] = SimpleQueue()
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        stream = stub.StreamAggregatedResources(iter(requests.get, None), timeout=timeout)

        def ask(type_url: str, names: list[str] | None = None) -> tuple[bytes, ...]:
            if names == []:
                return ()
            request = {"type_url": type_url, "resource_names": names or [], "node": node}
            requests.put(discovery_pb2.DiscoveryRequest(**request))
            answer = next(each for each in stream if each.type_url == type_url)
            requests.put(
                discovery_pb2.DiscoveryRequest(
                    **request, version_info=answer.version_info, response_nonce=answer.nonce
                )
            )
            return tuple(resource.value for resource in answer.resources)

        try:
            found = {CLUSTERS: ask(CLUSTERS)}
            found[ENDPOINTS] = ask(ENDPOINTS, _endpoints(found[CLUSTERS]))
            found[LISTENERS] = ask(LISTENERS)
            routes, extensions = _names(found[LISTENERS])
            found[ROUTES] = ask(ROUTES, routes)
            found[EXTENSIONS] = ask(EXTENSIONS, extensions)
        except (grpc.RpcError, StopIteration) as error:
            words = error.details() if isinstance(error, grpc.Call) else "it ended the stream"
            raise NoConfiguration(f"the target's istiod gave {node.id} nothing: {words}") from error
        try:
            yield Configuration(node, found)
        finally:
            requests.put(None)
            stream.cancel()


def _endpoints(clusters: tuple[bytes, ...]) -> list[str]:
    found = map(cluster_pb2.Cluster.FromString, clusters)
    return [
        cluster.eds_cluster_config.service_name or cluster.name
        for cluster in found
        if cluster.type == cluster_pb2.Cluster.EDS
    ]


def _names(listeners: tuple[bytes, ...]) -> tuple[list[str], list[str]]:
    """Return the names of the routes and of the extensions that the listeners refer to."""
    routes, extensions = set(), set()
    for listener in map(listener_pb2.Listener.FromString, listeners):
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for each in chain.filters:
                if each.HasField("config_discovery"):
                    extensions.add(each.name)
                if each.typed_config.type_url != HTTP:
                    continue
                http = http_pb2.HttpConnectionManager.FromString(each.typed_config.value)
                if http.HasField("rds"):
                    routes.add(http.rds.route_config_name)
                extensions |= {
                    each.name for each in http.http_filters if each.HasField("config_discovery")
                }
    return sorted(routes), sorted(extensions)
