"""The certificates that gateways serve."""

from typing import Any

import msgspec
import pytest

from meshgate.facts.ingress.certificates import ServedCertificates
from meshgate.snapshot.gateway_api import Listener as ApiListener
from meshgate.snapshot.gateway_api import ListenerTls
from meshgate.snapshot.ingress import Ingress
from meshgate.verdict import Finding
from tests.support import ingress_builders as build


def certificates(**changes: Any) -> ServedCertificates:
    return build.mesh(**changes).served_certificates


def told(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def having(which: str = "", **seen: Any) -> Ingress:
    """The traffic of a gateway that is well, with what came back changed where the URL says so."""
    return build.traffic(
        *(
            build.answered(each, **(seen if which in f"{each.kind} {each.url}" else {}))
            for each in build.requests()
        )
    )


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (
            {"certificate": build.certificate("other.example.com")},
            "a certificate for other.example",
        ),
        ({"certificate": build.certificate(days=-1, age=9)}, "that expired on 2026-01-01"),
        ({"certificate": build.certificate(age=-1)}, "that is not valid before 2026-01-03"),
        ({"tls_version": "TLSv1.1"}, "negotiates TLSv1.1"),
    ],
)
def test_a_certificate_that_clients_do_not_take(served: dict[str, Any], words: str) -> None:
    assert words in told(certificates(ingress=having("connect", **served)).bad)


def test_a_certificate_for_a_wildcard_is_one_for_the_host() -> None:
    served = {"certificate": build.certificate("*.example.com")}

    assert certificates(ingress=having("connect", **served)).bad == []


def test_an_unknown_root_fails_only_where_the_roots_are_named() -> None:
    sent = having("connect", distrust="self-signed certificate")
    named = msgspec.structs.replace(sent, trusted=True)

    assert "self-signed" in told(certificates(ingress=sent).expiring)
    assert certificates(ingress=sent).bad == []
    assert "self-signed" in told(certificates(ingress=named).bad)


def test_a_gateway_may_serve_its_own_certificate_of_the_mesh() -> None:
    """The mode ISTIO_SIMPLE: clients compare an identity, and no host."""
    listener = ApiListener(
        name="https",
        port=443,
        protocol="HTTPS",
        hostname=build.HOST,
        tls=ListenerTls(options={"gateway.istio.io/tls-terminate-mode": "ISTIO_SIMPLE"}),
    )
    gateway = build.api_gateway(listener=listener)
    lists: dict[str, Any] = {
        "gateways": (),
        "virtual_services": (),
        "api_gateways": (gateway,),
    }
    lists |= {
        "deployments": (build.gateway_deployment(labels={**build.LABELS, **build.API_LABELS}),),
        "pods": (build.gateway_pod(labels={**build.LABELS, **build.API_LABELS}),),
    }
    sent = build.traffic(
        *(
            build.answered(each, certificate=build.certificate(), distrust="unknown root")
            for each in build.requests(**lists)
            if not each.tls_version
        )
    )
    named = build.traffic(
        *(
            msgspec.structs.replace(each, certificate=build.certificate("spiffe.invalid"))
            for each in sent.exchanges
        )
    )

    found = certificates(ingress=named, **lists)
    assert found.served
    assert (found.bad, found.expiring) == ([], [])
