"""The verdict of a run as lines, from verdict.json: what a test asserts, however it is printed."""

from collections.abc import Iterator
from pathlib import Path

from meshgate.report.json import Report, ReportedCheck, ReportedFinding, read


def verdict_lines(file: Path) -> list[str]:
    """Return `FAIL CP004 OBJECT: what is wrong (expected …) fix: …` for each finding, and so on."""
    return [line for each in _ordered(read(file)) for line in _lines(each)] if file.exists() else []


def _ordered(report: Report) -> list[ReportedCheck]:
    order = ("pass", "not applicable", "warn", "fail", "could not verify")
    return sorted(report.checks, key=lambda each: order.index(each.verdict))


def _lines(check: ReportedCheck) -> Iterator[str]:
    if check.verdict == "pass":
        yield f"pass {check.id} {check.title}" + (
            f" (based on {check.basis})" if check.basis else ""
        )
    if check.verdict == "not applicable":
        yield f"n/a  {check.id} {check.title}: {check.why}"
    for each in check.warnings:
        yield f"WARN {check.id} {_finding(each)}"
    for each in check.findings:
        yield f"FAIL {check.id} {_finding(each)}"
    if check.verdict == "fail" and not check.findings:
        yield f"FAIL {check.id} {check.why}"
    if check.verdict == "could not verify":
        why = f"could not verify: {check.why} fix: {check.remedy}"
        yield f"UNKNOWN {check.id} {check.title}: {why}"


def _finding(each: ReportedFinding) -> str:
    expected = f" (expected {each.expected.strip().rstrip('.')})" if each.expected else ""
    suppression = f"[{each.suppression}] " if each.suppression else ""
    words = f"{each.subject}: {suppression}{each.seen.strip().rstrip('.')}{expected}"
    return " ".join(f"{words} fix: {each.remedy.rstrip('.')}".split())


def unwrapped(text: str) -> list[str]:
    """Return the lines of an output with each fix and each continuation on its finding's line."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and line.startswith("    ") and line.strip():
            lines[-1] += f" {line.strip()}"
        elif line.strip():
            lines.append(line)
    return lines
