"""What stage C's traffic costs for many hosts, beside httpx one request after the other.

    .venv/bin/python bench/ingress.py [HOSTS]

A farm on loopback answers as a gateway does, in processes of its own on the same cores: their half
of the work is in the figures of both.
"""

import itertools
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from farm import farm

from meshgate.probe.ingress import plan, send
from meshgate.probe.tls import pem
from meshgate.probe.traffic import Traffic
from meshgate.semantics.topology import Entrypoint, GatewayTopology, RoutingConfig
from meshgate.snapshot.istio import (
    Destination,
    Gateway,
    GatewaySpec,
    HttpRoute,
    Port,
    RouteDestination,
    Server,
    ServerTls,
    VirtualService,
    VirtualServiceSpec,
)
from meshgate.snapshot.kubernetes import (
    Deployment,
    DeploymentSpec,
    Metadata,
    PodTemplate,
    Service,
    ServicePort,
    ServiceSpec,
    TemplateMetadata,
)

LABELS = {"istio": "front"}
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: envoy\r\nx-envoy-upstream-service-time: 1\r\n"
    b"content-length: 2\r\nconnection: close\r\n\r\nok"
)


def certificate(folder: Path) -> None:
    """One for all hosts, as wildcards are, with the key that most have."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "*.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "web.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "web.key").write_bytes(pem(key))


def both(folder: Path) -> Sequence[ssl.SSLContext | None]:
    """A port for HTTP and one for HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "web.pem", folder / "web.key")
    return [None, context]


def mesh(hosts: list[str]) -> GatewayTopology:
    """A gateway for HTTP and HTTPS, and a VirtualService for each host."""
    servers = (
        Server(port=Port(number=80, protocol="HTTP", name="http"), hosts=tuple(hosts)),
        Server(
            port=Port(number=443, protocol="HTTPS", name="https"),
            hosts=tuple(hosts),
            tls=ServerTls(mode="SIMPLE", credential_name="all"),
        ),
    )
    route = HttpRoute(route=(RouteDestination(destination=Destination(host="web")),))
    template = PodTemplate(metadata=TemplateMetadata(labels=LABELS))
    front = Metadata(name="front", namespace="ways")
    return GatewayTopology(
        RoutingConfig(
            services=[
                Service(
                    metadata=front,
                    spec=ServiceSpec(
                        selector=LABELS,
                        ports=(ServicePort(port=80, name="p"), ServicePort(port=443, name="s")),
                    ),
                )
            ],
            slices=[],
            pods=[],
            deployments=[Deployment(metadata=front, spec=DeploymentSpec(template=template))],
            gateways=[Gateway(metadata=front, spec=GatewaySpec(selector=LABELS, servers=servers))],
            virtual_services=[
                VirtualService(
                    metadata=Metadata(name=host, namespace="shop"),
                    spec=VirtualServiceSpec(hosts=(host,), gateways=("ways/front",), http=(route,)),
                )
                for host in hosts
            ],
            destination_rules=[],
            api_gateways=[],
            http_routes=[],
            grpc_routes=[],
            tls_routes=[],
        )
    )


def one_after_the_other(hosts: list[str], ports: tuple[int, ...]) -> float:
    """Seconds for three requests to each host, each on a connection of its own."""
    plain, secured = ports
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    begun = time.monotonic()
    for host in hosts:
        for url in (f"http://127.0.0.1:{plain}", *[f"https://127.0.0.1:{secured}"] * 2):
            with httpx.Client(verify=trusting, trust_env=False) as client:
                answer = client.get(url, headers={"host": host}, extensions={"sni_hostname": host})
                if answer.status_code != 200:
                    raise SystemExit(f"{host} answered {answer.status_code}")
    return time.monotonic() - begun


def main() -> None:
    """Measures, prints a row, and fails where an answer is missing or all take too long."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    hosts = [f"host-{number}.example.com" for number in range(count)]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        certificate(folder)
        with farm(folder, both, ANSWER) as servers:
            turns = itertools.cycle(servers)

            def enter(entrypoint: Entrypoint) -> socket.socket:
                return socket.create_connection(
                    ("127.0.0.1", next(turns)[entrypoint.port == 443]), 5
                )

            few = hosts[: max(1, count // 10)]
            yardstick = one_after_the_other(few, servers[0]) * count / len(few)
            traffic = Traffic(rate=1e6, limit=10 * count)
            begun, before = time.monotonic(), os.times()
            planned, vantages, _ = plan(mesh(hosts), traffic, enter)
            ready = time.monotonic() - begun
            sent = send(planned, vantages, traffic)
            seconds, after = time.monotonic() - begun, os.times()
    cpu = after.user + after.system - before.user - before.system
    answered = sum(each.status == 200 for each in sent.exchanges)
    print(
        f"| {count} | {len(planned)} | {seconds:.1f} s ({ready:.1f} s to plan), {cpu:.1f} s of "
        f"processor | {yardstick:.1f} s | {yardstick / seconds:.1f} | {os.getloadavg()[0]:.0f} |"
    )
    if sent.unsent or answered < 2 * count:
        raise SystemExit(f"only {answered} answers, {len(sent.unsent)} were not sent")
    if count == 1000 and seconds > 20:
        raise SystemExit(f"{seconds:.1f} s are more than the 20 that were promised")


if __name__ == "__main__":
    main()
