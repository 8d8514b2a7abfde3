"""Declared pairs, compared with the answers that their callers got."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics.pair_targets import PairTarget, PairTargets
from meshgate.semantics.workloads import is_first_shard
from meshgate.settings import flag
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair, PairAnswer, PairAnswers
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

ENDS = {
    "reset": "closes the connection without an answer",
    "refused": "fails the TLS handshake",
    "silent": "gives no complete answer",
    "unreachable": "cannot be connected to",
}
# what a sidecar answers in place of its application: no JWT, ext_authz, no connection
NOT_FORWARDED = (401, 403, 502, 503, 504)


class DeclaredPairs:
    """The declared pairs, and how their requests were answered."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _answers(self) -> PairAnswers:
        """Raise NotApplicable if nothing is declared, CouldNotVerify if nothing was sent."""
        asked = self._evidence.expectations
        if not asked.pairs:
            raise NotApplicable(f"no pair is declared ({flag('probes.pairs')})")
        if not is_first_shard(asked.shard):
            raise NotApplicable(f"this is shard {asked.shard}: the first one sends the requests")
        answers = self._evidence.pair_answers
        if answers.skipped_reason:
            raise CouldNotVerify(
                f"no declared request was sent: {answers.skipped_reason}",
                "run the gate inside the cluster, with a token of audience istio-ca",
            )
        return answers

    @property
    def count(self) -> int:
        """How many requests were sent: one for each pair and pod."""
        return len(self._answers.answers)

    @cached_property
    def _targets(self) -> PairTargets:
        evidence = self._evidence
        pods = evidence.own_mesh.own(evidence.pods)
        waypoints = self._answers.waypoints
        return PairTargets(pods, evidence.services, evidence.namespaces, waypoints)

    @cached_property
    def _sent(self) -> list[tuple[DeclaredPair, PairTarget, PairAnswer | None]]:
        """Every pair with each of its targets, and the target's answer."""
        asked = self._evidence.expectations
        answered = {
            (each.request, each.pod, each.authority): each for each in self._answers.answers
        }
        return [
            (pair, each, answered.get((pair.key, each.name, each.authority)))
            for pair in asked.pairs
            for each in self._targets.of(pair, asked.sample).targets
        ]

    @property
    def mismatched(self) -> list[Finding]:
        """Requests that are not answered as declared.

        Raises NotApplicable if nothing is declared, and CouldNotVerify if nothing else is wrong and
        a pair was not tested.
        """
        found = [
            finding
            for pair, target, answer in self._sent
            if answer is not None
            for finding in self._mismatch(pair, target, answer)
        ]
        if not found and (untested := next(self._untested(), None)):
            raise untested
        return found

    def _untested(self) -> Iterator[CouldNotVerify]:
        """Yield why pairs were not tested."""
        answers = self._answers
        sent = {each.request for each in answers.answers}
        for pair in self._evidence.expectations.pairs:
            if missing := self._targets.of(pair).missing:
                yield CouldNotVerify(
                    f"the request of {pair.caller} to {pair.target} was not sent: {missing}",
                    f"correct the pair, or remove it from the file of {flag('probes.pairs')}",
                    transient=True,
                )
            elif pair.caller in answers.unsigned:
                yield CouldNotVerify(
                    f"no certificate for ServiceAccount {pair.caller}: "
                    f"{answers.unsigned[pair.caller]}",
                    f"add {pair.caller} to `pairs.accounts` of the chart",
                )
            elif pair.key not in sent:
                yield CouldNotVerify(
                    f"the request of {pair.caller} to {pair.target} was not sent",
                    f"capture the mesh again with the same {flag('probes.pairs')}",
                )
        for pair, target, answer in self._sent:
            if answer is None:
                yield CouldNotVerify(
                    f"the request of {pair.caller} to {pair.target} was not sent to Pod "
                    f"{target.name}",
                    "capture the mesh again",
                    transient=True,
                )
            elif answer.end in ("unreachable", "silent"):
                yield CouldNotVerify(
                    f"Pod {target.name} {ENDS[answer.end]}{_where(target)} for the request of "
                    f"{pair.caller} to {pair.target}: {answer.error}",
                    "check the NetworkPolicies between the verifier and the pod",
                    transient=True,
                )

    def _mismatch(
        self, pair: DeclaredPair, target: PairTarget, answer: PairAnswer
    ) -> Iterator[Finding]:
        """Yield a finding if an answer is not the declared one.

        Args:
            pair: the declared pair.
            target: what its request was sent to.
            answer: how that answered.

        Returns:
            At most one finding.
        """
        if answer.end in ("unreachable", "silent") or _matches(pair.expect, target, answer):
            return
        metadata = target.pod.metadata
        problem = "not-denied" if pair.expect == DENIED else "not-allowed"
        if answer.end == "answered" and pair.expect not in (DENIED, ALLOWED):
            problem = "another-status"
        yield pod_finding(
            target.pod,
            f"{_seen(target, answer)} to the request of {pair.caller} to {pair.target}",
            _expected(pair.expect, target),
            f"kubectl -n {metadata.namespace} get authorizationpolicies"
            if _is_ztunnel(target)
            else f"istioctl x authz check {metadata.name}.{metadata.namespace}",
            problem=problem,
            transient=True,
            caller=pair.caller,
            request=pair.target,
        )


def _is_ztunnel(target: PairTarget) -> bool:
    return bool(target.authority) and not target.waypoint


def _where(target: PairTarget) -> str:
    return " on port 15008" if target.authority else ""


def _matches(expect: str, target: PairTarget, answer: PairAnswer) -> bool:
    """Return whether an answer is the declared one.

    Args:
        expect: what the pair expects.
        target: what its request was sent to.
        answer: how that answered.

    Returns:
        True if it is.
    """
    if expect == DENIED:
        return answer.end == "denied"
    if expect == ALLOWED:
        # without Envoy's headers (proxyHeaders) an application's answer looks like a sidecar's; a
        # waypoint has answers of many statuses by itself, such as 404 without a route
        own = answer.end == "proxy" and answer.status not in NOT_FORWARDED and not target.waypoint
        return answer.end == "answered" or own
    return answer.end in ("answered", "proxy") and str(answer.status) == expect


def _seen(target: PairTarget, answer: PairAnswer) -> str:
    match answer.end:
        case "denied" if not answer.status:
            return f"denies by an AuthorizationPolicy (CONNECT is answered {answer.connect})"
        case "denied":
            return "denies by an AuthorizationPolicy (403, RBAC: access denied)"
        case "declined":
            return f"answers CONNECT for {target.authority} with {answer.connect}"
        case "proxy" if target.waypoint:
            return f"answers {answer.status} by itself, not by the application,"
        case "proxy":
            return f"answers {answer.status} by its sidecar, not by its application,"
        case "answered":
            return f"answers {answer.status} by {'the' if target.waypoint else 'its'} application"
    return f"{ENDS[answer.end]} ({answer.error or 'no reason given'})"


def _expected(expect: str, target: PairTarget) -> str:
    if expect == DENIED and _is_ztunnel(target):
        return "a CONNECT that an AuthorizationPolicy denies (401)"
    if expect == DENIED:
        return "403 by an AuthorizationPolicy (RBAC: access denied)"
    return "an answer that is not a denial" if expect == ALLOWED else expect
