"""What listeners of the Gateway API ask of TLS."""

from typing import Any

import msgspec
import pytest

from meshgate.semantics.listeners import cipher_suites, of_server, tls_mode
from meshgate.snapshot.gateway_api import ApiGateway, Listener
from meshgate.snapshot.istio import Gateway, Server
from meshgate.snapshot.kubernetes import Metadata

NETWORK, PORT = "topology.istio.io/network", "networking.istio.io/gatewayPort"
PROTOCOL = "gateway.istio.io/listener-protocol"
OPTION = "gateway.istio.io/tls-terminate-mode"
VALIDATED = {"default": {"validation": {"caCertificateRefs": [{"name": "ca"}]}}}
FALLBACK = {"default": {"validation": {"mode": "AllowInsecureFallback"}}}


def listener(protocol: str = "HTTPS", mode: str = "Terminate", **options: str) -> Listener:
    tls = {"mode": mode, "options": options}
    body = {"name": "a", "port": 443, "protocol": protocol, "tls": tls}
    return msgspec.convert(body, Listener)


def gateway(frontend: dict[str, Any] | None = None, **labels: str) -> ApiGateway:
    spec = {"tls": {"frontend": frontend}} if frontend else {}
    metadata = {"name": "api", "labels": labels}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ApiGateway)


@pytest.mark.parametrize(
    ("each", "frontend", "mode"),
    [
        (listener("HTTP"), VALIDATED, ""),
        (listener(), None, "SIMPLE"),
        (listener(mode="Passthrough"), VALIDATED, "PASSTHROUGH"),
        (listener(**{OPTION: "MUTUAL"}), None, "MUTUAL"),
        (listener(**{OPTION: "ISTIO_MUTUAL"}), VALIDATED, "ISTIO_MUTUAL"),
        (listener(**{OPTION: "ISTIO_SIMPLE"}), VALIDATED, "ISTIO_SIMPLE"),
        (listener(**{OPTION: "no-such-mode"}), None, "SIMPLE"),
        (listener(), VALIDATED, "MUTUAL"),
        (listener(), FALLBACK, "OPTIONAL_MUTUAL"),
        (listener(**{OPTION: "MUTUAL"}), FALLBACK, "MUTUAL"),
        (listener(), {"perPort": [{"port": 443, "tls": VALIDATED["default"]}]}, "MUTUAL"),
        (listener(), {"perPort": [{"port": 8443, "tls": VALIDATED["default"]}]}, "SIMPLE"),
        (listener(), {**VALIDATED, "perPort": [{"port": 443, "tls": {}}]}, "SIMPLE"),
    ],
)
def test_the_tls_mode(each: Listener, frontend: dict[str, Any] | None, mode: str) -> None:
    assert tls_mode(gateway(frontend), each) == mode


def test_cipher_suites_are_an_option() -> None:
    named = {"gateway.istio.io/tls-cipher-suites": "ECDHE-RSA-AES128-SHA, AES256-SHA"}

    assert cipher_suites(listener(**named)) == ("ECDHE-RSA-AES128-SHA", "AES256-SHA")
    assert cipher_suites(listener()) == ()


@pytest.mark.parametrize(
    ("port", "options", "labels", "mode"),
    [
        (15443, {}, {NETWORK: "a"}, "AUTO_PASSTHROUGH"),
        (443, {PROTOCOL: "auto-passthrough"}, {}, "AUTO_PASSTHROUGH"),
        (1443, {}, {NETWORK: "a", PORT: "1443"}, "AUTO_PASSTHROUGH"),
        (15443, {}, {NETWORK: "a", PORT: "1443"}, "PASSTHROUGH"),
        (443, {}, {NETWORK: "a"}, "PASSTHROUGH"),
        (15443, {}, {}, "PASSTHROUGH"),
    ],
)
def test_a_listener_for_other_networks(
    port: int, options: dict[str, str], labels: dict[str, str], mode: str
) -> None:
    each = msgspec.structs.replace(listener("TLS", "Passthrough", **options), port=port)

    assert tls_mode(gateway(None, **labels), each) == mode


@pytest.mark.parametrize(
    ("protocol", "tls", "mode"),
    [
        ("HTTPS", {"mode": "SIMPLE"}, "SIMPLE"),
        # Istio's default
        ("HTTPS", {"credentialName": "web"}, "PASSTHROUGH"),
        ("TCP", {"mode": "SIMPLE"}, "SIMPLE"),
        ("mongo", {"mode": "MUTUAL"}, "MUTUAL"),
        ("TCP", None, ""),
        ("HTTP", {"httpsRedirect": True}, ""),
        ("GRPC", {"mode": "SIMPLE"}, ""),
        ("HTTP2", {"mode": "SIMPLE"}, ""),
    ],
)
def test_the_tls_mode_of_a_server(protocol: str, tls: dict[str, Any] | None, mode: str) -> None:
    body = {"port": {"number": 443, "protocol": protocol}, "hosts": ["*"], "tls": tls}
    own = Gateway(metadata=Metadata(name="edge", namespace="shop"))

    found = of_server(own, msgspec.convert(body, Server))

    assert (found.tls, found.redirects) == (mode, bool(tls and "httpsRedirect" in tls))
