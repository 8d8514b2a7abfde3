"""Whether an Envoy would take a configuration: its own `--mode validate`, on one bootstrap.

It opens no port and sends nothing.  What it does not look at: ports in use, certificates, traffic.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile

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

from meshgate.collect.kubernetes import Unreadable
from meshgate.collect.processes import NO_PROGRAM, guarded
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


def listeners(configuration: Configuration) -> list[str]:
    """The names of the listeners, in their order."""
    return [
        listener_pb2.Listener.FromString(each).name for each in configuration.resources[LISTENERS]
    ]


def bootstrap(configuration: Configuration, only: Iterable[str] | None = None) -> bytes:
    """One static bootstrap of a proxy's whole configuration, or of the named listeners of it.

    Routes, endpoints and extensions are put where they are referred to.  It is encoded, since then
    Envoy alone needs to know what is nested in it.
    """
    made = bootstrap_pb2.Bootstrap(node=configuration.node)
    made.admin.address.pipe.path = "/dev/null"
    extension = made.bootstrap_extensions.add(name="envoy.bootstrap.internal_listener")
    extension.typed_config.Pack(internal_listener_pb2.InternalListener())
    for name in _STUBS:
        stub = made.static_resources.clusters.add(name=name, type=cluster_pb2.Cluster.STATIC)
        stub.load_assignment.cluster_name = name
        address = stub.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address
        address.pipe.path = "/nowhere"
    found = configuration.resources
    loads = map(endpoint_pb2.ClusterLoadAssignment.FromString, found[ENDPOINTS])
    endpoints = {load.cluster_name: load for load in loads}
    for each in found[CLUSTERS]:
        cluster = made.static_resources.clusters.add()
        cluster.MergeFromString(each)
        if cluster.type == cluster_pb2.Cluster.EDS:
            name = cluster.eds_cluster_config.service_name or cluster.name
            cluster.ClearField("eds_cluster_config")
            cluster.type = cluster_pb2.Cluster.STATIC
            if name in endpoints:
                cluster.load_assignment.CopyFrom(endpoints[name])
            cluster.load_assignment.cluster_name = name
    wanted = None if only is None else set(only)
    for each in found[LISTENERS]:
        listener = listener_pb2.Listener.FromString(each)
        if wanted is None or listener.name in wanted:
            _inline(listener, configuration)
            made.static_resources.listeners.append(listener)
    return bytes(made.SerializeToString())


def _inline(listener: listener_pb2.Listener, configuration: Configuration) -> None:
    tables = map(route_pb2.RouteConfiguration.FromString, configuration.resources[ROUTES])
    routes = {table.name: table for table in tables}
    named = map(extension_pb2.TypedExtensionConfig.FromString, configuration.resources[EXTENSIONS])
    extensions = {extension.name: extension for extension in named}
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
    """

    def __init__(self, program: str, folder: Path, timeout: float) -> None:
        self._program = program
        self._folder = folder
        self._timeout = timeout

    def refusal(self, bootstrap: bytes) -> str:
        """Why it would not take this; nothing where it would.  Raises Unreadable."""
        try:
            with NamedTemporaryFile(dir=self._folder, suffix=".pb") as file:
                file.write(bootstrap)
                file.flush()
                done = subprocess.run(
                    guarded([self._program, *_VALIDATE, "-c", file.name]),
                    capture_output=True,
                    check=False,
                    timeout=self._timeout,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreadable(
                f"cannot have the target's Envoy validate: {error}", "check --envoy"
            ) from error
        if done.returncode == 0:
            return ""
        if done.returncode == NO_PROGRAM:
            why = done.stderr.decode(errors="replace").strip()
            raise Unreadable(
                f"cannot run the target's Envoy {self._program}: {why}", "name another program"
            )
        if done.returncode < 0:
            raise Unreadable(
                f"the target's Envoy was ended by signal {-done.returncode}", "give it more memory"
            )
        return _words((done.stdout + done.stderr).decode(errors="replace"))


def _words(output: str) -> str:
    """Envoy's own reason, without its log's decoration."""
    told = re.search(r"error initializing configuration '[^']*':(.*)", output, re.DOTALL)
    # before the name of a constraint stands the whole message that does not keep it
    words = re.sub(
        r"goo\.gle/debugproto.*?: (?=Proto )", "", told[1] if told else output, flags=re.S
    )
    return " ".join(words.split())[:400] or "no reason given"
