"""Declared pairs, compared with the answers that their callers got."""

from collections.abc import Iterator
from functools import cached_property

from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics.declared_pairs import targets
from meshgate.semantics.workloads import is_first_shard
from meshgate.settings import flag
from meshgate.snapshot.declared_pairs import ALLOWED, DENIED, DeclaredPair, PairAnswer, PairAnswers
from meshgate.snapshot.kubernetes import Pod
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
    def _sent(self) -> list[tuple[DeclaredPair, Pod, PairAnswer | None]]:
        """Every pair with each pod behind its Service, and the pod's answer."""
        evidence = self._evidence
        answered = {(each.request, each.pod): each for each in self._answers.answers}
        pods = evidence.own_mesh.own(evidence.pods)
        return [
            (pair, port.pod, answered.get((pair.key, port.key.rpartition(":")[0])))
            for pair in evidence.expectations.pairs
            for port in targets(pair, pods, evidence.services, evidence.expectations.sample).ports
        ]

    @property
    def mismatched(self) -> list[Finding]:
        """Requests that are not answered as declared.

        Raises NotApplicable if nothing is declared, and CouldNotVerify if nothing else is wrong and
        a pair was not tested.
        """
        found = [
            finding
            for pair, pod, answer in self._sent
            if answer is not None
            for finding in self._mismatch(pair, pod, answer)
        ]
        if not found and (untested := next(self._untested(), None)):
            raise untested
        return found

    def _untested(self) -> Iterator[CouldNotVerify]:
        """Yield why pairs were not tested."""
        evidence, answers = self._evidence, self._answers
        sent = {each.request for each in answers.answers}
        for pair in evidence.expectations.pairs:
            missing = targets(pair, evidence.pods, evidence.services, 0).missing
            if missing:
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
        for pair, pod, answer in self._sent:
            name = f"{pod.metadata.namespace}/{pod.metadata.name}"
            if answer is None:
                yield CouldNotVerify(
                    f"the request of {pair.caller} to {pair.target} was not sent to Pod {name}",
                    "capture the mesh again",
                    transient=True,
                )
            elif answer.end in ("unreachable", "silent"):
                yield CouldNotVerify(
                    f"Pod {name} {ENDS[answer.end]} for the request of {pair.caller} to "
                    f"{pair.target}: {answer.error}",
                    "check the NetworkPolicies between the verifier and the pod",
                    transient=True,
                )

    def _mismatch(self, pair: DeclaredPair, pod: Pod, answer: PairAnswer) -> Iterator[Finding]:
        """Yield a finding if a pod's answer is not the declared one."""
        if answer.end in ("unreachable", "silent") or _matches(pair.expect, answer):
            return
        namespace = pod.metadata.namespace
        problem = "not-denied" if pair.expect == DENIED else "not-allowed"
        if answer.end == "answered" and pair.expect not in (DENIED, ALLOWED):
            problem = "another-status"
        yield pod_finding(
            pod,
            f"{_seen(answer)} to the request of {pair.caller} to {pair.target}",
            _expected(pair.expect),
            f"istioctl x authz check {pod.metadata.name}.{namespace}",
            problem=problem,
            transient=True,
            caller=pair.caller,
            request=pair.target,
        )


def _matches(expect: str, answer: PairAnswer) -> bool:
    if expect == DENIED:
        return answer.end == "denied"
    if expect == ALLOWED:
        # without Envoy's headers (proxyHeaders) an application's answer looks like a sidecar's
        own = answer.end == "proxy" and answer.status not in NOT_FORWARDED
        return answer.end == "answered" or own
    return answer.end in ("answered", "proxy") and str(answer.status) == expect


def _seen(answer: PairAnswer) -> str:
    match answer.end:
        case "denied":
            return "denies by an AuthorizationPolicy (403, RBAC: access denied)"
        case "proxy":
            return f"answers {answer.status} by its sidecar, not by its application,"
        case "answered":
            return f"answers {answer.status} by its application"
    return f"{ENDS[answer.end]} ({answer.error or 'no reason given'})"


def _expected(expect: str) -> str:
    if expect == DENIED:
        return "403 by an AuthorizationPolicy (RBAC: access denied)"
    return "an answer that is not a denial" if expect == ALLOWED else expect
