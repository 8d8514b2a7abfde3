"""The report over many clusters as the comment of a pull request: Markdown, in all forges."""

import re
from collections.abc import Iterator

from meshgate.report.fleet import FleetCluster, FleetReport, counted
from meshgate.report.visible import one_line

# The first line of the comment, by which it is found and replaced.
MARKER = "<!-- meshgate-fleet -->"

# Forges accept 65,536 characters (GitHub) and more.
_LARGEST = 60_000
_CAUSES, _CHANGES, _NAMES = 25, 10, 10


def comment(report: FleetReport) -> str:
    """Return the comment."""
    lines: list[str] = []
    size = 0
    for line in _lines(report):
        size += len(line.encode()) + 1
        if size > _LARGEST:
            lines += ["", "The rest is in the page of the run."]
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def _lines(report: FleetReport) -> Iterator[str]:
    yield MARKER
    yield f"### Istio {_text(report.target)}: gate {report.gate}"
    yield ""
    yield f"{_text(report.sentence)}."
    yield ""
    for cause in report.causes[:_CAUSES]:
        where = f" (`{_code(cause.source)}`)" if cause.source else ""
        yield (
            f"- **{_names(cause.clusters)}**: {_text(cause.subject)}{where}: {_text(cause.seen)} "
            f"({cause.check})"
        )
        if cause.remedy:
            yield f"  Fix: {_text(cause.remedy)}."
    if (more := len(report.causes) - _CAUSES) > 0:
        yield f"- and {counted(more, 'more problem')}"
    for each in report.of("unknown"):
        yield f"- **{_text(each.name)}** could not be verified: {_text(each.unknown[0])}"
    for each in report.of("recording too old"):
        yield f"- **{_text(each.name)}**: the recording is {each.age_hours:g} hours old"
    fine = report.of("would change", "no change")
    if fine:
        yield f"- {counted(len(fine), 'cluster')} without breakage"
    if report.changes:
        yield ""
        yield "<details><summary>Changes that break nothing</summary>"
        yield ""
        for change in report.changes[:_CHANGES]:
            where = "all proxies" if change.everywhere else counted(change.places, "place")
            yield f"- {where} of {counted(change.clusters, 'cluster')}: `{_code(change.what)}`"
        if len(report.changes) > _CHANGES:
            yield f"- and {len(report.changes) - _CHANGES} more"
        yield ""
        yield "</details>"
    yield ""
    yield "<details><summary>Clusters</summary>"
    yield ""
    yield "| cluster | result | istiod | proxies | problems | changes | recording |"
    yield "|---|---|---|---|---|---|---|"
    for each in report.clusters:
        yield _row(each)
    yield ""
    yield "</details>"
    yield ""
    yield (
        f"meshgate {report.meshgate_version}, {report.made:%Y-%m-%d %H:%M} UTC. "
        "Nothing was applied."
    )


def _row(each: FleetCluster) -> str:
    age = "none" if each.age_hours is None else f"{each.age_hours:g} h old"
    cells = (
        *(each.name, each.state, each.versions or "unknown", f"{each.proxies}"),
        *(f"{len(each.causes)}", f"{each.changes}", age),
    )
    return f"| {' | '.join(map(_text, cells))} |"


def _names(clusters: tuple[str, ...]) -> str:
    shown = ", ".join(map(_text, clusters[:_NAMES]))
    more = len(clusters) - _NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _text(text: str) -> str:
    """Return text on one line without markup and without mentions of users."""
    line = one_line(text, 600).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", line)
    return line.replace("@", "@\N{ZERO WIDTH SPACE}")


def _code(text: str) -> str:
    return one_line(text, 300).replace("`", "'")
