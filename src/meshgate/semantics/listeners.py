"""What gateways listen for: the servers of Istio's Gateways and the Gateway API's listeners."""

from collections.abc import Mapping
from typing import NamedTuple

from meshgate.snapshot.gateway_api import Listener as ApiListener
from meshgate.snapshot.istio import Gateway, Server

# Istio's names for the TLS versions that Python's `ssl` calls so, oldest first
TLS = {"TLSV1_0": "TLSv1", "TLSV1_1": "TLSv1.1", "TLSV1_2": "TLSv1.2", "TLSV1_3": "TLSv1.3"}
VERSIONS = tuple(TLS.values())
TERMINATE_MODE = "gateway.istio.io/tls-terminate-mode"
HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS"})


class Listener(NamedTuple):
    """One server of a Gateway, of either API.

    Attributes:
        namespace, name: the Gateway's.
        api: whether it is a Gateway of the Gateway API.
        section: the server's port name, or the Gateway API listener's name.
        protocol: upper case, as written in the Gateway.
        tls: Istio's mode (SIMPLE, MUTUAL, PASSTHROUGH ...), empty without TLS.
        hosts: without the namespace that limits them, see `scopes`.
        redirects: whether it redirects to HTTPS.
        credential: the Secret with the certificate.
        selector: labels of its pods; in `scope` only if that is set.
        least, most: the TLS versions that it accepts.
        scopes: for each host the namespace whose routes may use it, `*` for all.
        ciphers: the cipher suites that it names; Istio's if empty.
        service: the Service (`namespace/name`) that it names instead of a selector.
        added_by: the ListenerSet (`namespace/name`) that adds it to the Gateway.
    """

    namespace: str
    name: str
    api: bool
    section: str
    port: int
    protocol: str
    tls: str
    hosts: tuple[str, ...]
    redirects: bool
    credential: str
    selector: Mapping[str, str]
    scope: str
    least: str = "TLSv1.2"
    most: str = "TLSv1.3"
    scopes: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    service: str = ""
    added_by: str = ""

    @property
    def subject(self) -> str:
        """`Gateway namespace/name`."""
        return f"Gateway {self.namespace}/{self.name}"

    @property
    def words(self) -> str:
        """The subject with port and protocol."""
        return f"{self.subject} port {self.port}/{self.protocol}"

    @property
    def terminates(self) -> bool:
        """Whether the gateway itself serves a certificate to clients outside the mesh."""
        return self.tls not in ("", "PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL")

    def hosts_for(self, namespace: str) -> tuple[str, ...]:
        """Return the hosts that routes of this namespace may use."""
        if not self.scopes:
            return self.hosts
        return tuple(
            host
            for host, scope in zip(self.hosts, self.scopes, strict=True)
            if scope in ("*", namespace)
        )


def of_server(gateway: Gateway, server: Server) -> Listener:
    """Return the listener of one server of an Istio Gateway."""
    protocol, tls = server.port.protocol.upper(), server.tls
    secured = protocol in ("HTTPS", "TLS")
    scoped = [host.rpartition("/") for host in server.hosts]
    own = gateway.metadata.namespace
    return Listener(
        own,
        gateway.metadata.name,
        False,
        server.port.name,
        server.port.number,
        protocol,
        ((tls.mode or "SIMPLE") if tls and secured else ""),
        tuple(host for _, _, host in scoped),
        bool(tls and tls.https_redirect and not secured),
        tls.credential_name if tls else "",
        gateway.spec.selector,
        "",
        TLS.get(tls.min_protocol_version if tls else "", "TLSv1.2"),
        TLS.get(tls.max_protocol_version if tls else "", "TLSv1.3"),
        tuple({".": own, "": "*"}.get(scope, scope) for scope, _, _ in scoped),
        tls.cipher_suites if tls else (),
    )


def tls_mode(listener: ApiListener) -> str:
    """Return Istio's TLS mode of a listener of the Gateway API."""
    if listener.protocol not in ("HTTPS", "TLS"):
        return ""
    if listener.tls is not None and listener.tls.mode == "Passthrough":
        return "PASSTHROUGH"
    chosen = listener.tls.options.get(TERMINATE_MODE, "") if listener.tls else ""
    return chosen if chosen in ("MUTUAL", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL") else "SIMPLE"
