"""Webhooks, a CA and namespaces in a line or two: complete unless a test changes them."""

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshgate.semantics.certificates import fingerprint
from meshgate.snapshot.kubernetes import (
    Container,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    LabelSelector,
    Metadata,
    Namespace,
    Operator,
    Requirement,
    RootCertificate,
    RootData,
    Service,
    ServicePort,
    ServiceReference,
    ServiceSpec,
    TargetReference,
)
from meshgate.snapshot.webhooks import (
    Webhook,
    WebhookClientConfig,
    WebhookConfiguration,
    WebhookMetadata,
)
from meshgate.snapshot.wire import Admission, Certificate, Handshake, Review, Signature, Signing

AT = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
POD = "istiod-1"
NAME = "istiod.istio-system.svc"
IDENTITY = "system:serviceaccount:istio-system:verifier"


class Issued(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def issued(
    name: str,
    by: Issued | None = None,
    *,
    ca: bool = True,
    begins: datetime = AT - timedelta(days=1),
    lasts: timedelta = timedelta(days=3650),
    sans: Iterable[x509.GeneralName] = (),
) -> Issued:
    """A certificate, self-signed unless somebody issued it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lasts)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names := list(sans):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


def duplicate_extension(key: ec.EllipticCurvePrivateKey) -> str:
    """A certificate as PEM that holds one extension twice, which OpenSSL accepts."""
    one, two = (x509.ObjectIdentifier(f"1.2.3.{n}") for n in (4, 5))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old-appliance")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=300))
        .add_extension(x509.UnrecognizedExtension(one, b"\x05\x00"), critical=False)
        .add_extension(x509.UnrecognizedExtension(two, b"\x05\x00"), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\x06\x03\x2a\x03\x05", b"\x06\x03\x2a\x03\x04"))


ROOT = issued("root")


def namespace(name: str = "shop", **labels: str) -> Namespace:
    """A namespace; `injection` and `rev` stand for Istio's two labels."""
    spelled = {
        {"injection": "istio-injection", "rev": "istio.io/rev"}.get(key, key): value
        for key, value in labels.items()
    }
    return Namespace(metadata=Metadata(name=name, labels=spelled))


def row(key: str, operator: Operator, *values: str) -> Requirement:
    """A row of a selector."""
    return Requirement(key=key, operator=operator, values=values)


ENABLED = LabelSelector(match_expressions=(row("istio-injection", "In", "enabled"),))


def injector(
    name: str = "istio-sidecar-injector",
    *,
    revision: str = "default",
    tag: str = "",
    selects: LabelSelector = ENABLED,
    **webhook: Any,
) -> WebhookConfiguration:
    """A MutatingWebhookConfiguration of istiod with one webhook."""
    labels = {"istio.io/rev": revision, **({"istio.io/tag": tag} if tag else {})}
    hook = _webhook("namespace.sidecar-injector.istio.io", "/inject", selects, **webhook)
    return WebhookConfiguration(
        metadata=WebhookMetadata(name=name, labels=labels), webhooks=(hook,)
    )


def validator(name: str = "istio-validator-istio-system", **webhook: Any) -> WebhookConfiguration:
    """A ValidatingWebhookConfiguration of istiod with one webhook."""
    hook = _webhook("rev.validation.istio.io", "/validate", LabelSelector(), **webhook)
    labels = {"istio.io/rev": "default"}
    return WebhookConfiguration(
        metadata=WebhookMetadata(name=name, labels=labels), webhooks=(hook,)
    )


def _webhook(
    name: str,
    path: str,
    selects: LabelSelector,
    *,
    bundle: str = ROOT.pem,
    policy: str = "Fail",
    service: str = "istiod",
    service_namespace: str = "istio-system",
    port: int = 443,
) -> Webhook:
    return Webhook(
        name=name,
        failure_policy=policy,
        namespace_selector=selects,
        client_config=WebhookClientConfig(
            ca_bundle=bundle.encode(),
            service=ServiceReference(
                name=service, namespace=service_namespace, path=path, port=port
            ),
        ),
    )


def service(name: str = "istiod") -> Service:
    """istiod's Service."""
    return Service(
        metadata=Metadata(name=name, namespace="istio-system"),
        spec=ServiceSpec(ports=(ServicePort(name="https-webhook", port=443),)),
    )


def slice_of(*endpoints: Endpoint, service: str = "istiod", port: int = 15017) -> EndpointSlice:
    """The EndpointSlice of that Service."""
    return EndpointSlice(
        metadata=Metadata(
            name=f"{service}-x",
            namespace="istio-system",
            labels={"kubernetes.io/service-name": service},
        ),
        endpoints=endpoints or (endpoint(),),
        ports=(EndpointPort(name="https-webhook", port=port),),
    )


def endpoint(pod: str = POD, address: str = "127.0.0.1", ready: bool | None = True) -> Endpoint:
    """One endpoint."""
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready=ready),
        target_ref=TargetReference(kind="Pod", name=pod),
    )


def handshake(**seen: Any) -> Handshake:
    """A handshake that went well."""
    return Handshake(
        **{"pod": POD, "server_name": NAME, "bundle": fingerprint(ROOT.pem.encode()), **seen}
    )


def review(
    sample: str, *, namespace: str = "", image: str = "x/proxyv2:1.29.1", **seen: Any
) -> Review:
    """What a webhook that is well answers about a sample."""
    proxy = (Container(name="istio-proxy", image=image),)
    well: dict[str, Any] = {
        "pod": POD,
        "server_name": NAME,
        "bundle": fingerprint(ROOT.pem.encode()),
        "path": "/inject" if sample == "pod" else "/validate",
        "allowed": sample != "invalid",
        "containers": proxy if sample == "pod" else (),
    }
    return Review(sample=sample, namespace=namespace, **{**well, **seen})


REVIEWS = (review("pod", namespace="shop"), review("valid"), review("invalid"))


def admission(*reviews: Review, handshakes: Iterable[Handshake] | None = None) -> Admission:
    """What was seen of istiod's webhooks."""
    restarted = (handshake(),) if handshakes is None else tuple(handshakes)
    return Admission(handshakes=restarted, reviews=reviews or REVIEWS)


def trust(namespace: str, *roots: Issued) -> RootCertificate:
    """A namespace's istio-ca-root-cert."""
    return RootCertificate(
        metadata=Metadata(name="istio-ca-root-cert", namespace=namespace),
        data=RootData(pem="".join(each.pem for each in roots or (ROOT,))),
    )


def leaf(lasts: timedelta = timedelta(hours=1), uri: str = "", age: float = 0.0) -> Certificate:
    """A certificate for the verifier."""
    begins = AT - age * lasts
    return Certificate(
        subject="",
        not_before=begins,
        not_after=begins + lasts,
        sans=(uri or "spiffe://cluster.local/ns/istio-system/sa/verifier",),
    )


def ca(name: str = "O=cluster.local", *, left: float = 0.9, days: int = 100) -> Certificate:
    """A CA's certificate of which a share of its lifetime is left."""
    ends = AT + left * timedelta(days=days)
    return Certificate(subject=name, not_before=ends - timedelta(days=days), not_after=ends)


def signing(*chain: Certificate, **seen: Any) -> Signing:
    """What the CA of the one replica did."""
    whole = chain or (() if seen else (leaf(), ca()))
    return Signing(identity=IDENTITY, signatures=(Signature(pod=POD, chain=whole, **seen),))


HEALTHY: dict[str, Any] = {
    "namespaces": (namespace(injection="enabled"), namespace("legacy", injection="disabled")),
    "mutating_webhooks": (injector(),),
    "validating_webhooks": (validator(),),
    "services": (service(),),
    "endpoint_slices": (slice_of(),),
    "admission": admission(),
    "root_certificates": (trust("istio-system"), trust("shop")),
    "signing": signing(),
}
