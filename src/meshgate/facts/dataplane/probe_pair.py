"""The probe pair: whether new pods join the mesh, and reach each other and others in it."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.evidence import Evidence
from meshgate.semantics.versions import Version
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class ProbePair:
    """Two pods that were made after the upgrade, and what they saw from inside."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _pair(self) -> Pair:
        """Raises NotApplicable where none was asked for, CouldNotVerify where it could not run."""
        pair = self._evidence.pair
        if pair.skipped_reason:
            raise NotApplicable(pair.skipped_reason)
        for peer in pair.peers:
            if peer.unmade:
                raise CouldNotVerify(
                    f"{self._name(peer.name, pair)} could not be run: {peer.unmade}",
                    f"kubectl -n {pair.namespace} get events: its image (--probe-pair) needs "
                    "Python, and a webhook, a quota or a policy may refuse the pod",
                    transient=True,
                )
        return pair

    @staticmethod
    def _name(peer: str, pair: Pair) -> str:
        return f"Probe {pair.namespace}/{peer}"

    # --- injection ------------------------------------------------------------------------------

    @property
    def uninjected(self) -> list[Finding]:
        """New pods without a sidecar, or with one of another version than expected."""
        wanted = Version.parse(self._evidence.expectations.target_version or "")
        return [each for peer in self._pair.peers for each in self._uninjected(peer, wanted)]

    def _uninjected(self, peer: Peer, wanted: Version | None) -> Iterator[Finding]:
        pair = self._pair
        version = Version.of_image(peer.proxy_image)
        if not peer.proxy_image:
            yield Finding(
                self._name(peer.name, pair),
                "was given no sidecar",
                f"one of {wanted}" if wanted else "one",
                f"label namespace {pair.namespace} as the others are (istio-injection=enabled, or "
                "istio.io/rev), or mend the injection webhook",
            )
        elif wanted and version and version != wanted:
            yield Finding(
                self._name(peer.name, pair),
                f"was given a sidecar of {version}",
                str(wanted),
                f"label namespace {pair.namespace} with the revision of the new istiod",
            )

    @property
    def unknown_versions(self) -> list[Finding]:
        """New pods whose sidecar's version nothing tells."""
        return [
            Finding(
                self._name(peer.name, self._pair),
                f"nothing says which version its sidecar is: {peer.proxy_image}",
                remedy="nothing, if the image is right: it is named by a digest alone",
            )
            for peer in self._pair.peers
            if peer.proxy_image
            and self._evidence.expectations.target_version
            and Version.of_image(peer.proxy_image) is None
        ]

    # --- calls ----------------------------------------------------------------------------------

    @property
    def broken(self) -> list[Finding]:
        """Calls that did not arrive, or not as the caller."""
        pair = self._pair
        found = [
            Finding(
                self._name(peer.name, pair),
                peer.stuck,
                "a report of its calls",
                "look at the sidecar of a new pod: it has no configuration or no certificate",
                transient=True,
            )
            for peer in pair.peers
            if peer.stuck
        ]
        for call in pair.calls:
            if call.kind == "declared" or (call.kind == "peer" and not call.denied):
                found += self._unanswered(call)
            if call.kind == "peer" and not call_failure(call) and not call.denied:
                found += self._misnamed(call)
        denied = next((each for each in pair.calls if each.kind == "peer" and each.denied), None)
        if denied and not found:
            raise CouldNotVerify(
                f"{self._name(denied.peer, pair)} is denied by an AuthorizationPolicy when it "
                f"calls {denied.target}: who it is seen as cannot be told",
                f"allow the principal */ns/{pair.namespace}/sa/{pair.account} in namespace "
                f"{pair.namespace}",
                transient=True,
            )
        return found

    @property
    def unreached(self) -> list[Finding]:
        """Services of the sample that the pair could not call: they may not be for it."""
        return [
            finding
            for call in self._pair.calls
            if call.kind == "sampled"
            for finding in self._unanswered(call)
        ]

    def _unanswered(self, call: PeerCall) -> Iterator[Finding]:
        if words := call_failure(call):
            yield Finding(
                self._name(call.peer, self._pair),
                f"its call to {call.target} {words}",
                "an answer through mTLS",
                "compare the PeerAuthentications, DestinationRules and Sidecars that hold there",
                transient=True,  # a policy that has just changed is on its way
            )

    def _misnamed(self, call: PeerCall) -> Iterator[Finding]:
        pair = self._pair
        expected = f"/ns/{pair.namespace}/sa/{pair.account}"
        if call.caller == "":
            seen = "came without mTLS: x-forwarded-client-cert names nobody"
        elif call.caller and not _named(call.caller, expected):
            seen = f"came as {call.caller}"
        else:
            return
        yield Finding(
            self._name(call.peer, pair),
            f"its call to {call.target} {seen}",
            f"spiffe://…{expected}",
            "look for a PeerAuthentication that says DISABLE, or a port that bypasses the sidecar",
            transient=True,
        )


def call_failure(call: PeerCall) -> str:
    """Why a call is no answer of what was called; empty for one that is, a denial among them."""
    if call.error:
        return f"is not answered: {call.error}"
    if call.local:
        return f"is answered {call.status} by its own sidecar: {call.words}"
    if call.kind == "peer" and call.caller is None and not call.denied:
        return f"is answered {call.status}, and not by it: its server does not take the call"
    return ""


def _named(caller: str, expected: str) -> bool:
    return caller.startswith("spiffe://") and caller.endswith(expected)
