"""What four connections to each of many ports cost, beside `openssl s_time` in the same run.

    .venv/bin/python bench/mtls.py [PORTS]

A farm of TLS servers on loopback behaves as sidecars under STRICT, in processes of its own on the
same cores: their half of the work is in the figures of both.
"""

import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from farm import farm

from meshgate.facts.dataplane.mtls import seen_mode
from meshgate.probe import mtls
from meshgate.probe.signing import Identity
from meshgate.probe.tls import pem

LISTENERS = 10
NOW = datetime.now(UTC)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def issue(name: str, key: Key, issuer: str, by: Key, *, ca: bool) -> bytes:
    """A certificate of a workload (a SPIFFE name) or a CA."""
    sans = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
    common = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
    return (
        x509.CertificateBuilder()
        .subject_name(common if ca else x509.Name([]))
        .issuer_name(common)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=23))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(sans, critical=True)
        .sign(by, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def strict(folder: Path) -> Sequence[ssl.SSLContext]:
    """Ports that want a certificate of the mesh."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "web.pem", folder / "web.key")
    context.load_verify_locations(folder / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return [context] * LISTENERS


def s_time(folder: Path, port: int) -> float:
    """Full handshakes a second, with a client certificate, of one `openssl s_time`."""
    words = f"-connect 127.0.0.1:{port} -new -time 5 -cert us.pem -key us.key -CAfile root.pem"
    ran = subprocess.run(
        ["openssl", "s_time", *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"(\d+) connections in (\d+) real seconds", ran.stdout)
    if not found:
        raise SystemExit(f"openssl s_time says: {ran.stdout}{ran.stderr}")
    return int(found[1]) / int(found[2])


def main() -> None:
    """Measures, prints a row, and fails where the ports were not seen as they are."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        root, web, us = (
            ec.generate_private_key(ec.SECP256R1()),
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256R1()),
        )
        name = "spiffe://cluster.local/ns/shop/sa/web"
        issued = {
            "root": (issue("spiffe://cluster.local", root, "root", root, ca=True), root),
            "web": (issue(name, web, "root", root, ca=False), web),
            "us": (issue("spiffe://cluster.local/us", us, "root", root, ca=False), us),
        }
        for file, (certificate, key) in issued.items():
            (folder / f"{file}.pem").write_bytes(certificate)
            (folder / f"{file}.key").write_bytes(pem(key))
        identity = Identity(issued["us"][0], pem(us), "spiffe://cluster.local/us")
        with farm(folder, strict, ANSWER) as servers:
            listening = [port for ports in servers for port in ports]
            yardstick = s_time(folder, listening[0])
            targets = [
                mtls.Target(f"shop/web-{n}", "127.0.0.1", listening[n % len(listening)], http=True)
                for n in range(count)
            ]
            begun, before = time.monotonic(), os.times()
            seen = mtls.ask(targets, identity, issued["root"][0].decode(), NOW, 0)
            seconds, after = time.monotonic() - begun, os.times()
    modes = Counter(seen_mode(each) or "open" for each in seen)
    good = sum(
        each.mesh is not None and each.mesh.status == 200 and each.foreign.end == "refused"
        for each in seen
    )
    cpu = after.user + after.system - before.user - before.system
    print(
        f"| {count} | {seconds:.1f} s, {4 * count / seconds:.0f} connections/s, {cpu:.1f} s of "
        f"processor | {yardstick:.0f} handshakes/s | load {os.getloadavg()[0]:.0f} |"
    )
    if modes != {"STRICT": count} or good != count:
        raise SystemExit(f"the ports were not seen as they are: {modes}, {good} of {count} good")


if __name__ == "__main__":
    main()
