"""X.509: what PEM bundles hold, and whether a chain leads to a root.  Pure; nothing private."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from meshgate.snapshot.wire import Certificate

# What `cryptography` raises for a certificate that breaks a rule of X.509.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,  # a name of an ASN.1 type that it does not know
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

_NEVER = datetime.fromtimestamp(0, UTC)


@lru_cache(maxsize=64)
def fingerprint(pem: bytes) -> str:
    """Return a short digest of a bundle that ignores white space."""
    return hashlib.sha256(b"".join(pem.split())).hexdigest()[:16]


def parse(pem: str) -> list[x509.Certificate]:
    """All certificates of a bundle; none where it holds nothing that is one."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except UNREADABLE:
        return []


def described(certificate: x509.Certificate) -> Certificate:
    """Return a certificate's public facts; `problem` says why they cannot be read.

    Anything may be served, and only what is parsed shows whether it is X.509: a certificate with
    a duplicate extension can be loaded, and raises when its extensions are read.
    """
    try:
        return Certificate(
            subject=certificate.subject.rfc4514_string(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            sans=tuple(str(name.value) for name in _alternative_names(certificate)),
        )
    except UNREADABLE as error:
        problem = str(error)[:200] or type(error).__name__
        return Certificate(subject="", not_before=_NEVER, not_after=_NEVER, problem=problem)


def spiffe_id(chain: Sequence[x509.Certificate]) -> str:
    """Return the SPIFFE ID of a chain's leaf; empty if it has none."""
    sans = described(chain[0]).sans if chain else ()
    return next((name for name in sans if name.startswith("spiffe://")), "")


def _alternative_names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()


def distrust(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> str:
    """Why a chain, leaf first, does not lead to one of the roots; empty where it does.

    Istio's own roots lack what the web's profile asks for, so this is RFC 5280's core: names,
    signatures, dates, and that only a CA signs.

    Args:
        chain: the certificates, leaf first.
        roots: the trusted roots.
        at: the time of the verification.

    Returns:
        The reason; empty if the chain is trusted.
    """
    try:
        return _distrust(chain, roots, at)
    except UNREADABLE as error:
        return f"a certificate cannot be read: {str(error)[:200] or type(error).__name__}"


def _distrust(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> str:
    if not chain:
        return "no certificate was sent"
    if not roots:
        return "there is no root certificate to verify it against"
    current, seen = chain[0], 0
    while True:
        if not current.not_valid_before_utc <= at <= current.not_valid_after_utc:
            return f"{_name(current)} is not valid at {at:%Y-%m-%d %H:%M} UTC"
        if current in roots or any(_signed(current, root, at) for root in roots):
            return ""
        issuer = next((each for each in chain[seen + 1 :] if _signed(current, each, at)), None)
        if issuer is None:
            return f"{_name(current)} leads to none of the roots"
        current, seen = issuer, chain.index(issuer)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, *UNREADABLE):
        return False
    return constraints.ca and issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"


def remaining(certificate: Certificate, at: datetime) -> float:
    """Return the share of its lifetime that is left: 1 at its start, 0 or less from its end on.

    A share and not days: ten days are plenty for a certificate of 24 hours, and late for a root.
    """
    if at < certificate.not_before:
        return 0.0
    lifetime = certificate.not_after - certificate.not_before
    return (certificate.not_after - at) / lifetime if lifetime else 0.0
