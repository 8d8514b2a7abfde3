"""TLS as a client that must see more than whether it is let in."""

import os
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

PEER_ALPN = ("istio-peer-exchange", "istio")


class StorageError(Exception):
    """This system has no place for a key that is not a file."""


def context(
    *, alpn: tuple[str, ...] = (), identity: tuple[bytes, bytes] | None = None
) -> ssl.SSLContext:
    """A client that shows `identity` (chain, key; PEM) and takes whatever certificate it sees.

    What is served is looked at afterwards, by facts/certificates.py: a handshake that we broke off
    would show nothing.
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
    # `ssl` takes files only; this one has no name, is on no disk, and ends with the call
    if not hasattr(os, "memfd_create"):
        raise StorageError("this system cannot hold a key in memory alone (it has no memfd_create)")
    with os.fdopen(os.memfd_create("identity"), "wb") as file:
        file.write(chain + b"\n" + key)
        file.flush()
        client.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def served(connection: ssl.SSLSocket) -> list[x509.Certificate]:
    """What the other side showed, leaf first."""
    # public since Python 3.13, and there since 3.10
    inner: Any = connection if hasattr(connection, "get_unverified_chain") else connection._sslobj  # type: ignore[attr-defined]
    chain = inner.get_unverified_chain() or []
    return [x509.load_der_x509_certificate(_der(each)) for each in chain]


def _der(certificate: Any) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    return ssl.PEM_cert_to_DER_cert(certificate.public_bytes())


def pem(key: Any) -> bytes:
    """A private key as `ssl` takes it."""
    private: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private
