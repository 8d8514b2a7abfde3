"""Which TLS versions listeners accept, compared with what their Gateways say."""

from functools import cached_property
from typing import NamedTuple

from meshgate.facts.ingress.connections import REFUSED
from meshgate.facts.ingress.gateways import IngressGateways
from meshgate.semantics.listeners import VERSIONS, Listener
from meshgate.snapshot.ingress import Exchange
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

MODERN = VERSIONS.index("TLSv1.2")
# OpenSSL's reasons for not even offering a version
NOT_OFFERED = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "UNSUPPORTED_PROTOCOL_VERSION")
# what the names of cipher suites before TLS 1.2 end with
LEGACY = ("-SHA",)


class Offered(NamedTuple):
    """A version that was offered alone, and whether it was accepted; None if that is unknown."""

    listener: Listener
    seen: Exchange
    accepted: bool | None

    @property
    def version(self) -> str:
        """As Python's `ssl` calls it."""
        return self.seen.request.tls_version

    @property
    def meant(self) -> bool:
        """Whether the Gateway says that the listener accepts it."""
        age = VERSIONS.index(self.version)
        least, most = self.listener.least, self.listener.most
        return VERSIONS.index(least) <= age <= VERSIONS.index(most)

    @property
    def may_be_refused(self) -> bool:
        """Whether the mesh config excludes it, which only newer patch releases do at gateways."""
        least = self.listener.mesh_least
        return bool(least) and VERSIONS.index(self.version) < VERSIONS.index(least)

    @property
    def without_cipher(self) -> bool:
        """Whether no cipher suite of the listener exists in this version.

        Istio's default suites are all of TLS 1.2.
        """
        return VERSIONS.index(self.version) < MODERN and not any(
            each.endswith(LEGACY) for each in self.listener.ciphers
        )


class TlsVersions:
    """What every listener that serves a certificate was offered."""

    def __init__(self, ingress: IngressGateways) -> None:
        self._ingress = ingress

    @cached_property
    def offered(self) -> list[Offered]:
        """Every handshake in which one version was offered alone."""
        return [
            Offered(listener, seen, _accepted(seen))
            for seen, listener in self._ingress.exchanges()
            if seen.request.tls_version and listener.terminates
        ]

    @property
    def mismatched(self) -> list[Finding]:
        """Versions that are accepted or refused, where the Gateway says otherwise.

        Raise CouldNotVerify if a listener says nothing about a version that it should accept.
        """
        listeners = self._ingress.topology.listeners
        secured = [each for each in listeners if each.terminates]
        if not secured:
            raise NotApplicable("no listener serves a certificate to clients outside the mesh")
        found = [
            Finding(
                each.listener.words,
                f"{'accepts' if each.accepted else 'refuses'} {each.version}",
                f"{each.listener.least} to {each.listener.most}",
                f"compare tls.minProtocolVersion of {each.listener.subject}, and look for an "
                "EnvoyFilter",
                transient=True,
                problem="version-accepted" if each.accepted else "version-refused",
                about=(("host", each.seen.request.host), ("version", each.version)),
            )
            for each in self.offered
            if each.accepted is not None and each.accepted != each.meant
            if not (each.meant and (each.without_cipher or each.may_be_refused))
        ]
        if not found:
            self._require(secured)
        return found

    def _require(self, secured: list[Listener]) -> None:
        """Raise CouldNotVerify if a version that should be accepted was not seen to be."""
        for each in self.offered:
            if each.accepted is not None or not each.meant or each.may_be_refused:
                continue
            local = each.seen.alert in NOT_OFFERED
            if each.without_cipher and not local and each.seen.alert:
                continue  # it refuses the handshake, as its cipher suites say
            raise CouldNotVerify(
                f"{each.listener.words} was not seen to accept or refuse {each.version}: "
                + ("OpenSSL on this machine cannot offer it" if local else each.seen.error),
                "test from a machine whose OpenSSL offers this version, or raise "
                "tls.minProtocolVersion"
                if local
                else "look at IG004",
                transient=not local,
            )
        reached = {each.listener.words for each in self.offered if each.accepted is not None}
        silent = [each.words for each in secured if each.words not in reached]
        if silent:
            raise CouldNotVerify(
                f"TLS versions of {silent[0]} are unknown: it was not connected to",
                "look at IG002 and IG004",
                transient=True,
            )

    @property
    def old(self) -> list[Finding]:
        """Obsolete versions that a Gateway allows."""
        return [
            Finding(
                each.listener.words,
                f"accepts {each.version}, as its Gateway says"
                if each.accepted
                else f"allows {each.version}, but has no cipher suite for it: no client can use it",
                "TLS 1.2 or newer",
                f"raise tls.minProtocolVersion of {each.listener.subject}",
                problem="old-version",
                about=(("version", each.version),),
            )
            for each in self.offered
            if each.meant and VERSIONS.index(each.version) < MODERN
            if each.accepted or each.without_cipher
        ]


def _accepted(seen: Exchange) -> bool | None:
    """Return None if the handshake ended before that was decided."""
    if not seen.error:
        return True
    # for an old version this alert may also mean that no cipher suite is left
    if VERSIONS.index(seen.request.tls_version) >= MODERN and any(
        word in seen.alert for word in REFUSED
    ):
        return True
    return False if "PROTOCOL_VERSION" in seen.alert else None
