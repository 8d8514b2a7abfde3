"""Validate a proxy's configuration with Envoy's `--mode validate`, as one static bootstrap.

Envoy opens no port and sends nothing.  It does not check ports in use, certificates or traffic.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http_pb2,
)

from meshgate.collect.errors import ReadError
from meshgate.collect.shadow.processes import NO_PROGRAM, guarded
from meshgate.probe.ads import (
    CLUSTERS,
    ENDPOINTS,
    EXTENSIONS,
    HTTP,
    LISTENERS,
    ROUTES,
    Configuration,
)
from meshgate.settings import flag

_VALIDATE = (
    *("--mode", "validate", "--allow-unknown-static-fields", "--disable-hot-restart"),
    *("--skip-deprecated-logs", "--concurrency", "1", "-l", "error"),
)

# Clusters of every proxy's bootstrap, which its configuration refers to.
_STUBS = ("xds-grpc", "sds-grpc", "prometheus_stats", "agent")


class Assembled(msgspec.Struct, frozen=True):
    """A proxy's configuration with routes, endpoints and extensions inlined.

    Attributes:
        node: the proxy's node, a protobuf message.
        clusters: (name, encoded cluster) in the order in which istiod sends them.
        listeners: (name, encoded listener) in that order.
    """

    node: Any
    clusters: tuple[tuple[str, bytes], ...]
    listeners: tuple[tuple[str, bytes], ...]

    def bootstrap(self, only: Iterable[str] | None = None) -> bytes:
        """Return one encoded static bootstrap with all listeners, or `only` those named."""
        wanted = None if only is None else set(only)
        return bootstrap(
            self.node,
            (body for _, body in self.clusters),
            (body for name, body in self.listeners if wanted is None or name in wanted),
        )


def bootstrap(node: Any, clusters: Iterable[bytes], listeners: Iterable[bytes]) -> bytes:
    """Return one static bootstrap, encoded: then only Envoy needs to know the nested types.

    Args:
        node: the proxy's node, a protobuf message.
        clusters: encoded clusters.
        listeners: encoded listeners.

    Returns:
        An encoded Bootstrap.
    """
    made = bootstrap_pb2.Bootstrap(node=node)
    made.admin.address.pipe.path = "/dev/null"
    extension = made.bootstrap_extensions.add(name="envoy.bootstrap.internal_listener")
    extension.typed_config.Pack(internal_listener_pb2.InternalListener())
    for name in _STUBS:
        stub = made.static_resources.clusters.add(name=name, type=cluster_pb2.Cluster.STATIC)
        stub.load_assignment.cluster_name = name
        address = stub.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address
        address.pipe.path = "/nowhere"
    for body in clusters:
        made.static_resources.clusters.add().MergeFromString(body)
    for body in listeners:
        made.static_resources.listeners.add().MergeFromString(body)
    return bytes(made.SerializeToString())


class Assembler:
    """Inlines routes, endpoints and extensions where a configuration refers to them.

    Most proxies receive the same clusters, so each is assembled and stored once.
    """

    def __init__(self) -> None:
        self._named: dict[bytes, tuple[str, str]] = {}
        self._loads: dict[bytes, str] = {}
        self._made: dict[tuple[bytes, bytes], bytes] = {}

    def assembled(self, configuration: Configuration) -> Assembled:
        """Return a proxy's whole configuration."""
        found = configuration.resources
        endpoints = {self._load(each): each for each in found[ENDPOINTS]}
        return Assembled(
            configuration.node,
            tuple(self._cluster(each, endpoints) for each in found[CLUSTERS]),
            tuple(_listeners(configuration)),
        )

    def _load(self, body: bytes) -> str:
        """Return the cluster name of an encoded ClusterLoadAssignment."""
        if body not in self._loads:
            load = endpoint_pb2.ClusterLoadAssignment.FromString(body)
            self._loads[body] = load.cluster_name
        return self._loads[body]

    def _cluster(self, body: bytes, endpoints: Mapping[str, bytes]) -> tuple[str, bytes]:
        if body not in self._named:
            cluster = cluster_pb2.Cluster.FromString(body)
            service = cluster.eds_cluster_config.service_name or cluster.name
            discovered = cluster.type == cluster_pb2.Cluster.EDS
            self._named[body] = cluster.name, service if discovered else ""
        name, service = self._named[body]
        if not service:
            return name, body
        load = endpoints.get(service, b"")
        if (body, load) not in self._made:
            cluster = cluster_pb2.Cluster.FromString(body)
            cluster.ClearField("eds_cluster_config")
            cluster.type = cluster_pb2.Cluster.STATIC
            cluster.load_assignment.ParseFromString(load)
            cluster.load_assignment.cluster_name = service
            self._made[body, load] = cluster.SerializeToString()
        return name, self._made[body, load]


def _listeners(configuration: Configuration) -> Iterator[tuple[str, bytes]]:
    tables = map(route_pb2.RouteConfiguration.FromString, configuration.resources[ROUTES])
    routes = {table.name: table for table in tables}
    named = map(extension_pb2.TypedExtensionConfig.FromString, configuration.resources[EXTENSIONS])
    extensions = {extension.name: extension for extension in named}
    for body in configuration.resources[LISTENERS]:
        listener = listener_pb2.Listener.FromString(body)
        _inline(listener, routes, extensions)
        yield listener.name, listener.SerializeToString()


def _inline(
    listener: listener_pb2.Listener, routes: Mapping[str, Any], extensions: Mapping[str, Any]
) -> None:
    chains = list(listener.filter_chains)
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for each in (each for chain in chains for each in chain.filters):
        if each.HasField("config_discovery") and each.name in extensions:
            each.typed_config.CopyFrom(extensions[each.name].typed_config)
        if each.typed_config.type_url != HTTP:
            continue
        http = http_pb2.HttpConnectionManager.FromString(each.typed_config.value)
        if http.HasField("rds"):
            name = http.rds.route_config_name
            if name in routes:
                http.route_config.CopyFrom(routes[name])
            http.route_config.name = name
            http.route_config.validate_clusters.value = False
        for extension in http.http_filters:
            if extension.HasField("config_discovery") and extension.name in extensions:
                extension.typed_config.CopyFrom(extensions[extension.name].typed_config)
        each.typed_config.value = http.SerializeToString()


class Envoy:
    """The target's Envoy.

    Args:
        program: its path.
        folder: an existing folder for temporary bootstraps.
        timeout: seconds for one validation.
        memory: MiB that it may use; 0 for no limit.
    """

    def __init__(self, program: str, folder: Path, timeout: float, memory: int = 0) -> None:
        self._program = program
        self._folder = folder
        self._timeout = timeout
        self._memory = memory

    def refusal(self, bootstrap: bytes) -> str:
        """Return why Envoy rejects an encoded bootstrap; empty if it accepts it.

        Raise ReadError if Envoy gives no verdict: it cannot be run, is killed or is too slow.
        """
        try:
            with NamedTemporaryFile(dir=self._folder, suffix=".pb") as file:
                file.write(bootstrap)
                file.flush()
                done = subprocess.run(
                    guarded([self._program, *_VALIDATE, "-c", file.name], self._memory),
                    capture_output=True,
                    check=False,
                    timeout=self._timeout,
                )
        except subprocess.TimeoutExpired as error:
            raise ReadError(
                f"the target's Envoy did not finish within {self._timeout:g} s",
                f"raise {flag('simulation.timeout')}",
            ) from error
        except OSError as error:
            raise ReadError(
                f"cannot run the target's Envoy {self._program}: {error}",
                f"check {flag('simulation.envoy')}",
            ) from error
        if done.returncode == 0:
            return ""
        if done.returncode == NO_PROGRAM:
            why = done.stderr.decode(errors="replace").strip()
            raise ReadError(
                f"cannot run the target's Envoy {self._program}: {why}",
                f"check {flag('simulation.envoy')}",
            )
        if done.returncode < 0:
            raise ReadError(
                f"the target's Envoy was ended by signal {-done.returncode}",
                f"raise {flag('simulation.memory')}",
            )
        return _words((done.stdout + done.stderr).decode(errors="replace"))


def _words(output: str) -> str:
    """Return Envoy's reason without the decoration of its log, at most 400 characters."""
    reason = re.search(r"error initializing configuration '[^']*':(.*)", output, re.DOTALL)
    # Envoy prints the whole message before the name of the constraint that it violates.
    # (protobuf varies the first words of such messages on purpose.)
    words = re.sub(
        r"goo\.gle/debug\w+.*?: (?=Proto )", "", reason[1] if reason else output, flags=re.S
    )
    return " ".join(words.split())[:400] or "no reason given"
