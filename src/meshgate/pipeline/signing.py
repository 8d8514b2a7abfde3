"""Sign statements as DSSE envelopes, as cosign does, and verify them."""

from pathlib import Path
from typing import Any

import msgspec

from meshgate.report.attestation import PAYLOAD, STATEMENT


class Unverified(Exception):
    """An envelope is not what it must be; the message says why."""


def sign(statement: dict[str, Any], key: Path) -> bytes:
    """Return the envelope.

    Args:
        statement: what is signed.
        key: a private key (PEM, PKCS 8, without a password).

    Raises:
        OSError, ValueError: the key cannot be used.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - only where evidence is signed
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

    signer = CryptoSigner(load_pem_private_key(key.read_bytes(), None))
    envelope = Envelope(msgspec.json.encode(statement), PAYLOAD, {})
    envelope.sign(signer)
    return msgspec.json.encode(envelope.to_dict())


def verified(content: bytes, key: Path) -> dict[str, Any]:
    """Return the statement of an envelope that this key has signed.

    Args:
        content: an envelope, or cosign's bundle with one.
        key: a public key (PEM).

    Raises:
        Unverified: it is not an envelope of a statement, or has no signature of this key.
        OSError, ValueError: the key cannot be used.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - only where evidence is signed
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    try:
        found = msgspec.json.decode(content)
        found = found.get("dsseEnvelope", found)
        for signature in found["signatures"]:
            signature.setdefault("keyid", "")
        envelope = Envelope.from_dict(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unverified(f"it is not a DSSE envelope: {error}") from error
    # other signers name a key differently, or not at all: the signature alone counts
    for signature in envelope.signatures.values():
        signature.keyid = public.keyid
    try:
        envelope.verify([public], 1)
    except VerificationError as error:
        raise Unverified("it has no signature of this key") from error
    try:
        statement = msgspec.json.decode(envelope.payload, type=dict[str, Any])
    except ValueError as error:
        raise Unverified(f"its payload is not a statement: {error}") from error
    if envelope.payload_type != PAYLOAD or statement.get("_type") != STATEMENT:
        raise Unverified("its payload is not an in-toto statement")
    return statement
