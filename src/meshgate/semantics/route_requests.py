"""The request that tests a rule of a VirtualService, or why there is none."""

from collections.abc import Iterator
from typing import NamedTuple

from meshgate.semantics.hosts import concrete
from meshgate.semantics.listeners import Listener
from meshgate.semantics.route_matches import Sent, not_derivable, requests_for
from meshgate.semantics.virtual_services import Rule
from meshgate.snapshot.istio import HttpMatch, HttpRoute


class Derived(NamedTuple):
    """What follows from one rule: a request, or why there is none (`why`, `hidden_by`)."""

    rule: Rule
    host: str
    sent: Sent | None = None
    why: str = ""
    hidden_by: Rule | None = None


class _Entry(NamedTuple):
    """One match of a rule, and what Envoy compares a request with before."""

    match: HttpMatch | None
    earlier: list[Rule]

    @property
    def hidden_by(self) -> Rule | None:
        return next((each for each in self.earlier if each.takes_all_of(self.match)), None)

    def free(self, host: str) -> Sent | None:
        """Return a request that no earlier rule takes."""
        return next(
            (
                sent
                for sent in requests_for(self.match, host)
                if not any(each.takes(sent) for each in self.earlier)
            ),
            None,
        )


def derived(host: str, ordered: list[Rule], listener: Listener) -> Iterator[Derived]:
    """Derive one request for each rule of a host that is the listener's own.

    Args:
        host: as listener and VirtualServices have it.
        ordered: its rules in the order of Envoy, with those of merged Gateways.
        listener: the listener.

    Yields:
        One entry a rule: a request, or the reason why there is none.
    """
    own = f"{listener.namespace}/{listener.name}"
    rules: dict[tuple[str, int], tuple[Rule, list[_Entry]]] = {}
    entries_of = [(each.key, each.gateway) for each in ordered]
    for position, rule in enumerate(ordered):
        if rule.gateway != own:
            continue
        earlier = [
            each
            for each, entry in zip(ordered[:position], entries_of, strict=False)
            if entry != entries_of[position]
        ]
        known, entries = rules.get(rule.key, (rule, []))
        if not rule.outside:
            entries.append(_Entry(rule.matches[0] if rule.matches else None, earlier))
        rules[rule.key] = (rule if known.outside else known, entries)
    for rule, entries in rules.values():
        if found := _derived(concrete(host), rule, entries):
            yield found._replace(host=host)


def _derived(name: str, rule: Rule, entries: list[_Entry]) -> Derived | None:
    if rule.outside:
        return Derived(rule, "", why=f"its matches are not within those of {rule.outside}")
    hiding = [each.hidden_by for each in entries]
    if all(hiding) and hiding[0]:
        if hiding[0].key == rule.key:
            return None  # the same route, by another Gateway of the same pods
        return Derived(rule, "", why="an earlier route takes its requests", hidden_by=hiding[0])
    used = [each for each, by in zip(entries, hiding, strict=True) if by is None]
    reasons = [not_derivable(each.match) if each.match else "" for each in used]
    if all(reasons):
        return Derived(rule, "", why=reasons[0])
    candidates = (each.free(name) for each, why in zip(used, reasons, strict=True) if not why)
    free = next((each for each in candidates if each), None)
    if free is None:
        return Derived(rule, "", why="earlier routes take the requests that can be derived")
    if why := _unpredictable(rule.rule):
        return Derived(rule, "", why=why)
    return Derived(rule, "", sent=free)


def _unpredictable(rule: HttpRoute) -> str:
    """Return why the answer to a request cannot be predicted."""
    abort = rule.fault.abort if rule.fault else None
    share = abort.percentage.value if abort and abort.percentage else 0.0
    if abort is None or share <= 0:
        return ""
    if share < 100:
        return "fault injection for a share of the requests"
    return "" if abort.http_status else "fault injection with a gRPC status"


def expected(rule: HttpRoute) -> int:
    """Return the status that the gateway itself answers with, 0 if a backend answers.

    Without a percentage Istio aborts no request.
    """
    if rule.redirect:
        return rule.redirect.redirect_code or 301
    if rule.direct_response:
        return rule.direct_response.status
    abort = rule.fault.abort if rule.fault else None
    if abort and abort.percentage and abort.percentage.value >= 100:
        return abort.http_status
    return 0
