"""The probe pair: whether new pods get a sidecar, and reach each other and others through mTLS."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.pod_findings import target
from meshgate.facts.evidence import Evidence
from meshgate.semantics.versions import Version
from meshgate.settings import flag
from meshgate.snapshot.pair import Pair, Peer, PeerCall
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable


class ProbePair:
    """Two pods that were created after the upgrade, and the results of their calls."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _pair(self) -> Pair:
        """Raise NotApplicable if no pair was requested, CouldNotVerify if it did not run."""
        pair = self._evidence.pair
        if pair.skipped_reason:
            raise NotApplicable(pair.skipped_reason)
        for peer in pair.peers:
            if peer.unmade:
                raise CouldNotVerify(
                    f"Probe {pair.namespace}/{peer.name} did not run: {peer.unmade}",
                    f"kubectl -n {pair.namespace} get events: its image "
                    f"({flag('probes.probe_pair')}) needs "
                    "Python, and a webhook, quota or policy may refuse the pod",
                    transient=True,
                )
        return pair

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The new pods."""
        return self._pair.peers

    @property
    def calls(self) -> tuple[PeerCall, ...]:
        """The calls that they made."""
        return self._pair.calls

    def _finding(
        self,
        peer: str,
        seen: str,
        expected: str = "",
        remedy: str = "",
        *,
        problem: str,
        transient: bool = False,
        **about: str,
    ) -> Finding:
        return Finding(
            f"Probe {self._pair.namespace}/{peer}",
            seen,
            expected,
            remedy,
            transient=transient,
            problem=problem,
            about=tuple(sorted(about.items())),
        )

    # --- injection ------------------------------------------------------------------------------

    @property
    def uninjected(self) -> list[Finding]:
        """New pods without a sidecar, or with one of another version than expected."""
        return [finding for peer in self._pair.peers for finding in self._uninjected(peer)]

    def _uninjected(self, peer: Peer) -> Iterator[Finding]:
        wanted, namespace = target(self._evidence), self._pair.namespace
        version = Version.of_image(peer.proxy_image)
        if self._pair.ambient:
            if not peer.captured:
                yield self._finding(
                    peer.name,
                    "is not redirected to ztunnel, although its namespace is in ambient mode",
                    "the annotation ambient.istio.io/redirection: enabled",
                    "Look at the log of the istio-cni agent on its node.",
                    problem="not-captured",
                )
        elif not peer.proxy_image:
            yield self._finding(
                peer.name,
                "has no sidecar",
                f"a sidecar of version {wanted}" if wanted else "a sidecar",
                f"Label namespace {namespace} like the others (istio-injection=enabled or "
                "istio.io/rev), or correct the injection webhook.",
                problem="no-sidecar",
            )
        elif wanted and version and not wanted.met_by(version):
            yield self._finding(
                peer.name,
                f"has a sidecar of version {version}",
                str(wanted),
                f"Label namespace {namespace} with the revision of the new istiod.",
                problem="wrong-version",
                version=str(version),
            )

    @property
    def unknown_versions(self) -> list[Finding]:
        """New pods whose image does not show the sidecar's version."""
        if target(self._evidence) is None:
            return []
        return [
            self._finding(
                peer.name,
                f"the image of its sidecar shows no version: {peer.proxy_image}",
                remedy="Compare the digest with the one of the expected version.",
                problem="unknown-version",
            )
            for peer in self._pair.peers
            if peer.proxy_image and Version.of_image(peer.proxy_image) is None
        ]

    # --- calls ----------------------------------------------------------------------------------

    @property
    def broken(self) -> list[Finding]:
        """Calls that failed, or that arrived with another identity than the caller's.

        Raises CouldNotVerify if an AuthorizationPolicy hides the identity.
        """
        pair = self._pair
        found = [
            self._finding(
                peer.name,
                peer.stuck,
                "a report of its calls",
                f"kubectl -n {pair.namespace} get events",
                problem="no-report",
                transient=True,
            )
            for peer in pair.peers
            if peer.stuck
        ]
        for call in pair.calls:
            if call.kind == "declared" or (call.kind == "peer" and not call.denied):
                found += self._failed(call)
            # in ambient mode the server cannot determine its caller's identity
            if call.kind == "peer" and not (pair.ambient or call_failure(call) or call.denied):
                found += self._misidentified(call)
        found += self._newly_denied
        denied = next((each for each in pair.calls if each.kind == "peer" and each.denied), None)
        if denied and not found:
            raise CouldNotVerify(
                f"an AuthorizationPolicy denies the call of Probe {pair.namespace}/{denied.peer} "
                f"to {denied.target}, so its identity there cannot be determined",
                f"allow the principal */ns/{pair.namespace}/sa/{pair.account} in namespace "
                f"{pair.namespace}",
                transient=True,
            )
        return found

    @property
    def _newly_denied(self) -> list[Finding]:
        """Calls to Services that were answered in the baseline and are denied now."""
        before = self._evidence.expectations.before
        if before is None or before.pair is None:
            return []
        answered = {
            (each.kind, each.target)
            for each in before.pair.calls
            if not each.denied and not call_failure(each)
        }
        return [
            self._finding(
                call.peer,
                f"an AuthorizationPolicy denies its call to {call.target}, which was answered "
                "before the upgrade",
                "an answer, as in the baseline",
                "Compare the AuthorizationPolicies of that namespace with those before the "
                "upgrade.",
                problem="newly-denied",
                target=call.target,
            )
            for call in self._pair.calls
            if call.denied
            and call.kind in ("declared", "sampled")
            and (call.kind, call.target) in answered
        ]

    @property
    def unreached(self) -> list[Finding]:
        """Sampled Services that the pair could not call, or that denied it."""
        sampled = [call for call in self._pair.calls if call.kind == "sampled"]
        return [finding for call in sampled for finding in self._failed(call)]

    def _failed(self, call: PeerCall) -> Iterator[Finding]:
        if words := call_failure(call):
            yield self._finding(
                call.peer,
                f"its call to {call.target} {words}",
                "an answer through mTLS",
                "Compare the PeerAuthentications, DestinationRules and Sidecars for that Service.",
                problem="call-failed",
                transient=True,  # a changed policy takes a moment to reach the proxies
                target=call.target,
            )

    def _misidentified(self, call: PeerCall) -> Iterator[Finding]:
        pair = self._pair
        expected = f"/ns/{pair.namespace}/sa/{pair.account}"
        if call.caller == "":
            problem, seen = "no-mtls", "arrives without mTLS: x-forwarded-client-cert has no URI"
        elif call.caller and not _names(call.caller, expected):
            problem, seen = "wrong-identity", f"arrives as {call.caller}"
        else:
            return
        yield self._finding(
            call.peer,
            f"its call to {call.target} {seen}",
            f"spiffe://…{expected}",
            f"Look at the PeerAuthentications of {pair.namespace}, and for enableAutoMtls: false "
            "in the mesh config.",
            problem=problem,
            transient=True,
            target=call.target,
        )


def call_failure(call: PeerCall) -> str:
    """Return why the called server did not answer; empty if it did, or if a policy denied us."""
    if call.error:
        return f"gets no answer: {call.error}"
    if call.local:
        return f"is answered {call.status} by its own sidecar: {call.words}"
    if call.kind == "peer" and call.caller is None and not call.denied:
        return f"is answered {call.status}, but not by the peer: its server refuses the call"
    return ""


def _names(caller: str, expected: str) -> bool:
    return caller.startswith("spiffe://") and caller.endswith(expected)
