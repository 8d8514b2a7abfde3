"""A run in at most 100 columns: stages, one block for each cause, what to do first, the gate.

The terminal and the Job's log show the same lines; only a terminal colors them.
"""

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from meshgate.catalogue import OPTIONAL, STAGES, check
from meshgate.report.causes import Cause, Member, Reference
from meshgate.report.run import Run
from meshgate.report.text import COMMANDS, WIDTH, note_line
from meshgate.report.visible import one_line
from meshgate.verdict import Gate, Outcome, Verdict

OBJECTS = 12  # of one block; the reports name all
BLOCKS = 5  # of one check
STEPS = 6  # in the line that says where to start
TEXT = 800  # characters of one text

_INDENT = "    "
_OPTION = re.compile(r"(?<!\S)\(?--[a-z]")
# the stage of ambient mode has no letter
_LETTERS = dict(zip((each for each in STAGES if each not in OPTIONAL), "ABCD", strict=True))
_MARKS = {
    Verdict.FAIL: ("✗", "bad"),
    Verdict.UNKNOWN: ("?", "bad"),
    Verdict.WARN: ("!", "warn"),
    Verdict.PASS: ("✓", "good"),
    Verdict.NOT_APPLICABLE: ("-", "dim"),
}
# The headings of findings that are equal for many objects.
_COUNTED = {
    ("DP002", "wrong-version"): ("sidecar", "run {version} (expected {expected})"),
    ("IG001", "wrong-version"): ("gateway pod", "run {version} (expected {expected})"),
}

# Returns the text in one of the styles good, bad, warn, dim and bold.
Paint = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    """Return the text as it is: the style of a log."""
    return text


class Layout(NamedTuple):
    """How a run is printed.

    Attributes:
        verbose: whether passes, reasons and all objects are listed.
        paint: colors a text.
    """

    verbose: bool = False
    paint: Paint = plain

    def lines(self, run: Run) -> Iterator[str]:
        """Yield everything except the last line."""
        yield ""
        for line in _wrap(one_line(run.header), "", _INDENT):
            yield self.paint(line, "bold")
        yield from self._stages(run)
        yield from self._problems(run)
        yield from self._warnings(run)
        yield from self._not_run(run)
        for note in run.ruling.notes:
            yield from _wrap(note_line(note), "", "  ")
        yield from self._decision(run)
        yield from self._start(run)

    # --- stages ---------------------------------------------------------------------------------

    def _stages(self, run: Run) -> Iterator[str]:
        for stage, outcomes in run.stages.items():
            worst = max(each.verdict for each in outcomes)
            mark, style = _MARKS[worst]
            counts = "  ".join(f"{count} {word}" for word, count in run.counts(outcomes).items())
            closing = " ".join(
                each.check for each in outcomes if each.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
            )
            more = self.paint(textwrap.shorten(closing, 40, placeholder=" …"), "dim")
            yield f"{_name(stage):15} {self.paint(mark, style)}  {f'{counts:42} {more}'.rstrip()}"
            if self.verbose:
                yield from self._passes(outcomes)

    def _passes(self, outcomes: Iterable[Outcome]) -> Iterator[str]:
        for each in outcomes:
            if each.verdict is Verdict.PASS:
                basis = f" (based on {each.basis})" if each.basis else ""
                words = f"{each.check} {check(each.check).title}{basis}"
                yield from _wrap(words, f"  {self.paint('✓', 'good')} ", "          ", 4)

    # --- problems -------------------------------------------------------------------------------

    def _problems(self, run: Run) -> Iterator[str]:
        by_stage: defaultdict[str, list[Cause]] = defaultdict(list)
        for cause in run.causes:
            by_stage[cause.stage].append(cause)
        for stage in run.stages:
            if found := by_stage.get(stage):
                yield from self._rule(_name(stage))
                for causes in _by_check(found):
                    shown = causes if self.verbose else causes[:BLOCKS]
                    for cause in shown:
                        yield from self._block(cause)
                    if len(causes) > len(shown):
                        more = f"{len(causes) - len(shown)} more causes of {causes[0].checks[0]}"
                        yield f"{_INDENT}and {more}: see the report"

    def _rule(self, title: str) -> Iterator[str]:
        yield ""
        yield self.paint(f"{title} {'─' * (79 - len(title))}", "bold")

    def _block(self, cause: Cause) -> Iterator[str]:
        row = check(cause.checks[0])
        mark, style = _MARKS[Verdict.UNKNOWN if cause.unknown else Verdict.FAIL]
        rest = cause.checks[1:]
        label = self.paint(f"{mark} {row.id}", style)
        yield from self._head(label, row.id, heading(cause), rest)
        if cause.why:
            yield from _field("why", cause.why)
        else:
            yield from self._findings(cause.of(row.id))
            for id in rest:
                for group in _alike(cause.of(id)):
                    yield from _field(id, f"{self._subjects(group)}: {group[0].sentence}")
        yield from self._fix(cause)

    def _head(self, label: str, id: str, words: str, rest: Sequence[str]) -> Iterator[str]:
        more = f"(same cause: {', '.join(rest)})" if rest else ""
        used = 2 + len(id) + 1 + len(words)
        if more and used + 2 + len(more) <= WIDTH:
            dim = self.paint(more, "dim")
            yield f"{label} {self.paint(words, 'bold')}{' ' * max(80 - used - len(more), 2)}{dim}"
            return
        yield from _wrap(words, f"{label} ", _INDENT, 3 + len(id))
        if more:
            yield from _wrap(more, _INDENT, _INDENT)

    def _findings(self, members: Sequence[Member]) -> Iterator[str]:
        for group in _alike(members):
            yield from _wrap(self._subjects(group), _INDENT, _INDENT)
            finding = group[0].finding
            words = group[0].sentence if len(group) > 1 else f"{finding}".partition(": ")[2]
            yield from _field("seen", words)
            if self.verbose and len(group) > 1:
                for each in group:
                    if each.finding.remedy:
                        yield from _field("fix", each.finding.remedy)

    def _subjects(self, group: Sequence[Member]) -> str:
        """Return the objects of equal findings; for one object also what it is about."""
        if len(group) == 1:
            finding = group[0].finding
            about = [
                f"{name} {value}"
                for name, value in finding.about
                if value not in finding.subject and value not in finding.seen
            ]
            return one_line(", ".join((finding.subject, *about)), TEXT)
        names = list(dict.fromkeys(_short(each) for each in group))
        shown = names if self.verbose else names[:OBJECTS]
        more = f"  and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        return one_line("\0".join(shown)).replace("\\x00", "  ") + more

    def _fix(self, cause: Cause) -> Iterator[str]:
        lead = next(iter(cause.of(cause.checks[0])), None)
        yield from _field("fix", cause.remedy)
        if lead and lead.finding.remedy.startswith("see ") and lead.finding.remedy != cause.remedy:
            yield from _field("see", lead.finding.remedy.removeprefix("see "))

    # --- the rest -------------------------------------------------------------------------------

    def _warnings(self, run: Run) -> Iterator[str]:
        warned = [
            Member(each.check, finding) for each in run.ruling.outcomes for finding in each.warnings
        ]
        if not warned:
            return
        yield from self._rule("Warnings")
        groups: defaultdict[object, list[Member]] = defaultdict(list)
        for each in warned:
            finding = each.finding
            kind = finding.problem or finding.seen
            groups[(each.check, finding.suppression, kind)].append(each)
        for group in groups.values():
            finding = group[0].finding
            more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
            words = one_line(str(finding), TEXT if self.verbose else WIDTH - 12 - len(more))
            mark = self.paint(f"! {group[0].check}", "warn")
            yield from _wrap(f"{words}{more}", f"{mark} ", _INDENT, 3 + len(group[0].check))
            if self.verbose:
                for each in group[1:]:
                    yield from _wrap(one_line(str(each.finding), TEXT), _INDENT, f"{_INDENT}  ")
                yield from _field("fix", finding.remedy or check(group[0].check).hint)

    def _not_run(self, run: Run) -> Iterator[str]:
        spared = run.ruling.of(Verdict.NOT_APPLICABLE)
        if not spared:
            return
        yield ""
        if self.verbose:
            for each in spared:
                words = f"{each.check} {check(each.check).title}: {one_line(each.why, TEXT)}"
                yield from _wrap(words, f"{self.paint('-', 'dim')} ", _INDENT, 2)
            return
        # an optional check names the option that requests it
        optional = [each.check for each in spared if _OPTION.search(each.why)]
        empty = [each.check for each in spared if not _OPTION.search(each.why)]
        if optional:
            yield from _wrap(f"not requested  {' '.join(optional)}", "", _INDENT)
        if empty:
            yield from _wrap(f"nothing to check  {' '.join(empty)}", "", _INDENT)

    def _start(self, run: Run) -> Iterator[str]:
        if not run.causes:
            return
        yield ""
        first = [cause for causes in _by_check(run.causes) for cause in causes[:2]]
        titles = dict.fromkeys(cause.title for cause in run.causes if cause in first)
        steps = [one_line(title, 60) for title in titles][:STEPS]
        more = sum(one_line(cause.title, 60) not in steps for cause in run.causes)
        words = [f"{number} {step}" for number, step in enumerate(steps, 1)]
        if more:
            words.append(f"and {more} more")
        line = label = "Start with:"
        for word in words:
            if len(line) + 3 + len(word) > WIDTH:
                yield line.replace(label, self.paint(label, "bold"))
                line = " " * len(label)
            line += f"{'  ' if line.endswith(':') else '   '}{word}"
        yield line.replace(label, self.paint(label, "bold"))

    def _decision(self, run: Run) -> Iterator[str]:
        """Yield what to do, unless the last line says it: an open gate means to proceed."""
        decision = run.decision
        if decision.action == "proceed":
            return
        yield ""
        label = "Decision:"
        reasons = one_line("; ".join(decision.reasons), 4 * WIDTH)
        lines = _wrap(f"{label} {decision.action} ({reasons})", "", _INDENT)
        for number, line in enumerate(lines):
            bold = self.paint(label, "bold") if number == 0 else label
            yield line.replace(label, bold, 1)

    def last(self, line: str, gate: Gate) -> str:
        """Return the last line with the gate in color."""
        words = "GATE OPEN" if gate is Gate.OPEN else "GATE CLOSED"
        style = "good" if gate is Gate.OPEN else "bad"
        return line.replace(words, self.paint(words, style), 1)


def _by_check(found: Iterable[Cause]) -> Iterable[list[Cause]]:
    groups: defaultdict[str, list[Cause]] = defaultdict(list)
    for each in found:
        groups[each.checks[0]].append(each)
    return groups.values()


def _name(stage: str) -> str:
    return f"{_LETTERS[stage]} {stage}" if stage in _LETTERS else stage


def heading(cause: Cause) -> str:
    """Return what is wrong, counted where many objects have the same problem."""
    row = check(cause.checks[0])
    if cause.unknown:
        count = len(cause.checks)
        return (
            f"could not verify: {row.title}" if count == 1 else f"could not verify {count} checks"
        )
    groups = list(_alike(cause.of(row.id)))
    if len(groups) == 1 and len(groups[0]) > 1:
        finding, count = groups[0][0].finding, len(groups[0])
        if found := _COUNTED.get((row.id, finding.problem)):
            noun, words = found
            expected = finding.expected.partition(",")[0]
            total = re.search(rf"\b(\d+) {noun}s?\b", cause.basis)
            share = f"{count} of {total[1]}" if total else f"{count}"
            return f"{share} {noun}s {words.format(expected=expected, **dict(finding.about))}"
        return f"{row.failure or row.title} ({count} objects)"
    return row.failure or f"not true: {row.title}"


def _alike(members: Iterable[Member]) -> Iterable[list[Member]]:
    groups: defaultdict[object, list[Member]] = defaultdict(list)
    for each in members:
        groups[(each.finding.problem, each.sentence)].append(each)
    return groups.values()


def _short(member: Member) -> str:
    """Return `namespace/name` for a Deployment, else with the kind; whole subjects otherwise."""
    finding = member.finding
    each = Reference.parse(text := finding.owner or finding.subject)
    if each is None or str(each) != text:
        return text
    name = text.partition(" ")[2]
    return name if each.kind == "Deployment" else f"{name} ({each.kind})"


def _field(name: str, words: str) -> Iterator[str]:
    """Yield `name  words`, wrapped; a command to paste stays on one line."""
    head = f"{_INDENT}{name:5} "
    words = one_line(words, TEXT).rstrip(".")
    if words.startswith(COMMANDS):
        yield f"{head}{words}"
    else:
        yield from _wrap(words, head, " " * len(head))


def _wrap(words: str, head: str, indent: str, used: int | None = None) -> Iterator[str]:
    """Yield lines of at most WIDTH columns.

    Args:
        words: the text.
        head: what the first line begins with.
        indent: what further lines begin with.
        used: the columns of `head`, where it is colored.
    """
    room = " " * (len(head) if used is None else used)
    lines = textwrap.wrap(
        words,
        WIDTH,
        initial_indent=room,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for number, line in enumerate(lines):
        yield f"{head}{line[len(room) :]}" if number == 0 else line
