"""TLS clients that inspect what a server presents, whether or not it accepts them."""

import os
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshgate.semantics.certificates import UNREADABLE

PEER_ALPN = ("istio-peer-exchange", "istio")


class StorageError(Exception):
    """The system cannot keep a private key in memory only."""


def context(
    *, alpn: tuple[str, ...] = (), identity: tuple[bytes, bytes] | None = None
) -> ssl.SSLContext:
    """Return a client context that presents `identity` and accepts any server certificate.

    The server's certificate is verified afterwards (semantics/certificates.py): an aborted
    handshake would show nothing.

    Args:
        alpn: the protocols to offer.
        identity: chain and key as PEM; None for no client certificate.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if alpn:
        client.set_alpn_protocols(list(alpn))
    if identity:
        _show(client, *identity)
    return client


def _show(client: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    # `ssl` only accepts files: this one exists in memory, has no name, and ends with the call
    if not hasattr(os, "memfd_create"):
        raise StorageError("this system cannot hold a key in memory alone (it has no memfd_create)")
    with os.fdopen(os.memfd_create("identity"), "wb") as file:
        file.write(chain + b"\n" + key)
        file.flush()
        client.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def served(connection: ssl.SSLSocket) -> list[x509.Certificate]:
    """Return the certificates that the server presented, leaf first; none if one is unreadable."""
    # public since Python 3.13, and there since 3.10
    inner: Any = connection if hasattr(connection, "get_unverified_chain") else connection._sslobj  # type: ignore[attr-defined]
    chain = inner.get_unverified_chain() or []
    try:
        return [x509.load_der_x509_certificate(_der(each)) for each in chain]
    except UNREADABLE:
        return []  # no sidecar serves one that cannot even be loaded


def _der(certificate: Any) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    return ssl.PEM_cert_to_DER_cert(certificate.public_bytes())


def pem(key: Any) -> bytes:
    """Return a private key as PEM, as `ssl` accepts it."""
    private: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private
