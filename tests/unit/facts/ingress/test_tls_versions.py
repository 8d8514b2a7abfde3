"""Which versions of TLS a listener takes, beside what its Gateway says."""

from typing import Any

import pytest

from meshgate.facts.ingress.tls_versions import TlsVersions
from meshgate.snapshot.istio import Server, ServerTls
from meshgate.verdict import CouldNotVerify, NotApplicable
from tests.support import ingress_builders as build
from tests.unit.facts.ingress.test_routes import told

REFUSED = {"stage": "handshake", "error": "refused", "alert": "TLSV1_ALERT_PROTOCOL_VERSION"}


def seen(server: Server | None = None, **versions: dict[str, Any]) -> TlsVersions:
    """A listener that does this with these versions (`v1_2`), and what is right with others."""
    gateways = (build.gateway(server or build.server(443, "HTTPS", mode="SIMPLE")),)
    sent = [
        build.answered(
            each, **versions.get(each.tls_version.replace("TLSv", "v").replace(".", "_"), {})
        )
        for each in build.requests(gateways=gateways)
    ]
    return TlsVersions(build.gateways(gateways=gateways, ingress=build.traffic(*sent)))


def server(**tls: Any) -> Server:
    made = build.server(443, "HTTPS", mode="SIMPLE")
    return Server(
        port=made.port, hosts=made.hosts, tls=ServerTls(mode="SIMPLE", credential_name="a", **tls)
    )


TAKEN = {"stage": "", "error": "", "alert": ""}


def test_a_listener_that_takes_what_istio_takes() -> None:
    versions = seen()

    assert (versions.mismatched, versions.old) == ([], [])


@pytest.mark.parametrize(
    ("gateway", "version", "does", "words"),
    [
        (None, "v1_1", TAKEN, "accepts TLSv1.1 (expected TLSv1.2 to TLSv1.3)"),
        (None, "v1_3", REFUSED, "refuses TLSv1.3 (expected TLSv1.2 to TLSv1.3)"),
        (
            server(min_protocol_version="TLSV1_3"),
            "v1_2",
            TAKEN,
            "accepts TLSv1.2 (expected TLSv1.3 to TLSv1.3)",
        ),
        (
            server(max_protocol_version="TLSV1_2"),
            "v1_3",
            TAKEN,
            "accepts TLSv1.3 (expected TLSv1.2 to TLSv1.2)",
        ),
    ],
)
def test_a_listener_that_does_otherwise(
    gateway: Server | None, version: str, does: dict[str, Any], words: str
) -> None:
    found = told(seen(gateway, **{version: does}).mismatched)

    assert f"Gateway ways/front port 443/HTTPS: {words}" in found


def test_an_old_version_that_is_asked_for_warns() -> None:
    versions = seen(server(min_protocol_version="TLSV1_1"), v1_1=TAKEN)

    assert versions.mismatched == []
    assert "accepts TLSv1.1, as its Gateway says" in told(versions.old)


def test_a_client_without_a_certificate_learns_the_versions_of_mutual_tls_too() -> None:
    mutual = build.server(443, "HTTPS", mode="MUTUAL")
    asked = {"stage": "request", "error": "no", "alert": "TLSV13_ALERT_CERTIFICATE_REQUIRED"}

    assert seen(mutual, v1_2=asked, v1_3=asked).mismatched == []
    assert seen(mutual, v1_1=asked | {"alert": "SSLV3_ALERT_HANDSHAKE_FAILURE"}).mismatched == []


def test_what_says_nothing_proves_nothing() -> None:
    reset = {"stage": "handshake", "error": "reset", "alert": ""}
    silent: dict[str, Any] = dict.fromkeys(("v1", "v1_1", "v1_2", "v1_3"), reset)

    with pytest.raises(CouldNotVerify):
        _ = seen(**silent).mismatched
    with pytest.raises(NotApplicable):
        _ = seen(build.server()).mismatched
