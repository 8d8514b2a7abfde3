"""What an upgrade changes in what proxies are given, and what of it would break them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property

import msgspec

from meshgate.facts.evidence import Evidence
from meshgate.facts.precheck.upgrade_path import Upgrade
from meshgate.semantics.versions import Version
from meshgate.snapshot.shadow import Change, Shadow
from meshgate.verdict import CouldNotVerify, Finding, NotApplicable

# What an upgrade may not do to a proxy unasked: the kind of change, the resource's type, and the
# path without names (a glob); the first row that fits.  All else is told and closes no gate.
BREAKS = (
    ("removed", "listener", "", "this listener would be gone"),
    ("removed", "route", "", "this route configuration would be gone"),
    ("removed", "cluster", "", "this cluster would be gone"),
    ("removed", "extension", "", "this extension would be gone"),
    ("removed", "listener", "*/filterChains[[]]", "this filter chain would be gone"),
    ("removed", "*", "*/filters[[]]", "this filter would be gone"),
    ("removed", "*", "*/httpFilters[[]]", "this filter would be gone"),
    ("removed", "*", "*/listenerFilters[[]]", "this filter would be gone"),
    ("removed", "route", "*/virtualHosts[[]]", "this virtual host would be gone"),
    ("removed", "route", "*/routes[[]]", "this route would be gone"),
    ("removed", "*", "*/transportSocket", "this TLS context would be gone"),
    ("removed", "*", "*/typedPerFilterConfig/*", "this filter's setting would be gone"),
    ("removed", "*", "*HeadersToAdd[[]]", "this header would not be set"),
    ("removed", "*", "*HeadersToAdd", "these headers would not be set"),
    ("reordered", "listener", "*/filters", "these filters would run in another order"),
    ("reordered", "listener", "*/httpFilters", "these filters would run in another order"),
    ("*", "listener", "*/rules/policies*", "this authorization rule would be another"),
)


class Widespread(msgspec.Struct, frozen=True):
    """A change that all proxies see which have what it is about: the release's own."""

    change: Change
    places: int


class Difference(msgspec.Struct, frozen=True):
    """The changes of a whole mesh: the release's own, and those that only some see.

    `own` has the classes' first proxies by change.
    """

    widespread: tuple[Widespread, ...]
    own: tuple[tuple[Change, tuple[str, ...]], ...]


def difference(shadow: Shadow) -> Difference:
    """Tells what the release changes for all alike from what it changes for some."""
    seen = [each for each in shadow.classes if not each.error]
    by_shape: defaultdict[tuple[str, ...], list[tuple[Change, str]]] = defaultdict(list)
    for each in seen:
        for change in each.changes:
            by_shape[_shape(change)].append((change, each.proxies[0]))
    widespread, own = [], []
    for members in by_shape.values():
        everywhere = len({proxy for _, proxy in members}) == len(seen) > 1
        if everywhere and not broken(members[0][0]):
            widespread.append(Widespread(members[0][0], len(members)))
            continue
        proxies: defaultdict[Change, list[str]] = defaultdict(list)
        for change, proxy in members:
            proxies[change].append(proxy)
        own += [(change, tuple(sorted(names))) for change, names in proxies.items()]
    return Difference(
        tuple(sorted(widespread, key=lambda each: _shape(each.change))),
        tuple(sorted(own, key=lambda pair: (_shape(pair[0]), pair[0].resource, pair[1]))),
    )


def _shape(change: Change) -> tuple[str, ...]:
    return change.kind, change.type, _nameless(change.path), change.before, change.after


def _nameless(path: str) -> str:
    return re.sub(r"\[[^]]*\]", "[]", path)


def broken(change: Change) -> str:
    """What a change would break, in words; nothing where it only changes."""
    for kind, type, path, words in BREAKS:
        fits = fnmatchcase(_nameless(change.path), path)
        if fnmatchcase(change.kind, kind) and fnmatchcase(change.type, type) and fits:
            return words
    return ""


def findings(shadow: Shadow, different: Difference, accepted: Iterable[str] = ()) -> list[Finding]:
    """What would break; `accepted` are globs over `TYPE RESOURCE PATH`."""
    return [
        *refused(shadow),
        *gone(shadow, different, tuple(accepted)),
        *left_out(shadow),
    ]


def refused(shadow: Shadow) -> Iterator[Finding]:
    """What the target's Envoy would not take."""
    for each in shadow.classes:
        for refusal in each.refusals:
            if refusal.culprits and {*refusal.culprits} <= {*shadow.cut}:
                continue  # it is not as its author wrote it
            yield Finding(
                " and ".join(refusal.culprits) or f"Proxy {each.proxies[0]}",
                f"the Envoy of {shadow.version} would refuse {refusal.part} of "
                f"{_proxies(each.proxies)}: {refusal.words}",
                "a configuration that it accepts",
                "correct or remove the object that causes it, before the upgrade",
                problem="rejected-by-envoy",
                about=(("part", refusal.part),),
            )


def gone(shadow: Shadow, different: Difference, accepted: tuple[str, ...]) -> Iterator[Finding]:
    """What proxies would lose.

    One finding for each object and what it breaks: it may reach many chains of many proxies.
    """
    members = {each.proxies[0]: each.proxies for each in shadow.classes}
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    reached: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for change, firsts in different.own:
        words = broken(change)
        where = f"{change.type} {change.resource} {change.path}".rstrip()
        if words and not any(fnmatchcase(where, pattern) for pattern in accepted):
            key = change.brought_by or f"Proxy {firsts[0]}", words
            places[key].append(where)
            reached[key] |= {proxy for first in firsts for proxy in members[first]}
    for (subject, words), wheres in sorted(places.items()):
        more = f" and {len(wheres) - 1} more places" if len(wheres) > 1 else ""
        yield Finding(
            subject,
            f"{words} with {shadow.version}: {wheres[0]}{more}, on "
            f"{_proxies(reached[subject, words])}",
            "what is there today",
            f"make {subject} match the new version too, or pass --allow-removal={wheres[0]!r}",
            problem="removed-from-proxy",
            about=(("breaks", words),),
        )


def _proxies(proxies: Iterable[str]) -> str:
    names = sorted(proxies)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unseen(shadow: Shadow) -> list[str]:
    """What the look did not show, in words."""
    return [
        *(f"Proxy {each.proxies[0]}: {each.error}" for each in shadow.classes if each.error),
        *(f"Namespace {each.namespace}: {each.error}" for each in shadow.injections if each.error),
        *(f"the target's istiod was refused {request}" for request in shadow.refused),
        *(
            f"{each} was recorded without what looks like a credential, so it could not be tried"
            for each in shadow.cut
        ),
    ]


def left_out(shadow: Shadow) -> Iterator[Finding]:
    """Namespaces whose pods the target would give no sidecar."""
    for each in shadow.injections:
        if each.refused:
            yield Finding(
                f"Namespace {each.namespace}",
                f"the injector of {shadow.version} would give its pods no sidecar: {each.refused}",
                "a sidecar, as today",
                "correct the injection template or the values of the target's chart",
            )


def reshaped(shadow: Shadow) -> Iterator[Finding]:
    """What pods would be given otherwise, one finding for each change."""
    places: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for each in shadow.injections:
        for change in each.changes:
            places[change.kind, change.path, change.before, change.after].append(each.namespace)
    for (kind, path, before, after), namespaces in sorted(places.items()):
        more = f" and {len(namespaces) - 1} more" if len(namespaces) > 1 else ""
        yield Finding(
            f"Namespace {namespaces[0]}{more}",
            f"with {shadow.version} {path} of an injected pod is {kind}, {before} -> {after}",
            "",
            "see whether its workloads can do with it",
        )


def changed(shadow: Shadow, different: Difference) -> Iterator[Finding]:
    """What changes for some proxies and breaks nothing, one finding for each change and value."""
    places: defaultdict[tuple[str, ...], list[Change]] = defaultdict(list)
    reached: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    members = {each.proxies[0]: each.proxies for each in shadow.classes}
    for change, firsts in different.own:
        if not broken(change):
            places[_shape(change)].append(change)
            reached[_shape(change)] |= {proxy for first in firsts for proxy in members[first]}
    for shape, changes in sorted(places.items()):
        first, more = changes[0], len(changes) - 1
        yield Finding(
            first.brought_by or f"Proxy {min(reached[shape])}",
            f"with {shadow.version} {first.type} {first.resource} {first.path} is {first.kind}, "
            f"{first.before} -> {first.after}"
            + (f", and in {more} more places" if more else "")
            + f", on {_proxies(reached[shape])}",
            "",
            "see whether the workload can do with it; nothing is lost by it",
        )


class ShadowUpgrade:
    """The upgrade as it was tried in the shadow, where it was."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def _shadow(self) -> Shadow:
        shadow, target = self._evidence.shadow, Upgrade(self._evidence).target
        if shadow.skipped_reason:
            if self._evidence.expectations.require_shadow:
                raise CouldNotVerify(
                    shadow.skipped_reason, "name them, or leave out --require-shadow"
                )
            raise NotApplicable(shadow.skipped_reason)
        version = Version.parse(shadow.version)
        if version is None or not target.met_by(version):
            raise CouldNotVerify(
                f"the simulation used istiod {shadow.version}, and the target is {target}",
                f"pass the programs and manifests of {target} (--istiod, --envoy, --manifests)",
            )
        return shadow

    @cached_property
    def _difference(self) -> Difference:
        return difference(self._shadow)

    def _seen(self, found: list[Finding]) -> list[Finding]:
        """What was found, unless nothing was and not all could be looked at."""
        blind = unseen(self._shadow)
        if blind and not found:
            more = f" and {len(blind) - 1} more" if len(blind) > 1 else ""
            raise CouldNotVerify(f"{blind[0]}{more}", "look again", transient=True)
        return found

    @property
    def refused(self) -> list[Finding]:
        """What the target's Envoy would not take."""
        return self._seen(list(refused(self._shadow)))

    @property
    def gone(self) -> list[Finding]:
        """What proxies would lose, as far as nobody accepts that."""
        accepted = self._evidence.expectations.accepted_losses
        return self._seen(list(gone(self._shadow, self._difference, accepted)))

    @property
    def changed(self) -> list[Finding]:
        """What some proxies, and not all, would be given otherwise."""
        return list(changed(self._shadow, self._difference))

    @property
    def left_out(self) -> list[Finding]:
        """Namespaces whose pods would be given no sidecar."""
        if not self._shadow.injections:
            raise NotApplicable("no namespace is enrolled, so nothing is injected")
        return self._seen(list(left_out(self._shadow)))

    @property
    def reshaped(self) -> list[Finding]:
        """What an injected pod would be otherwise."""
        return list(reshaped(self._shadow))
