"""The certificates that the gateways serve, as a client sees them."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.hosts import certificate_covers, is_probe_name
from meshgate.semantics.listeners import BUILT_IN, Listener
from meshgate.settings import flag
from meshgate.snapshot.ingress import INSIDE, Exchange
from meshgate.snapshot.wire import Certificate
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

SOON = timedelta(days=14)
MODERN = ("TLSv1.2", "TLSv1.3")


class ServedCertificates:
    """One certificate for each host of each TLS listener."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    @property
    def bad(self) -> list[Finding]:
        """Certificates that a client would not accept."""
        return [finding for finding, warns in self._judged() if not warns]

    @property
    def expiring(self) -> list[Finding]:
        """Certificates that expire soon, or lead to a root that is unknown here."""
        return [finding for finding, warns in self._judged() if warns]

    def _judged(self) -> Iterator[tuple[Finding, bool]]:
        if not self.served:
            listeners = self._ingress.topology.listeners
            secured = [each for each in listeners if each.tls not in ("", "ISTIO_MUTUAL")]
            if not any(each.terminates for each in secured):
                raise NotApplicable("no listener serves a certificate")
            if all(each.tls == "MUTUAL" for each in secured if each.terminates):
                raise NotApplicable(
                    "only mutual TLS listeners serve a certificate; it shows with "
                    f"{flag('ingress.identity')}"
                )
            raise CouldNotVerify("no listener served a certificate", "look at IG004")
        for seen, listener in self.served:
            yield from self._findings(seen, listener)

    @cached_property
    def served(self) -> list[tuple[Exchange, Listener]]:
        """The handshakes in which a listener served a certificate, one for each of its hosts."""
        return [
            (seen, listener)
            for seen, listener in self._ingress.exchanges()
            for request in [seen.request]
            if (seen.certificate or seen.unreadable) and request.vantage == INSIDE
            if not request.tls_version and not request.certificate
            if request.kind == "connect" or request.tls == "MUTUAL"
        ]

    def _findings(self, seen: Exchange, listener: Listener) -> Iterator[tuple[Finding, bool]]:
        where = f"{listener.words} host {seen.request.host}"
        holder = listener.credential or "the listener's Secret"
        if listener.tls == "PASSTHROUGH":
            holder = ", ".join(seen.request.backends) or "the backend"
        certificate = seen.certificate
        if certificate is None:
            yield (
                Finding(
                    where,
                    f"serves a certificate that cannot be decoded: {seen.unreadable}",
                    "a certificate that conforms to RFC 5280",
                    f"replace the certificate of {holder}",
                    problem="unreadable-certificate",
                ),
                False,
            )
            return
        named = listener.tls != BUILT_IN and self._is_named(seen)
        if named and (finding := _other_name(where, certificate, seen, holder)):
            yield finding, False
        now = self._ingress.evidence.snapshot.taken
        if not certificate.not_before <= now <= certificate.not_after:
            yield _not_valid(where, certificate, now > certificate.not_after, holder), False
        elif certificate.not_after - now < SOON:
            yield (
                Finding(
                    where,
                    f"its certificate expires on {certificate.not_after:%Y-%m-%d}",
                    f"at least {SOON.days} days that are left",
                    f"renew the certificate of {holder}",
                    problem="certificate-expires-soon",
                ),
                True,
            )
        elif seen.distrust and listener.tls != BUILT_IN:
            yield (
                Finding(
                    where,
                    f"its certificate leads to no known root: {seen.distrust}",
                    "a chain that clients trust",
                    f"name the roots that its clients trust with {flag('ingress.ca')}",
                    problem="untrusted-certificate",
                ),
                not self._ingress.traffic.trusted,
            )
        if seen.tls_version and seen.tls_version not in MODERN:
            yield (
                Finding(
                    where,
                    f"negotiates {seen.tls_version}",
                    "TLS 1.2 or newer",
                    f"raise tls.minProtocolVersion of {listener.subject}",
                    problem="old-tls-version",
                    about=(("version", seen.tls_version),),
                ),
                False,
            )

    def _is_named(self, seen: Exchange) -> bool:
        """Return whether clients use this name: a made-up one only if a route has the wildcard."""
        request = seen.request
        if not is_probe_name(request.host):
            return True
        if request.host.endswith(".invalid"):
            return False
        return any(
            each.request.kind == "request"
            and each.request.route
            and (each.request.gateway, each.request.port, each.request.host)
            == (request.gateway, request.port, request.host)
            for each, _ in self._ingress.exchanges()
        )


def _other_name(
    where: str, certificate: Certificate, seen: Exchange, holder: str
) -> Finding | None:
    host = seen.request.host
    if any(certificate_covers(name, host) for name in certificate.sans):
        return None
    names = ", ".join(certificate.sans) or certificate.subject
    return Finding(
        where,
        f"serves a certificate for {names}",
        f"one for {host}",
        f"replace the certificate of {holder}",
        problem="wrong-certificate-name",
        about=(("names", names),),
    )


def _not_valid(where: str, certificate: Certificate, expired: bool, holder: str) -> Finding:
    day = certificate.not_after if expired else certificate.not_before
    return Finding(
        where,
        f"serves a certificate that {'expired on' if expired else 'is not valid before'} "
        f"{day:%Y-%m-%d}",
        "one that is valid today",
        f"renew the certificate of {holder}",
        problem="certificate-expired" if expired else "certificate-not-yet-valid",
    )
