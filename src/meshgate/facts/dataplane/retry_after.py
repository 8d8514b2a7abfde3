"""Retry-After: who should send it, whether the proxies were told to, and what they answered."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.dataplane.probe_pair import call_failure
from meshgate.facts.evidence import Evidence
from meshgate.semantics.retry_after import (
    THROTTLED,
    VALID,
    adds_retry_after,
    honors_retry_after,
    matching_pod_labels,
    reaches,
    retry_after_error,
    selects_labels,
)
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.pair import PeerCall
from meshgate.snapshot.retry_after import Burst, GivenConfig, HeaderRule, RetryFilter, RetryPatch
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# What a controller puts on each of its pods: pods that differ in nothing else are one workload.
_OF_ONE_POD = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    }
)
_SIDE = {"SIDECAR_INBOUND": "INBOUND", "SIDECAR_OUTBOUND": "OUTBOUND", "GATEWAY": "OUTBOUND"}
EARLY = 0.05  # seconds by which the other side's clock may be off


def _answers(status: int, values: Iterable[str], now: datetime) -> Iterator[str]:
    """In words, an answer's values that are no Retry-After."""
    for value in values:
        if wrong := retry_after_error(value, now):
            yield f"answers {status} with Retry-After {value[:60]!r}, which {wrong}"


class Reached(NamedTuple):
    """A proxy that a filter reaches, with what istiod says of it and gives to it."""

    pod: Pod
    proxy: ProxySync
    given: GivenConfig

    @property
    def name(self) -> str:
        return f"Pod {self.pod.metadata.namespace}/{self.pod.metadata.name}"

    @property
    def workload(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """Equal for the pods of one workload of one version."""
        labels = self.pod.metadata.labels.items()
        return self.pod.metadata.namespace, frozenset(
            (name, value) for name, value in labels if name not in _OF_ONE_POD
        )

    def suits(self, context: str) -> bool:
        """Whether patches for this context are for a proxy of its kind."""
        if context in ("", "ANY"):
            return True
        return (self.proxy.proxy_type == "router") == (context == "GATEWAY")

    def runs(self, patch: RetryPatch) -> bool:
        """Whether the patch is for the version of this proxy; Istio's own match is unanchored."""
        try:
            return re.search(patch.proxy_version, self.proxy.istio_version) is not None
        except re.error:
            return False

    def holds(self, patch: RetryPatch) -> bool:
        """Whether istiod gives it what the patch adds."""
        side = _SIDE.get(patch.context, "")
        return all(
            any(_same(wanted, place, side) for place in self.given.places)
            for wanted in patch.places
        )


def _same(wanted: HeaderRule, seen: HeaderRule, side: str) -> bool:
    return (wanted.kind, wanted.value, wanted.code) == (seen.kind, seen.value, seen.code) and (
        not side or seen.side in ("", side)
    )


class RetryAfter:
    """EnvoyFilters that add Retry-After or honour it, and the answers that show it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._proxies = Proxies(evidence)

    @cached_property
    def filters(self) -> tuple[RetryFilter, ...]:
        """Those that are about Retry-After; raises NotApplicable where there are none."""
        seen = self._evidence.retry_filters
        if not seen.filters:
            raise NotApplicable(f"none of the {seen.seen} EnvoyFilters is about Retry-After")
        return seen.filters

    @property
    def missing(self) -> list[Finding]:
        """That nothing is about Retry-After although somebody says that something must be."""
        seen = self._evidence.retry_filters
        if seen.filters or not self._evidence.expectations.require_retry_after:
            return []
        return [
            Finding(
                "EnvoyFilters",
                f"none of the {seen.seen} is about Retry-After",
                "at least one (--require-retry-after)",
                "apply the EnvoyFilter that adds Retry-After to 429 and 503",
            )
        ]

    @property
    def unapplied(self) -> list[Finding]:
        """Filters that reach no proxy, or whose patches a proxy that they reach was not given."""
        return [finding for each in self.filters for finding in self._unapplied(each)]

    @property
    def malformed(self) -> list[Finding]:
        """Fixed values that no client can make sense of."""
        now = self._evidence.snapshot.taken
        return [
            Finding(
                _subject(each),
                f"patch {patch.number} sends Retry-After {place.value!r}, which {wrong}",
                VALID,
                "correct the value: clients ignore one that they cannot read",
            )
            for each in self.filters
            for patch in each.patches
            for place in patch.places
            if place.value and (wrong := retry_after_error(place.value, now))
        ]

    @property
    def unannounced(self) -> list[Finding]:
        """Declared targets that did not throttle, or did so without a Retry-After that is one."""
        if not self._evidence.expectations.retry_after_targets:
            raise NotApplicable("no target was declared (--retry-after-target)")
        return [finding for burst in self._evidence.bursts for finding in _unannounced(burst)]

    @property
    def ignoring_retry_after(self) -> list[Finding]:
        """What should make a proxy wait as an upstream asks, and does not."""
        subject = ", ".join(_subject(each) for each in self._back_offs)
        calls = [each for each in self._evidence.pair.calls if each.kind == "later"]
        before = [
            each
            for each in self._evidence.pair.calls
            if each.kind == "peer" and each.peer in {call.peer for call in calls}
        ]
        if not calls or any(call_failure(call) or call.denied for call in before + calls):
            raise CouldNotVerify(
                "the probe pair does not reach itself: no second try could be seen",
                "see what the claim about its calls says",
                transient=True,
            )
        found = [
            Finding(
                subject,
                f"a proxy that it reaches tried again {call.gap:.2f} s after {call.code} with "
                f"Retry-After: {call.asked}",
                f"at least {call.asked} s",
                "its reset_headers must name retry-after, and its max_interval be long enough",
                transient=True,  # a filter that has just changed is on its way
            )
            for call in calls
            if call.gap is not None and call.gap < call.asked - EARLY
        ]
        if all(call.gap is None for call in calls):
            codes = " and ".join(str(call.code) for call in calls)
            found.append(
                Finding(
                    subject,
                    f"a proxy that it reaches passes {codes} on and never tries again",
                    "a second try, when Retry-After says",
                    "its retry_on must say retriable-status-codes, and name one of those codes",
                    transient=True,
                )
            )
        return found

    @property
    def misleading(self) -> list[Finding]:
        """Filters that have a pod of the probes, with labels that they ask for, say what is no date
        and no number; raises NotApplicable where none of them was seen to say anything."""
        if not any(call.retry_after for _, call in self._tempted):
            raise NotApplicable(f"{self.unspoken[0]}")
        return [
            Finding(
                ", ".join(map(_subject, filters)),
                f"a pod that it reaches {words}",
                VALID,
                "correct what the filter sends",
                transient=True,  # a filter that has just changed is on its way
            )
            for filters, call in self._tempted
            for words in _answers(call.status, call.retry_after, self._evidence.snapshot.taken)
        ]

    @property
    def unspoken(self) -> list[Finding]:
        """Filters that the probes got no Retry-After by: they may be for other paths or ports."""
        return [
            Finding(
                ", ".join(map(_subject, filters)),
                f"a pod that it reaches answers {call.sent} requests and says {call.status} "
                "without Retry-After",
                remedy="if it is for other paths or ports, name what it is for with "
                "--retry-after-target",
            )
            for filters, call in self._tempted
            if not call.retry_after
        ]

    @cached_property
    def _tempted(self) -> list[tuple[list[RetryFilter], PeerCall]]:
        """The filters that reach a pod which was made for them, and what came of calling it.

        Raises NotApplicable, CouldNotVerify.
        """
        about = self._about(adds_retry_after, "adds Retry-After to what a sidecar answers")
        pair = self._evidence.pair
        root = self._evidence.expectations.istio_namespace
        if not matching_pod_labels(about, pair.namespace, root):
            raise NotApplicable(
                f"none of the {len(about)} EnvoyFilters that add Retry-After reaches the probes: "
                f"{_subject(about[0])} is for others (a copy in {pair.namespace} would be tried)"
            )
        calls = [each for each in pair.calls if each.kind == "burst"]
        why = [each.unmade or each.stuck for each in pair.tempted] + [
            "denied by an AuthorizationPolicy" if each.denied else call_failure(each)
            for each in calls
        ]
        if not calls or any(why):
            raise CouldNotVerify(
                f"the probes did not reach the pods that were made for {_subject(about[0])} and "
                f"its like: {next(filter(None, why), 'they did not call')}",
                "see what the claims about the probes say, or name targets with "
                "--retry-after-target and leave --probe-pair out",
                transient=True,
            )
        labels = {each.name: each.labels for each in pair.tempted}
        return [
            (
                [
                    each
                    for each in about
                    if selects_labels(each, pair.namespace, labels.get(call.target, {}), root)
                ],
                call,
            )
            for call in calls
        ]

    @property
    def _back_offs(self) -> list[RetryFilter]:
        """The filters about waiting that reach the probe pair; raises NotApplicable without one."""
        about = self._about(honors_retry_after, "makes proxies wait as Retry-After asks")
        pair = self._evidence.pair
        root = self._evidence.expectations.istio_namespace
        reaching = [
            each
            for each in about
            if any(selects_labels(each, pair.namespace, peer.labels, root) for peer in pair.peers)
        ]
        if not reaching:
            raise NotApplicable(
                f"none of the {len(about)} EnvoyFilters that make proxies wait reaches the probes: "
                f"{_subject(about[0])} is for others (one in {pair.namespace} would be measured)"
            )
        return reaching

    def _about(self, wanted: Callable[[RetryFilter], bool], does: str) -> list[RetryFilter]:
        """The filters that do this; raises NotApplicable with none, or with no pair to see it."""
        seen = self._evidence.retry_filters
        about = list(filter(wanted, seen.filters))
        if not about:
            raise NotApplicable(f"none of the {seen.seen} EnvoyFilters {does}")
        if self._evidence.pair.skipped_reason:
            raise NotApplicable(self._evidence.pair.skipped_reason)
        return about

    def _unapplied(self, each: RetryFilter) -> Iterator[Finding]:
        reached = self._reached(each)
        if not reached:
            yield Finding(
                _subject(each),
                f"reaches no proxy: {self._aim(each)} is no connected proxy",
                "the proxies that are to send Retry-After",
                "correct its selector, or remove it",
            )
            return
        intents: defaultdict[tuple[str, str, frozenset[str]], list[RetryPatch]] = defaultdict(list)
        for patch in each.patches:
            # one intent, written once for each version of the proxies, is one intent
            kinds = frozenset(place.kind for place in patch.places)
            intents[patch.apply_to, patch.context, kinds].append(patch)
        for patches in intents.values():
            yield from _unmet(each, patches, reached)

    def _reached(self, each: RetryFilter) -> list[Reached]:
        root = self._evidence.expectations.istio_namespace
        given = {config.proxy: config for config in self._evidence.retry_filters.given}
        found, unknown = [], []
        for identity, proxy in sorted(self._proxies.connected.items()):
            pod = self._proxies.promised.get(identity)
            if pod is None or not reaches(each, pod, root):
                continue
            config = given.get(identity, GivenConfig(proxy=identity, error="was not asked for"))
            if config.error or config.denied:
                unknown.append(config)
            found.append(Reached(pod, proxy, config))
        if unknown:
            first = unknown[0]
            raise CouldNotVerify(
                f"cannot see what istiod gives to {len(unknown)} of the {len(found)} proxies that "
                f"{_subject(each)} reaches, {first.proxy} among them: "
                f"{first.denied or first.error}",
                "run in istiod's own namespace, with a token of audience istio-ca",
                transient=not any(config.denied for config in unknown),
            )
        return found

    def _aim(self, each: RetryFilter) -> str:
        if each.gateways:
            return f"Gateway {', '.join(each.gateways)} of {each.namespace}"
        root = each.namespace == self._evidence.expectations.istio_namespace
        where = "any namespace" if root else f"namespace {each.namespace}"
        labels = ",".join(f"{name}={value}" for name, value in sorted(each.selector.items()))
        return f"what has {labels} in {where}" if labels else f"what runs in {where}"


def _unmet(
    each: RetryFilter, patches: list[RetryPatch], reached: list[Reached]
) -> Iterator[Finding]:
    """What of one intent of a filter did not arrive."""
    numbers = " and ".join(str(patch.number) for patch in patches)
    what = f"patch {numbers} ({patches[0].apply_to}, {patches[0].context})"
    suited = [proxy for proxy in reached if proxy.suits(patches[0].context)]
    if not suited:
        yield Finding(
            _subject(each),
            f"{what} matches nothing: the {len(reached)} proxies that it reaches "
            f"({_some(reached)}) are not of that context",
            "a context that fits the proxies",
            "correct the patch's match.context",
        )
        return
    current = [proxy for proxy in suited if any(proxy.runs(patch) for patch in patches)]
    if outdated := [proxy for proxy in suited if proxy not in current]:
        regex = " and ".join(repr(patch.proxy_version) for patch in patches)
        versions = ", ".join(sorted({proxy.proxy.istio_version for proxy in outdated}))
        yield Finding(
            _subject(each),
            f"{what} is for proxies of version {regex}, and {len(outdated)} of the {len(suited)} "
            f"that it reaches run {versions} ({_some(outdated)})",
            "a proxyVersion that matches them",
            "widen match.proxy.proxyVersion, or add the patch for the new version",
        )
    holding = [
        proxy
        for proxy in current
        if any(proxy.runs(patch) and proxy.holds(patch) for patch in patches)
    ]
    if current and not holding:
        yield Finding(
            _subject(each),
            f"{what} matches nothing: it is in the configuration of none of the {len(current)} "
            f"proxies that it reaches ({_some(current)})",
            "Retry-After in what istiod gives them",
            "correct the patch's match (listener, filter, route or virtual host)",
        )
        return
    workloads = {proxy.workload for proxy in holding}
    for proxy in current:
        if proxy not in holding and proxy.workload in workloads:
            yield Finding(
                proxy.name,
                f"was not given {what} of {_subject(each)}, as others of its workload were",
                "the same configuration for the same pods",
                "compare both: istioctl proxy-config all",
                transient=True,
            )


def _unannounced(burst: Burst) -> Iterator[Finding]:
    subject = f"Target {burst.target}"
    if burst.error:
        yield Finding(subject, f"does not answer: {burst.error}", "an answer", transient=True)
    elif burst.status == 403:
        yield Finding(
            subject,
            "answers 403: an AuthorizationPolicy, or the application, denies us",
            "429 or 503 with Retry-After",
            "allow the verifier, or name a target that it may call",
        )
    elif burst.status not in THROTTLED:
        many = sum(burst.statuses.values()) + 1
        yield Finding(
            subject,
            f"still answers {burst.status} after {many} requests",
            "429 or 503 by then",
            "raise --retry-after-burst above the target's limit, or mend the limit",
        )
    elif not burst.retry_after:
        yield Finding(
            subject, f"answers {burst.status} without Retry-After", "a Retry-After header"
        )
    else:
        for words in _answers(burst.status, burst.retry_after, burst.at):
            yield Finding(subject, words, VALID)


def _subject(each: RetryFilter) -> str:
    return f"EnvoyFilter {each.namespace}/{each.name}"


def _some(proxies: Iterable[Reached]) -> str:
    names = [proxy.name for proxy in proxies]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
