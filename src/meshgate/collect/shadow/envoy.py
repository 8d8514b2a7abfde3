"""Whether an Envoy would take a configuration: its own `--mode validate`, on one bootstrap.

It opens no port and sends nothing.  What it does not look at: ports in use, certificates, traffic.
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

_VALIDATE = (
    *("--mode", "validate", "--allow-unknown-static-fields", "--disable-hot-restart"),
    *("--skip-deprecated-logs", "--concurrency", "1", "-l", "error"),
)

# what every proxy's own bootstrap has, and configuration refers to
_STUBS = ("xds-grpc", "sds-grpc", "prometheus_stats", "agent")


class Assembled(msgspec.Struct, frozen=True):
    """A proxy's configuration with everything put where it is referred to, encoded resource by
    resource: `clusters` by name, in their order, `listeners` too."""

    node: Any
    clusters: tuple[tuple[str, bytes], ...]
    listeners: tuple[tuple[str, bytes], ...]

    def bootstrap(self, only: Iterable[str] | None = None) -> bytes:
        """One static bootstrap of all of it, or with no listeners but the named ones."""
        wanted = None if only is None else set(only)
        return bootstrap(
            self.node,
            (body for _, body in self.clusters),
            (body for name, body in self.listeners if wanted is None or name in wanted),
        )


def bootstrap(node: Any, clusters: Iterable[bytes], listeners: Iterable[bytes]) -> bytes:
    """One static bootstrap.  It is encoded, since then Envoy alone needs to know what is nested."""
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
    """Puts routes, endpoints and extensions where they are referred to.

    Most proxies are given the same clusters: each is put together once, and kept once.
    """

    def __init__(self) -> None:
        self._named: dict[bytes, tuple[str, str]] = {}
        self._loads: dict[bytes, str] = {}
        self._made: dict[tuple[bytes, bytes], bytes] = {}

    def assembled(self, configuration: Configuration) -> Assembled:
        """A proxy's whole configuration."""
        found = configuration.resources
        endpoints = {self._load(each): each for each in found[ENDPOINTS]}
        return Assembled(
            configuration.node,
            tuple(self._cluster(each, endpoints) for each in found[CLUSTERS]),
            tuple(_listeners(configuration)),
        )

    def _load(self, body: bytes) -> str:
        """The name of a set of endpoints."""
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
        folder: where bootstraps are put for it.
        timeout: seconds for one of them.
        memory: MiB that it may use, 0 for all there is.
    """

    def __init__(self, program: str, folder: Path, timeout: float, memory: int = 0) -> None:
        self._program = program
        self._folder = folder
        self._timeout = timeout
        self._memory = memory

    def refusal(self, bootstrap: bytes) -> str:
        """Why it would not take this; nothing where it would.  Raises Unreadable."""
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
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReadError(
                f"cannot have the target's Envoy validate: {error}", "check --envoy"
            ) from error
        if done.returncode == 0:
            return ""
        if done.returncode == NO_PROGRAM:
            why = done.stderr.decode(errors="replace").strip()
            raise ReadError(
                f"cannot run the target's Envoy {self._program}: {why}", "name another program"
            )
        if done.returncode < 0:
            raise ReadError(
                f"the target's Envoy was ended by signal {-done.returncode}",
                "give it more memory (--memory; of a gate --shadow-memory)",
            )
        return _words((done.stdout + done.stderr).decode(errors="replace"))


def _words(output: str) -> str:
    """Envoy's own reason, without its log's decoration."""
    told = re.search(r"error initializing configuration '[^']*':(.*)", output, re.DOTALL)
    # before the name of a constraint stands the whole message that does not keep it
    # (its first words are one of several, so that nobody relies on them)
    words = re.sub(r"goo\.gle/debug\w+.*?: (?=Proto )", "", told[1] if told else output, flags=re.S)
    return " ".join(words.split())[:400] or "no reason given"
