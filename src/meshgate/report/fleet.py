"""One report over an upgrade of many clusters: `fleet.json`, and its text."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from meshgate.facts.precheck.shadow_upgrade import broken, difference, reshaped, without_names
from meshgate.report.json import SCHEMA, Report, ReportedCheck
from meshgate.report.visible import one_line, visible_parts
from meshgate.snapshot.recording import Recording
from meshgate.snapshot.shadow import Change, Shadow
from meshgate.verdict import Gate

VERSION: Literal[1] = 1

State = Literal["would break", "unknown", "recording too old", "would change", "no change"]

# The states that keep the fleet's gate closed.
CLOSING: tuple[State, ...] = ("would break", "unknown", "recording too old")


class SeenChange(msgspec.Struct, frozen=True):
    """A change of one cluster that breaks nothing: what changes, and how often.

    `everywhere`: in every class of proxies.
    """

    what: str
    places: int
    everywhere: bool


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one cluster.

    Attributes:
        recording: the head of its newest recording; None if it has none.
        report: the verdict of stage A on that recording; None if there is none.
        why: why there is no verdict.
        proxies: how many proxies were simulated.
        classes: in how many classes.
        changes: what the upgrade changes without breaking anything.
        sources: the files of objects by `Kind namespace/name`.
    """

    cluster: str
    recording: Recording | None = None
    report: Report | None = None
    why: str = ""
    proxies: int = 0
    classes: int = 0
    changes: tuple[SeenChange, ...] = ()
    sources: dict[str, str] = {}


class FleetCluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster of the report.

    Attributes:
        causes: positions in the report's list of causes.
        unknown: what could not be verified, one sentence each.
        warnings: how many warnings the checks have.
        changes: how many different changes break nothing.
        not_run: the checks that a recording cannot answer for this target, or that do not apply.
    """

    name: str
    state: State
    taken: datetime | None = None
    age_hours: float | None = None
    sha256: str = ""
    versions: str = ""
    revisions: str = ""
    proxies: int = 0
    classes: int = 0
    causes: tuple[int, ...] = ()
    unknown: tuple[str, ...] = ()
    warnings: int = 0
    changes: int = 0
    gaps: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()


class FleetCause(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that closes the gate, once for all clusters that have it.

    `seen` and `remedy` are those of the first cluster; `source` is the file of the object.
    """

    check: str
    subject: str
    seen: str
    remedy: str
    problem: str
    source: str
    clusters: tuple[str, ...]


class FleetChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that breaks nothing; `everywhere`: in all proxies of these clusters."""

    what: str
    clusters: int
    places: int
    everywhere: bool


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an upgrade of many clusters.

    Attributes:
        target: the version that is upgraded to.
        made: when the report was made, in UTC.
        exit: 0, 1 if a cluster would break, 10 if one could not be verified.
        sentence: the verdict in words.
    """

    version: Literal[1]
    meshgate_version: str
    target: str
    made: datetime
    gate: Literal["open", "closed"]
    exit: int
    sentence: str
    clusters: tuple[FleetCluster, ...]
    causes: tuple[FleetCause, ...]
    changes: tuple[FleetChange, ...]

    def of(self, *states: State) -> list[FleetCluster]:
        """Return the clusters in one of these states."""
        return [each for each in self.clusters if each.state in states]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the document; docs/fleet.schema.json."""
    return {"$schema": SCHEMA, "title": "meshgate's verdict on a fleet"} | msgspec.json.schema(
        FleetReport
    )


def seen_changes(shadow: Shadow) -> tuple[SeenChange, ...]:
    """Return the changes of one cluster that break nothing: of proxies, then of injected pods."""
    different = difference(shadow)
    found = [
        SeenChange(_what(each.change), each.places, everywhere=True)
        for each in different.widespread
    ]
    places: defaultdict[str, int] = defaultdict(int)
    for change, proxies in different.partial:
        if not broken(change):
            places[_what(change)] += len(proxies)
    found += [SeenChange(what, count, everywhere=False) for what, count in places.items()]
    found += [SeenChange(each.seen, 1, everywhere=False) for each in reshaped(shadow)]
    return tuple(found)


def _what(change: Change) -> str:
    values = f" {change.before} -> {change.after}" if change.before else ""
    place = f"{change.type} {without_names(change.path)}".rstrip()
    return one_line(f"{change.kind}: {place}{values}", 300)


def fleet_report(
    evaluations: Iterable[Evaluation],
    *,
    target: str,
    made: datetime,
    max_age: timedelta,
    meshgate_version: str,
) -> FleetReport:
    """Return the report.

    Args:
        evaluations: the result of each cluster.
        target: the version that is upgraded to.
        made: now, in UTC.
        max_age: how old a recording may be.
        meshgate_version: what makes the report.

    Returns:
        The report, with the clusters that would break first.
    """
    found = list(evaluations)
    causes = _causes(found)
    position = {key: number for number, key in enumerate(causes)}
    clusters = sorted(
        (_cluster(each, position, made, max_age) for each in found),
        key=lambda each: (_order(each.state), each.name),
    )
    code = _exit(clusters)
    document = FleetReport(
        version=VERSION,
        meshgate_version=meshgate_version,
        target=target,
        made=made,
        gate="open" if code == 0 else "closed",
        exit=code,
        sentence=_sentence(clusters, target, max_age),
        clusters=tuple(clusters),
        causes=tuple(causes.values()),
        changes=tuple(_changes(found)),
    )
    return visible_parts(document)


def _order(state: State) -> int:
    return [*CLOSING, "would change", "no change"].index(state)


def _exit(clusters: Sequence[FleetCluster]) -> int:
    states = {each.state for each in clusters}
    if "would break" in states:
        return int(Gate.CLOSED)
    return int(Gate.OPEN if clusters and not states & {*CLOSING} else Gate.COULD_NOT_VERIFY)


def _cluster(
    each: Evaluation, position: dict[str, int], made: datetime, max_age: timedelta
) -> FleetCluster:
    """Return the row of a cluster.

    Args:
        each: its result.
        position: the position of each cause by its key.
        made: when the report is made.
        max_age: how old a recording may be.
    """
    head, checks = each.recording, each.report.checks if each.report else ()
    causes = sorted({position[key] for key, _, _ in _failures(checks)})
    unknown = [
        f"{row.id} {row.title}: {row.why}" for row in checks if row.verdict == "could not verify"
    ]
    unknown = [each.why, *unknown] if each.why else unknown
    if each.report and each.report.exit and not causes and not unknown:
        unknown = [each.report.reason or each.report.sentence]
    age = head.age(made) if head else None
    state: State = "would change" if each.changes else "no change"
    if causes:
        state = "would break"
    elif unknown or not each.report:
        state = "unknown"
    elif age is None or age > max_age:
        state = "recording too old"
    return FleetCluster(
        name=each.cluster,
        state=state,
        taken=head.taken if head else None,
        age_hours=round(age.total_seconds() / 3600, 1) if age is not None else None,
        sha256=head.sha256 if head else "",
        versions=head.versions if head else "",
        revisions=head.revisions if head else "",
        proxies=each.proxies,
        classes=each.classes,
        causes=tuple(causes),
        unknown=tuple(unknown),
        warnings=sum(len(row.warnings) for row in checks),
        changes=len(each.changes),
        gaps=head.gaps if head else (),
        not_run=tuple(row.id for row in checks if row.verdict == "not applicable"),
    )


def _failures(checks: Iterable[ReportedCheck]) -> Iterator[tuple[str, str, Any]]:
    """Yield (key, check, finding) of what closes the gate; None for a failure without findings."""
    for row in checks:
        if row.verdict == "fail":
            for finding in row.findings:
                yield finding.key, row.id, finding
            if not row.findings:
                yield f"{row.id}: {row.why}", row.id, None


def _causes(evaluations: Iterable[Evaluation]) -> dict[str, FleetCause]:
    """Return each cause once by the key of its findings: those of most clusters first."""
    found: dict[str, FleetCause] = {}
    for each in evaluations:
        for key, check, finding in _failures(each.report.checks if each.report else ()):
            known = found.get(key)
            subject = finding.subject if finding else check
            source = each.sources.get(subject, "")
            if known is None:
                found[key] = FleetCause(
                    check=check,
                    subject=subject,
                    seen=finding.seen if finding else key,
                    remedy=finding.remedy if finding else "",
                    problem=finding.problem if finding else "",
                    source=source,
                    clusters=(each.cluster,),
                )
            elif each.cluster not in known.clusters:
                found[key] = msgspec.structs.replace(
                    known,
                    clusters=(*known.clusters, each.cluster),
                    source=known.source or source,
                )
    return dict(
        sorted(found.items(), key=lambda item: (-len(item[1].clusters), item[1].check, item[0]))
    )


def _changes(evaluations: Iterable[Evaluation]) -> list[FleetChange]:
    """Return each change once, with counts: those of most clusters first."""
    found: defaultdict[str, list[SeenChange]] = defaultdict(list)
    for each in evaluations:
        for change in each.changes:
            found[change.what].append(change)
    changes = [
        FleetChange(
            what=what,
            clusters=len(seen),
            places=sum(each.places for each in seen),
            everywhere=all(each.everywhere for each in seen),
        )
        for what, seen in found.items()
    ]
    return sorted(changes, key=lambda each: (-each.clusters, -each.places, each.what))


def counted(count: int, noun: str) -> str:
    """Return `1 cluster` or `2 clusters`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _sentence(clusters: Sequence[FleetCluster], target: str, max_age: timedelta) -> str:
    if not clusters:
        return f"no recording was evaluated for Istio {target}"

    def of(*states: State) -> int:
        return sum(each.state in states for each in clusters)

    old = f"{counted(of('recording too old'), 'recording')} older than {age_words(max_age)}"
    parts = [
        (of("would break"), f"{counted(of('would break'), 'cluster')} would break"),
        (of("unknown"), f"{counted(of('unknown'), 'cluster')} could not be verified"),
        (of("recording too old"), old),
        (
            of("would change", "no change"),
            f"{counted(of('would change', 'no change'), 'cluster')} without breakage",
        ),
    ]
    return f"Istio {target}: " + " · ".join(words for count, words in parts if count)


def age_words(age: timedelta) -> str:
    """Return `1 day` or `36 hours`."""
    hours = age.total_seconds() / 3600
    if hours % 24 == 0 and hours:
        return counted(int(hours // 24), "day")
    return f"{hours:g} hours"


def fleet_lines(report: FleetReport, limit: int = 20) -> Iterator[str]:
    """Yield the report as text: causes, then clusters, changes, and the verdict as the last line.

    `limit`: how many changes are shown.
    """
    for cause in report.causes:
        where = f" [{cause.source}]" if cause.source else ""
        yield f"FAIL {cause.check} {cause.subject}: {one_line(cause.seen, 400)}{where}"
        if cause.remedy:
            yield f"     fix: {one_line(cause.remedy, 400)}"
        yield f"     {counted(len(cause.clusters), 'cluster')}: {', '.join(cause.clusters)}"
    for each in report.clusters:
        age = "no recording" if each.age_hours is None else f"{each.age_hours:g} h old"
        yield (
            f"{each.state:17} {each.name}: istiod {each.versions or 'unknown'}, "
            f"{each.proxies} proxies in {each.classes} classes, "
            f"{counted(len(each.causes), 'problem')}, {counted(each.changes, 'change')}, {age}"
        )
        for why in each.unknown:
            yield f"     UNKNOWN {one_line(why, 400)}"
    for change in report.changes[:limit]:
        where = "all proxies" if change.everywhere else counted(change.places, "place")
        yield f"change {where} of {counted(change.clusters, 'cluster')}: {change.what}"
    if len(report.changes) > limit:
        yield f"change and {len(report.changes) - limit} more"
    yield f"GATE {report.gate.upper()}  {report.sentence}"
