"""Findings of a simulated upgrade: rejected configuration, removals, and missing sidecars."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.globs import matches
from meshgate.semantics.versions import Version
from meshgate.semantics.workloads import owner
from meshgate.settings import SHADOW_OPTIONS, flag
from meshgate.snapshot.shadow import Change, Shadow, TemplateReview
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# The changes that fail a check: the kind of change, the type of the resource, the path without
# names (a glob), and what the target does.  The first row that matches counts.  All other changes
# are warnings.
BREAKS = (
    ("removed", "listener", "", "removes a listener"),
    ("removed", "route", "", "removes a route configuration"),
    ("removed", "cluster", "", "removes a cluster"),
    ("removed", "extension", "", "removes an extension"),
    ("removed", "listener", "*/filterChains[]", "removes a filter chain"),
    ("removed", "*", "*/filters[]", "removes a filter"),
    ("removed", "*", "*/httpFilters[]", "removes a filter"),
    ("removed", "*", "*/listenerFilters[]", "removes a filter"),
    ("removed", "route", "*/virtualHosts[]", "removes a virtual host"),
    ("removed", "route", "*/routes[]", "removes a route"),
    ("removed", "*", "*/transportSocket", "removes a TLS context"),
    ("removed", "*", "*/typedPerFilterConfig/*", "removes the setting of a filter"),
    ("removed", "*", "*HeadersToAdd[]", "no longer sets a header"),
    ("removed", "*", "*HeadersToAdd", "no longer sets any header"),
    ("reordered", "listener", "*/filters", "reorders filters"),
    ("reordered", "listener", "*/httpFilters", "reorders filters"),
    ("*", "listener", "*/rules/policies*", "changes an authorization rule"),
)


class Widespread(msgspec.Struct, frozen=True):
    """A change in every class of proxies: a change of the release.  `places` counts it."""

    change: Change
    places: int


class Difference(msgspec.Struct, frozen=True):
    """The changes of a whole mesh.

    Attributes:
        widespread: the changes in every class of proxies.
        partial: the other changes, each with the first proxies of its classes.
    """

    widespread: tuple[Widespread, ...]
    partial: tuple[tuple[Change, tuple[str, ...]], ...]


def difference(shadow: Shadow) -> Difference:
    """Return the changes of all classes, separated into widespread and partial ones."""
    compared = [each for each in shadow.classes if not each.error]
    by_shape: defaultdict[tuple[str, ...], list[tuple[Change, str]]] = defaultdict(list)
    for each in compared:
        for change in each.changes:
            by_shape[_shape(change)].append((change, each.proxies[0]))
    widespread, partial = [], []
    for members in by_shape.values():
        everywhere = len({proxy for _, proxy in members}) == len(compared) > 1
        if everywhere and not broken(members[0][0]):
            widespread.append(Widespread(members[0][0], len(members)))
            continue
        proxies: defaultdict[Change, list[str]] = defaultdict(list)
        for change, proxy in members:
            proxies[change].append(proxy)
        partial += [(change, tuple(sorted(names))) for change, names in proxies.items()]
    return Difference(
        tuple(sorted(widespread, key=lambda each: _shape(each.change))),
        tuple(sorted(partial, key=lambda pair: (_shape(pair[0]), pair[0].resource, pair[1]))),
    )


def _shape(change: Change) -> tuple[str, ...]:
    return change.kind, change.type, without_names(change.path), change.before, change.after


def without_names(path: str) -> str:
    """Return a path without the names of its list items."""
    return re.sub(r"\[[^]]*\]", "[]", path)


def broken(change: Change) -> str:
    """Return what the target does if the change fails a check (see BREAKS); else empty."""
    for kind, type, path, words in BREAKS:
        fits = matches(without_names(change.path), path)
        if matches(change.kind, kind) and matches(change.type, type) and fits:
            return words
    return ""


def findings(shadow: Shadow, different: Difference, accepted: Iterable[str] = ()) -> list[Finding]:
    """Return every finding that fails a check.

    Args:
        shadow: the result of the simulation.
        different: its changes.
        accepted: globs over `TYPE RESOURCE PATH` of removals that are allowed.

    Returns:
        Rejections, removals, missing sidecars and rejected pod templates.
    """
    return [
        *refused(shadow),
        *gone(shadow, different, tuple(accepted)),
        *left_out(shadow),
        *rejected(shadow.templates or (), shadow.version),
    ]


def refused(shadow: Shadow) -> Iterator[Finding]:
    """Yield what the target's Envoy rejects."""
    for each in shadow.classes:
        for refusal in each.refusals:
            if refusal.culprits and {*refusal.culprits} <= {*shadow.cut}:
                continue  # the recorded object differs from the real one
            yield Finding(
                " and ".join(refusal.culprits) or f"Proxy {each.proxies[0]}",
                f"Envoy {shadow.version} rejects {refusal.part} of {_proxies(each.proxies)}: "
                f"{refusal.words}",
                "a configuration that the target's Envoy accepts",
                "correct the object that causes it before the upgrade",
                problem="rejected-by-envoy",
                about=(("part", refusal.part),),
            )


def gone(shadow: Shadow, different: Difference, accepted: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what the target removes from proxies, one finding for each object and kind of removal.

    Args:
        shadow: the result of the simulation.
        different: its changes.
        accepted: globs over `TYPE RESOURCE PATH` of removals that are allowed.

    Returns:
        One finding per object and kind of removal, sorted.
    """
    members = {each.proxies[0]: each.proxies for each in shadow.classes}
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    reached: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for change, firsts in different.partial:
        words = broken(change)
        where = f"{change.type} {change.resource} {change.path}".rstrip()
        if words and not any(matches(where, pattern) for pattern in accepted):
            key = change.brought_by or f"Proxy {firsts[0]}", words
            places[key].append(where)
            reached[key] |= {proxy for first in firsts for proxy in members[first]}
    for (subject, words), wheres in sorted(places.items()):
        more = f" and {len(wheres) - 1} more places" if len(wheres) > 1 else ""
        yield Finding(
            subject,
            f"istiod {shadow.version} {words}: {wheres[0]}{more}, on "
            f"{_proxies(reached[subject, words])}",
            "the same configuration as today",
            f"make {subject} match {shadow.version} too, or pass "
            f"{flag('simulation.allow_removal', repr(wheres[0]))}",
            problem="removed-from-proxy",
            about=(("change", words),),
        )


def _proxies(proxies: Iterable[str]) -> str:
    """Return up to three names, and how many more there are."""
    names = sorted(proxies)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unseen(shadow: Shadow) -> list[str]:
    """Return what the simulation could not verify, one sentence each."""
    return [
        *(f"Proxy {each.proxies[0]}: {each.error}" for each in shadow.classes if each.error),
        *(f"Namespace {each.namespace}: {each.error}" for each in shadow.injections if each.error),
        *(f"the read-only API denied the target's istiod {request}" for request in shadow.refused),
        *(
            f"{each} was recorded without a possible credential, so it could not be simulated"
            for each in shadow.cut
        ),
    ]


def unanswered(shadow: Shadow) -> list[str]:
    """Return the pod templates that the target's injector did not answer, one sentence each."""
    return [f"{each.workload}: {each.error}" for each in shadow.templates or () if each.error]


def left_out(shadow: Shadow) -> Iterator[Finding]:
    """Yield the namespaces where the target's injector adds no sidecar to pods."""
    for each in shadow.injections:
        if each.refused:
            yield Finding(
                f"Namespace {each.namespace}",
                f"the injector of {shadow.version} adds no sidecar to its pods: {each.refused}",
                "a sidecar, as today",
                "correct the injection template or the values of the target's chart",
                problem="no-sidecar",
            )


def rejected(templates: Iterable[TemplateReview], version: str) -> Iterator[Finding]:
    """Yield the workloads whose new pods the target's injector would reject."""
    for each in templates:
        if each.refused:
            yield Finding(
                each.workload,
                f"the injector of {version} rejects its pods: {each.refused}",
                "a pod template that the target's injector accepts",
                f"correct the annotations in the pod template of {each.workload} before the "
                "upgrade",
                problem="rejected-by-injector",
            )


def reshaped(shadow: Shadow) -> Iterator[Finding]:
    """Yield every change of injected pods once, with the namespaces that have it."""
    places: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for each in shadow.injections:
        for change in each.changes:
            places[change.kind, change.path, change.before, change.after].append(each.namespace)
    for (kind, path, before, after), namespaces in sorted(places.items()):
        more = f" and {len(namespaces) - 1} more" if len(namespaces) > 1 else ""
        yield Finding(
            f"Namespace {namespaces[0]}{more}",
            f"injector {shadow.version}: {path} of a pod is {kind}, {before} -> {after}",
            "",
            "check that the workloads support the change",
            problem="injection-changed",
            about=(("change", kind), ("path", path)),
        )


def changed(shadow: Shadow, different: Difference) -> Iterator[Finding]:
    """Yield every change of some proxies that fails no check, one finding per change and value."""
    places: defaultdict[tuple[str, ...], list[Change]] = defaultdict(list)
    reached: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    members = {each.proxies[0]: each.proxies for each in shadow.classes}
    for change, firsts in different.partial:
        if not broken(change):
            places[_shape(change)].append(change)
            reached[_shape(change)] |= {proxy for first in firsts for proxy in members[first]}
    for shape, changes in sorted(places.items()):
        first, more = changes[0], len(changes) - 1
        yield Finding(
            first.brought_by or f"Proxy {min(reached[shape])}",
            f"istiod {shadow.version}: {first.type} {first.resource} {first.path} is {first.kind}, "
            f"{first.before} -> {first.after}"
            + (f", and in {more} more places" if more else "")
            + f", on {_proxies(reached[shape])}",
            "",
            "check that the workload supports the change; nothing is removed",
            problem="configuration-changed",
            about=(
                ("change", first.kind),
                ("path", without_names(first.path)),
                ("type", first.type),
            ),
        )


class ShadowUpgrade:
    """The findings of the simulated upgrade; NotApplicable if there was no simulation.

    Args:
        evidence: the snapshot's.
        simulated: a simulation of another version than the target; None for the target's.
    """

    def __init__(self, evidence: Evidence, simulated: Shadow | None = None) -> None:
        self._evidence = evidence
        self._simulated = simulated

    @cached_property
    def _shadow(self) -> Shadow:
        if self._simulated is not None:
            return self._simulated
        shadow, target = self._evidence.shadow, Upgrade(self._evidence).target
        if shadow.skipped_reason:
            if self._evidence.expectations.require_shadow:
                raise CouldNotVerify(
                    shadow.skipped_reason,
                    f"pass {SHADOW_OPTIONS}, or omit {flag('simulation.require')}",
                )
            raise NotApplicable(shadow.skipped_reason)
        version = Version.parse(shadow.version)
        if version is None or not target.met_by(version):
            raise CouldNotVerify(
                f"the simulation used istiod {shadow.version}, and the target is {target}",
                f"pass {SHADOW_OPTIONS} of {target}",
            )
        return shadow

    @cached_property
    def _difference(self) -> Difference:
        return difference(self._shadow)

    def _complete(self, found: list[Finding]) -> list[Finding]:
        """Return the findings; raise CouldNotVerify if there are none and something is missing."""
        missing = unseen(self._shadow)
        if missing and not found:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise CouldNotVerify(
                f"{missing[0]}{more}", "repeat the simulation of the upgrade", transient=True
            )
        return self._with_owners(found)

    def _with_owners(self, found: list[Finding]) -> list[Finding]:
        """Return the findings with the workload of each proxy, where the snapshot has its pod."""
        snapshot = self._evidence.snapshot
        pods = snapshot.pods if "pods" in snapshot.read else None
        owners = {
            f"Proxy {each.metadata.name}.{each.metadata.namespace}": owner(each)
            for each in pods or ()
        }
        return [msgspec.structs.replace(each, owner=owners.get(each.subject, "")) for each in found]

    @property
    def proxies(self) -> int:
        """How many proxies the simulation represents; raises NotApplicable without any."""
        if not self._shadow.classes and not self._shadow.refused:
            raise NotApplicable("no proxy is connected whose configuration could be compared")
        return sum(len(each.proxies) for each in self._shadow.classes)

    @property
    def namespaces(self) -> int:
        """How many namespaces are injection-enabled."""
        return len(self._shadow.injections)

    @property
    def templates(self) -> int:
        """How many workloads' pod templates were sent to the injector."""
        return len(self._shadow.templates or ())

    @property
    def refused(self) -> list[Finding]:
        """Return what the target's Envoy rejects."""
        return self._complete(list(refused(self._shadow)))

    @property
    def gone(self) -> list[Finding]:
        """Return what the target removes from proxies, except for allowed removals."""
        accepted = self._evidence.expectations.accepted_losses
        return self._complete(list(gone(self._shadow, self._difference, accepted)))

    @property
    def changed(self) -> list[Finding]:
        """Return what the target changes for some proxies without removing anything."""
        return self._with_owners(list(changed(self._shadow, self._difference)))

    @property
    def left_out(self) -> list[Finding]:
        """Return the namespaces where the target's injector adds no sidecar to pods."""
        if not self._shadow.injections:
            raise NotApplicable("no namespace is injection-enabled")
        return self._complete(list(left_out(self._shadow)))

    @property
    def rejected(self) -> list[Finding]:
        """Return the workloads whose pod template the target's injector rejects."""
        shadow = self._shadow
        if shadow.templates is None:
            why = "an older meshgate simulated this, and sent no pod templates to the injector"
            if self._evidence.expectations.require_shadow:
                raise CouldNotVerify(why, "repeat the simulation of the upgrade")
            raise NotApplicable(why)
        if not shadow.templates:
            raise NotApplicable("no workload has pods that are injected")
        found = list(rejected(shadow.templates, shadow.version))
        missing = unanswered(shadow)
        if missing and not found:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise CouldNotVerify(
                f"{missing[0]}{more}",
                "repeat the simulation of the upgrade",
                transient=True,
            )
        return found

    @property
    def reshaped(self) -> list[Finding]:
        """Return what the target's injector changes in pods."""
        return list(reshaped(self._shadow))
