"""Whether every listener opens a connection, and whether mutual TLS is enforced."""

from functools import cached_property

from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.listeners import Listener
from meshgate.settings import flag
from meshgate.snapshot.ingress import PROBER, Exchange
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# TLS alerts of a listener that demands a client certificate
REFUSED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")


class GatewayConnections:
    """Connections and TLS handshakes with the gateways' listeners."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    @property
    def unreachable(self) -> list[Finding]:
        """Listeners to which no connection opens, or whose TLS handshake fails.

        Raise CouldNotVerify if nothing was sent to a listener that has an entrypoint.
        """
        found: dict[tuple[str, ...], Finding] = {}
        tried: set[Listener] = set()
        for seen, listener in self._ingress.exchanges():
            tried.add(_hashable(listener))
            if finding := _connection(seen, listener):
                about = tuple(value for _, value in finding.about)
                found.setdefault((finding.subject, finding.problem, *about), finding)
        if not tried:
            self._explain_nothing_tried()
        return list(found.values())

    def _explain_nothing_tried(self) -> None:
        """Raise what applies if no listener was connected to."""
        skipped = [each for each in self._ingress.traffic.skipped if each.kind == "listener"]
        if skipped:
            raise NotApplicable(
                f"only the mesh can connect to the listeners: {skipped[0].subject} {skipped[0].why}"
            )
        raise CouldNotVerify("no listener was connected to", "look at IG001 and IG002")

    @property
    def missing_client_auth(self) -> list[Finding]:
        """Mutual TLS listeners that let a client without a certificate in."""
        found = (_without_certificate(*each) for each in self.without_certificate)
        return list(dict.fromkeys(filter(None, found)))

    @cached_property
    def without_certificate(self) -> list[tuple[Exchange, Listener]]:
        """The handshakes with mutual TLS listeners in which no client certificate was sent.

        Raises NotApplicable if there is no such listener.
        """
        if not any(each.tls == "MUTUAL" for each in self._ingress.topology.listeners):
            raise NotApplicable("no listener demands client certificates")
        return [
            (seen, listener)
            for seen, listener in self._ingress.exchanges()
            for request in [seen.request]
            if listener.tls == "MUTUAL" and seen.stage != "connect"
            if not (request.certificate or request.tls_version or request.vantage == PROBER)
        ]


def _hashable(listener: Listener) -> Listener:
    return listener._replace(selector=())  # type: ignore[arg-type]


def _connection(seen: Exchange, listener: Listener) -> Finding | None:
    request = seen.request
    about = (("host", request.host), ("vantage", request.vantage))
    if seen.stage == "connect":
        entrypoint = f"{request.service} port {request.port}"
        return Finding(
            listener.words,
            f"no connection from {request.vantage} by {entrypoint}: {seen.error}",
            "an open connection",
            "look at the Service's endpoints, and for a NetworkPolicy or firewall",
            transient=True,
            problem="no-connection",
            about=(("service", request.service), ("vantage", request.vantage)),
        )
    if request.tls_version:
        return None  # whether the listener should accept that version is IG010's
    if request.certificate and seen.alert:
        return Finding(
            listener.words,
            f"refuses the client certificate for {request.host}: {seen.error}",
            f"it accepts the certificate of {flag('ingress.identity')}",
            f"compare its issuer with the ca.crt of {listener.credential or 'the listener'}",
            transient=True,
            problem="client-certificate-refused",
            about=about,
        )
    if seen.stage == "handshake" and (request.tls != "MUTUAL" or request.certificate):
        names = f", credential {listener.credential}" if listener.credential else ""
        return Finding(
            listener.words,
            f"the TLS handshake for {request.host} fails from {request.vantage}: "
            f"{seen.error}{names}",
            "a certificate",
            _handshake_remedy(seen, listener),
            transient=True,
            problem="handshake-failed",
            about=about,
        )
    return None


def _handshake_remedy(seen: Exchange, listener: Listener) -> str:
    request = seen.request
    if request.tls == "PASSTHROUGH":
        if not request.route:
            return f"add a tls route for {request.host}: no VirtualService or TLSRoute has one"
        return f"look at the backends of {request.route}: {', '.join(request.backends)}"
    if listener.credential and not listener.api:
        return f"kubectl get secret -A --field-selector metadata.name={listener.credential}"
    return f"kubectl -n {listener.namespace} get secrets, and compare with the listener's TLS"


def _without_certificate(seen: Exchange, listener: Listener) -> Finding | None:
    request = seen.request
    where = f"{listener.words} host {request.host}"
    about = (("vantage", request.vantage),)
    if seen.status:
        return Finding(
            where,
            f"answers {seen.status} to a client without a certificate",
            "a refusal",
            "set tls.mode to MUTUAL, and put a ca.crt into the credential",
            problem="client-certificate-not-required",
            about=about,
        )
    if not any(word in seen.alert for word in REFUSED):
        return Finding(
            where,
            f"closes the connection without demanding a certificate: {seen.error}",
            "a refusal",
            f"check that the Secret {listener.credential} exists and has a ca.crt",
            transient=True,
            problem="no-certificate-request",
            about=about,
        )
    return None
