"""EnvoyFilters about Retry-After: which proxies each one reaches, and what these were given."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from meshgate.facts.controlplane.proxies import Proxies
from meshgate.facts.dataplane.pod_findings import pod_finding
from meshgate.facts.evidence import Evidence
from meshgate.semantics import pods
from meshgate.semantics.patterns import searches
from meshgate.semantics.retry_after import VALID, reaches, retry_after_error
from meshgate.settings import flag
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.retry_after import GivenConfig, HeaderRule, RetryFilter, RetryPatch
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# Labels that differ between the pods of one workload.
_POD_LABELS = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    }
)
_SIDE = {"SIDECAR_INBOUND": "INBOUND", "SIDECAR_OUTBOUND": "OUTBOUND", "GATEWAY": "OUTBOUND"}


class Reached(NamedTuple):
    """A proxy that a filter reaches, with its state and its configuration from istiod."""

    pod: Pod
    proxy: ProxySync
    given: GivenConfig

    @property
    def name(self) -> str:
        return pods.name(self.pod)

    @property
    def workload(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """A value that is equal for the pods of one version of one workload."""
        labels = self.pod.metadata.labels.items()
        return self.pod.metadata.namespace, frozenset(
            (name, value) for name, value in labels if name not in _POD_LABELS
        )

    def suits(self, context: str) -> bool:
        """Return whether patches with this context are for a proxy of its type."""
        if context in ("", "ANY"):
            return True
        return (self.proxy.proxy_type == "router") == (context == "GATEWAY")

    def runs(self, patch: RetryPatch) -> bool:
        """Return whether the patch is for this proxy's version; Istio's match is unanchored."""
        return searches(patch.proxy_version, self.proxy.istio_version)

    def holds(self, patch: RetryPatch) -> bool:
        """Return whether its configuration contains what the patch adds."""
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
    """EnvoyFilters that add or honor Retry-After, compared with the proxies' configuration."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._proxies = evidence.facts(Proxies)

    @cached_property
    def filters(self) -> tuple[RetryFilter, ...]:
        """The filters about Retry-After; raises NotApplicable if there are none."""
        seen = self._evidence.retry_filters
        if not seen.filters:
            raise NotApplicable(f"none of the {seen.seen} EnvoyFilters is about Retry-After")
        return seen.filters

    @property
    def count(self) -> int:
        """How many filters are about Retry-After."""
        return len(self._evidence.retry_filters.filters)

    @property
    def missing(self) -> list[Finding]:
        """One finding if --require-retry-after is set and no filter is about Retry-After."""
        seen = self._evidence.retry_filters
        if seen.filters or not self._evidence.expectations.require_retry_after:
            return []
        return [
            Finding(
                "EnvoyFilters",
                f"none of the {seen.seen} is about Retry-After",
                f"at least one ({flag('probes.require_retry_after')})",
                "Apply the EnvoyFilter that adds Retry-After to 429 and 503.",
                problem="no-retry-after-filter",
            )
        ]

    @property
    def unapplied(self) -> list[Finding]:
        """Filters that reach no proxy, or that a proxy's configuration lacks."""
        return [finding for each in self.filters for finding in self._unapplied(each)]

    @property
    def malformed(self) -> list[Finding]:
        """Fixed values that clients cannot parse."""
        now = self._evidence.snapshot.taken
        return [
            filter_finding(
                [each],
                f"patch {patch.number} sends Retry-After {value!r}, which {wrong}",
                VALID,
                f"kubectl -n {each.namespace} edit envoyfilter {each.name}",
                problem="invalid-value",
                patch=str(patch.number),
                value=value,
            )
            for each, patch, value in self.values
            if (wrong := retry_after_error(value, now))
        ]

    @cached_property
    def values(self) -> list[tuple[RetryFilter, RetryPatch, str]]:
        """Each fixed value that a patch sends; raises NotApplicable if there are none."""
        found = [
            (each, patch, place.value)
            for each in self.filters
            for patch in each.patches
            for place in patch.places
            if place.value
        ]
        if not found:
            raise NotApplicable("no EnvoyFilter sends a fixed Retry-After value")
        return found

    def _unapplied(self, each: RetryFilter) -> Iterator[Finding]:
        reached = self._reached(each)
        if not reached and self._has_successor(each):
            return
        if not reached:
            yield filter_finding(
                [each],
                f"reaches no proxy: no connected proxy is {self._scope(each)}",
                "at least one proxy",
                "Correct its workloadSelector or targetRefs, or delete it.",
                problem="selects-no-proxy",
            )
            return
        intents: defaultdict[tuple[str, str, frozenset[str]], list[RetryPatch]] = defaultdict(list)
        for patch in each.patches:
            # patches that differ only in proxyVersion are one intent
            kinds = frozenset(place.kind for place in patch.places)
            intents[patch.apply_to, patch.context, kinds].append(patch)
        for patches in intents.values():
            yield from _unmet(each, patches, reached)

    def _has_successor(self, each: RetryFilter) -> bool:
        """Return whether a filter is for one revision, and another of its namespace for the pods.

        A canary upgrade keeps that of the old revision, and has that of the new one beforehand.
        """
        return bool(each.revision) and any(
            other.namespace == each.namespace
            and other.revision != each.revision
            and self._reached(other)
            for other in self.filters
        )

    def _reached(self, each: RetryFilter) -> list[Reached]:
        root = self._evidence.own_mesh.root_namespace
        given = {config.proxy: config for config in self._evidence.retry_filters.given}
        found, unknown = [], []
        for identity, proxy in sorted(self._proxies.connected.items()):
            pod = self._proxies.promised.get(identity)
            if pod is None or not reaches(each, pod, root):
                continue
            config = given.get(identity, GivenConfig(proxy=identity, error="it was not read"))
            if config.error or config.denied:
                unknown.append(config)
            found.append(Reached(pod, proxy, config))
        if unknown:
            first = unknown[0]
            raise CouldNotVerify(
                f"cannot read the configuration of {len(unknown)} of the {len(found)} proxies that "
                f"{subject(each)} reaches, such as {first.proxy}: {first.denied or first.error}",
                "run in istiod's own namespace, with a token of audience istio-ca",
                transient=not any(config.denied for config in unknown),
            )
        return found

    def _scope(self, each: RetryFilter) -> str:
        if each.gateways:
            return f"of Gateway {', '.join(each.gateways)} in namespace {each.namespace}"
        root = each.namespace == self._evidence.own_mesh.root_namespace
        where = "any namespace" if root else f"namespace {each.namespace}"
        labels = ",".join(f"{name}={value}" for name, value in sorted(each.selector.items()))
        return f"in {where}" + (f" with the labels {labels}" if labels else "")


def _unmet(
    each: RetryFilter, patches: list[RetryPatch], reached: list[Reached]
) -> Iterator[Finding]:
    """Yield what is wrong with one intent of a filter, given the proxies that it reaches."""
    numbers = " and ".join(str(patch.number) for patch in patches)
    what = f"patch {numbers} ({patches[0].apply_to}, {patches[0].context})"
    suited = [proxy for proxy in reached if proxy.suits(patches[0].context)]
    if not suited:
        yield filter_finding(
            [each],
            f"{what} matches nothing: none of the {len(reached)} proxies that it reaches "
            f"({_some(reached)}) has that context",
            "a context that fits the proxies",
            "Correct the patch's match.context.",
            problem="wrong-context",
            patch=numbers,
        )
        return
    current = [proxy for proxy in suited if any(proxy.runs(patch) for patch in patches)]
    if outdated := [proxy for proxy in suited if proxy not in current]:
        regex = " and ".join(repr(patch.proxy_version) for patch in patches)
        versions = ", ".join(sorted({proxy.proxy.istio_version for proxy in outdated}))
        yield filter_finding(
            [each],
            f"{what} is for proxies of version {regex}, but {len(outdated)} of the {len(suited)} "
            f"that it reaches run {versions} ({_some(outdated)})",
            "a proxyVersion that matches them",
            "Extend match.proxy.proxyVersion, or add the patch for the new version.",
            problem="proxy-version-mismatch",
            patch=numbers,
            version=versions,
        )
    holding = [
        proxy
        for proxy in current
        if any(proxy.runs(patch) and proxy.holds(patch) for patch in patches)
    ]
    if current and not holding:
        yield filter_finding(
            [each],
            f"{what} matches nothing: none of the {len(current)} proxies that it reaches "
            f"({_some(current)}) has it in its configuration",
            "Retry-After in their configuration",
            "Correct the patch's match (listener, filter, route or virtual host).",
            problem="matches-nothing",
            patch=numbers,
        )
        return
    workloads = {proxy.workload for proxy in holding}
    for proxy in current:
        if proxy not in holding and proxy.workload in workloads:
            yield pod_finding(
                proxy.pod,
                f"lacks {what} of {subject(each)}, which other pods of its workload have",
                "the same configuration as other pods of its workload",
                f"istioctl proxy-config all {proxy.pod.metadata.name}."
                f"{proxy.pod.metadata.namespace} -o json",
                problem="lacks-filter",
                transient=True,
                filter=f"{each.namespace}/{each.name}",
                patch=numbers,
            )


def filter_finding(
    filters: Iterable[RetryFilter],
    seen: str,
    expected: str = "",
    remedy: str = "",
    *,
    problem: str,
    transient: bool = False,
    **about: str,
) -> Finding:
    """Return a finding about EnvoyFilters that have the same effect on a proxy.

    Args:
        filters: the filters, at least one.
        seen: what is wrong.
        expected: what was expected instead.
        remedy: one command or one sentence.
        problem: the code of the kind of problem.
        transient: whether time alone may resolve it.
        about: what distinguishes it from the same problem of the same filters.

    Returns:
        The finding, whose subject names all of them.
    """
    return Finding(
        ", ".join(map(subject, filters)),
        seen,
        expected,
        remedy,
        transient=transient,
        problem=problem,
        about=tuple(sorted(about.items())),
    )


def subject(each: RetryFilter) -> str:
    """Return `EnvoyFilter namespace/name`."""
    return f"EnvoyFilter {each.namespace}/{each.name}"


def _some(proxies: Iterable[Reached]) -> str:
    names = [proxy.name for proxy in proxies]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
