"""Which versions of TLS listeners take, beside what their Gateways say."""

from collections.abc import Iterator
from typing import NamedTuple

from meshgate.facts.ingress.gateways import REFUSED, IngressGateways
from meshgate.semantics.topology import TLS, Listener
from meshgate.snapshot.ingress import Exchange
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

VERSIONS = tuple(TLS.values())
MODERN = VERSIONS.index("TLSv1.2")


class Tried(NamedTuple):
    """A version that was offered alone, and whether it was taken."""

    listener: Listener
    version: str
    taken: bool

    @property
    def meant(self) -> bool:
        """Whether the Gateway says that it is to be taken."""
        age = VERSIONS.index(self.version)
        least, most = self.listener.least, self.listener.most
        return VERSIONS.index(least) <= age <= VERSIONS.index(most)


class TlsVersions:
    """What every listener that serves a certificate was offered."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    def _tried(self) -> Iterator[Tried]:
        for seen, listener in self._ingress.exchanges():
            if not seen.request.tls_version:
                continue
            if (taken := _taken(seen)) is not None:
                yield Tried(listener, seen.request.tls_version, taken)

    @property
    def others(self) -> list[Finding]:
        """Versions that are taken or refused, where the Gateway says otherwise."""
        secured = [each for each in self._ingress.topology.listeners if each.terminates]
        if not secured:
            raise NotApplicable("no listener serves a certificate of its own")
        tried = list(self._tried())
        if not tried:
            raise CouldNotVerify(
                "no listener said which versions of TLS it takes",
                "is a listener reached at all? Else capture it again",
                transient=True,
            )
        return [
            Finding(
                each.listener.words,
                f"{'takes' if each.taken else 'refuses'} {each.version}",
                f"{each.listener.least} to {each.listener.most}",
                "compare its tls.minProtocolVersion, and look for an EnvoyFilter",
                transient=True,
            )
            for each in tried
            if each.taken != each.meant
        ]

    @property
    def old(self) -> list[Finding]:
        """Versions that are given up, and that a Gateway asks for."""
        return [
            Finding(
                each.listener.words,
                f"takes {each.version}, as its Gateway says",
                "TLS 1.2 or newer",
                "raise its tls.minProtocolVersion when no client needs the old one",
            )
            for each in self._tried()
            if each.taken and each.meant and VERSIONS.index(each.version) < MODERN
        ]


def _taken(seen: Exchange) -> bool | None:
    """None where the listener did not come as far as to say so."""
    if not seen.error:
        return True
    # of an old version a refusal may as well mean that no cipher of it is left
    if VERSIONS.index(seen.request.tls_version) >= MODERN and any(
        word in seen.alert for word in REFUSED
    ):
        return True
    return False if "PROTOCOL_VERSION" in seen.alert else None
