"""The protocol of a Service's port, as istiod determines it (pkg/config/kube/conversion.go)."""

from meshgate.snapshot.kubernetes import ServicePort

HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
# What a sidecar handles as TCP (pilot/pkg/networking, ModelProtocolToListenerProtocol).
TCP = frozenset({"tcp", "https", "tls", "mongo", "mysql", "redis"})

_OF_KUBERNETES = {
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
}
# Ports of protocols in which the server speaks first: TCP unless their name says otherwise.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})


def protocol(port: ServicePort) -> str:
    """Return the protocol of a port, by its appProtocol or else its name; empty if detected."""
    name = port.app_protocol or port.name
    return named(_OF_KUBERNETES.get(port.app_protocol) or name) or (
        "tcp" if port.port in _SERVER_FIRST else ""
    )


def named(name: str) -> str:
    """Return the protocol that the name of a port selects; empty if it selects none."""
    name = name.lower()
    found = "grpc-web" if name.startswith("grpc-web") else name.partition("-")[0]
    return found if found in HTTP | TCP else ""
