"""An upgrade that was tried in the shadow: as lines of plain text, and as a page."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from meshgate.facts.precheck.shadow_upgrade import (
    Difference,
    broken,
    difference,
    findings,
    reshaped,
    unseen,
)
from meshgate.report.html import TEMPLATES
from meshgate.snapshot.shadow import Change, Shadow
from meshgate.verdict import Finding


class ShadowReport(NamedTuple):
    """What both forms say of it."""

    shadow: Shadow
    findings: list[Finding]
    unseen: list[str]
    changed: Difference
    proxies: int
    compared: int

    @classmethod
    def of(cls, shadow: Shadow, accepted: Iterable[str] = ()) -> "ShadowReport":
        different = difference(shadow)
        return cls(
            shadow,
            findings(shadow, different, accepted),
            unseen(shadow),
            different,
            sum(len(each.proxies) for each in shadow.classes),
            sum(each.resources for each in shadow.classes),
        )

    @property
    def verdict(self) -> str:
        if self.findings:
            count = len(self.findings)
            return f"{count} things would break" if count > 1 else "one thing would break"
        return "not all could be seen" if self.unseen else "nothing would break"


def shadow_lines(told: ShadowReport) -> list[str]:
    """What breaks, what was not seen, what changes, and the sum of it."""
    shadow = told.shadow
    return [
        *(f"FAIL shadow {each} (fix: {each.remedy})" for each in told.findings),
        *(f"UNKNOWN shadow {each}" for each in told.unseen),
        *(
            f"all   {each.change.kind} in {each.places} places: {_place(each.change)}"
            for each in told.changed.widespread
        ),
        *(
            f"some  {change.kind} for {', '.join(names)}: {_place(change)}"
            for change, names in told.changed.own
            if not broken(change)
        ),
        *(f"pod   {each}" for each in reshaped(shadow)),
        f"With {shadow.version} {told.verdict} ({told.proxies} proxies in {len(shadow.classes)} "
        f"classes, {told.compared} resources compared).",
    ]


def shadow_page(told: ShadowReport) -> str:
    """The same for a person, workload by workload; it needs no network and no other file."""
    some: defaultdict[str, list[Change]] = defaultdict(list)
    for change, names in told.changed.own:
        for name in names:
            some[name].append(change)
    return TEMPLATES.get_template("shadow.html.jinja").render(
        version=told.shadow.version,
        classes=told.shadow.classes,
        widespread=told.changed.widespread,
        some=dict(sorted(some.items())),
        verdict=told.verdict,
        **told._asdict(),
    )


def _place(change: Change) -> str:
    where = f"{change.type} {change.resource} {change.path}".rstrip()
    return f"{where} {change.before} -> {change.after}" if change.before else where
