"""Retry-After on the wire: declared targets, and the pods that the probe pair calls."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.dataplane.probe_pair import call_failure
from meshgate.facts.dataplane.retry_after import filter_finding, subject
from meshgate.facts.evidence import Evidence
from meshgate.semantics.retry_after import (
    THROTTLED,
    VALID,
    adds_retry_after,
    answers_always,
    honors_retry_after,
    matching_pod_labels,
    retry_after_error,
    selects_labels,
)
from meshgate.settings import flag
from meshgate.snapshot.pair import PeerCall
from meshgate.snapshot.retry_after import Burst, RetryFilter
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

EARLY = 0.05  # seconds by which the clocks of the two pods may differ

DECLARE = (
    f"If it is for other paths or ports, declare a target with {flag('probes.retry_after_target')}."
)


class _Throttled(NamedTuple):
    """A call to a pod with the labels that filters select, and those filters."""

    filters: list[RetryFilter]
    call: PeerCall


class RetryAnswers:
    """The Retry-After of answers, and what proxies do with it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def _root(self) -> str:
        return self._evidence.own_mesh.root_namespace

    # --- declared targets -----------------------------------------------------------------------

    @property
    def unannounced(self) -> list[Finding]:
        """Declared targets that never throttled, or did so without a valid Retry-After."""
        targets = self._evidence.expectations.retry_after_targets
        if not targets:
            raise NotApplicable(f"no target is declared ({flag('probes.retry_after_target')})")
        bursts = self.bursts
        if len(bursts) < len(targets):
            raise CouldNotVerify(
                f"only {len(bursts)} of the {len(targets)} declared targets were called",
                "capture it again",
                transient=True,
            )
        return [finding for burst in bursts for finding in _unannounced(burst)]

    @property
    def bursts(self) -> tuple[Burst, ...]:
        """The answers of the declared targets."""
        return self._evidence.bursts

    # --- waiting --------------------------------------------------------------------------------

    @property
    def ignoring_retry_after(self) -> list[Finding]:
        """Filters that should make a proxy wait as Retry-After says, where it does not."""
        filters, calls = self._back_offs, self.retried
        before = [
            each
            for each in self._evidence.pair.calls
            if each.kind == "peer" and each.peer in {call.peer for call in calls}
        ]
        if not calls or any(call_failure(call) or call.denied for call in before + calls):
            raise CouldNotVerify(
                "the probe pair does not reach itself, so no retry was measured",
                "see the result of DP009",
                transient=True,
            )
        found = [
            filter_finding(
                filters,
                f"a proxy that it reaches retries {call.gap:.2f} s after {call.code} with "
                f"Retry-After: {call.asked}",
                f"at least {call.asked} s",
                "Add retry-after to reset_headers, and raise max_interval above its value.",
                problem="retries-early",
                transient=True,  # a changed filter takes a moment to reach the proxy
                code=str(call.code),
            )
            for call in calls
            if call.gap is not None and call.gap < call.asked - EARLY
        ]
        if all(call.gap is None for call in calls):
            codes = " and ".join(str(call.code) for call in calls)
            found.append(
                filter_finding(
                    filters,
                    f"a proxy that it reaches returns {codes} and never retries",
                    "a retry after the time in Retry-After",
                    "Add retriable-status-codes to retry_on, with one of those codes.",
                    problem="never-retries",
                    transient=True,
                )
            )
        return found

    @property
    def retried(self) -> list[PeerCall]:
        """The calls whose retry was measured."""
        return [each for each in self._evidence.pair.calls if each.kind == "later"]

    @property
    def _back_offs(self) -> list[RetryFilter]:
        """The filters that honor Retry-After and reach the pair; raises NotApplicable without."""
        candidates = self._that(honors_retry_after, "makes proxies honor Retry-After")
        pair = self._evidence.pair
        reaching = [
            each
            for each in candidates
            if any(
                selects_labels(each, pair.namespace, peer.labels, self._root) for peer in pair.peers
            )
        ]
        if not reaching:
            raise NotApplicable(
                f"none of the {len(candidates)} EnvoyFilters that make proxies honor Retry-After "
                f"reaches the probe pair; {subject(candidates[0])} selects other pods (a copy in "
                f"{pair.namespace} would be measured)"
            )
        return reaching

    # --- values ---------------------------------------------------------------------------------

    @property
    def misleading(self) -> list[Finding]:
        """Filters whose proxies send an invalid Retry-After, or none although they always should.

        Raises NotApplicable if no answer had the header and none was bound to have it.
        """
        now = self._evidence.snapshot.taken
        found = [
            filter_finding(
                filters,
                f"a pod that it reaches {words}",
                VALID,
                "Correct the value that the filter sends.",
                problem=problem,
                transient=True,  # a changed filter takes a moment to reach the proxy
                code=str(call.status),
            )
            for filters, call in self._throttled
            for problem, words in _invalid(call.status, call.retry_after, now)
        ]
        found += [
            filter_finding(
                bound,
                f"a pod that it reaches answers {call.status} without Retry-After, although its "
                "script adds one to every such answer",
                "a Retry-After header",
                "Correct the script: it probably fails when a header is missing.",
                problem="no-value",
                transient=True,
                code=str(call.status),
            )
            for filters, call in self._throttled
            if not call.retry_after
            and call.status in THROTTLED
            and (bound := [each for each in filters if answers_always(each, call.status)])
        ]
        if not found and not any(call.retry_after for _, call in self._throttled):
            raise NotApplicable(str(self.unspoken[0]))
        return found

    @property
    def answered(self) -> int:
        """How many pods sent a Retry-After."""
        return sum(bool(call.retry_after) for _, call in self._throttled)

    @property
    def unspoken(self) -> list[Finding]:
        """Filters for which the probes got no Retry-After: they may be for other requests."""
        return [
            filter_finding(
                filters,
                f"a pod that it reaches answers {call.sent} requests without Retry-After "
                f"(last status: {call.status})",
                remedy=DECLARE,
                problem="no-retry-after-seen",
            )
            for filters, call in self._throttled
            if not call.retry_after
        ]

    @cached_property
    def _throttled(self) -> list[_Throttled]:
        """The pods that filters select beside the pair, and the answers to calls to them.

        Raises NotApplicable if no filter reaches such a pod, CouldNotVerify if one was not called.
        """
        candidates = self._that(adds_retry_after, "adds Retry-After to a sidecar's answers")
        pair = self._evidence.pair
        if not matching_pod_labels(candidates, pair.namespace, self._root):
            raise NotApplicable(
                f"none of the {len(candidates)} EnvoyFilters that add Retry-After reaches the "
                f"probes; {subject(candidates[0])} selects other pods (a copy in {pair.namespace} "
                "would be tested)"
            )
        calls = [each for each in pair.calls if each.kind == "burst"]
        why = [each.unmade or each.stuck for each in pair.tempted] + [
            "an AuthorizationPolicy denied the call" if each.denied else call_failure(each)
            for each in calls
        ]
        if not calls or any(why):
            raise CouldNotVerify(
                f"the probes did not reach the pods for {subject(candidates[0])}: "
                f"{next(filter(None, why), 'they made no calls')}",
                f"see the results of DP008 and DP009, or omit {flag('probes.probe_pair')} and "
                "declare targets with "
                f"{flag('probes.retry_after_target')}",
                transient=True,
            )
        labels = {each.name: each.labels for each in pair.tempted}
        return [
            _Throttled(
                [
                    each
                    for each in candidates
                    if selects_labels(each, pair.namespace, labels.get(call.target, {}), self._root)
                ],
                call,
            )
            for call in calls
        ]

    def _that(self, wanted: Callable[[RetryFilter], bool], does: str) -> list[RetryFilter]:
        """Return the filters that do this; raise NotApplicable without one or without a pair."""
        seen = self._evidence.retry_filters
        found = list(filter(wanted, seen.filters))
        if not found:
            raise NotApplicable(f"none of the {seen.seen} EnvoyFilters {does}")
        if self._evidence.pair.skipped_reason:
            raise NotApplicable(self._evidence.pair.skipped_reason)
        return found


def _invalid(status: int, values: Iterable[str], now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the problem, as code and words, of each invalid Retry-After of an answer."""
    values = tuple(values)
    for value in values:
        if wrong := retry_after_error(value, now):
            yield (
                "invalid-value",
                f"answers {status} with Retry-After {value[:60]!r}, which {wrong}",
            )
    if len(set(values)) > 1:
        several = ", ".join(repr(value[:60]) for value in values)
        yield (
            "several-values",
            f"answers {status} with {len(values)} Retry-After headers: {several}",
        )


def _unannounced(burst: Burst) -> Iterator[Finding]:
    """Yield what is wrong with the answers of a declared target."""
    if burst.error:
        words = f"does not answer: {burst.error}"
        yield _target(burst, "no-answer", words, "an answer", transient=True)
    elif burst.status == 403:
        yield _target(
            burst,
            "denied",
            "answers 403: an AuthorizationPolicy or the application denies the verifier",
            "429 or 503 with Retry-After",
            "Allow the verifier, or declare a target that it may call.",
        )
    elif burst.status not in THROTTLED:
        sent = sum(burst.statuses.values()) + 1
        yield _target(
            burst,
            "not-throttled",
            f"answers {burst.status} after {sent} requests",
            "429 or 503 by then",
            f"Set {flag('probes.retry_after_burst')} above the target's limit, or correct the "
            "limit.",
        )
    elif not burst.retry_after:
        words = f"answers {burst.status} without Retry-After"
        yield _target(burst, "no-value", words, "a Retry-After header")
    else:
        for problem, words in _invalid(burst.status, burst.retry_after, burst.at):
            yield _target(burst, problem, words, VALID)


def _target(  # the fields of a Finding, in its order
    burst: Burst,
    problem: str,
    seen: str,
    expected: str = "",
    remedy: str = "",
    *,
    transient: bool = False,
) -> Finding:
    return Finding(
        f"Target {burst.target}",
        seen,
        expected,
        remedy,
        transient=transient,
        problem=problem,
        about=(("code", str(burst.status)),),
    )
