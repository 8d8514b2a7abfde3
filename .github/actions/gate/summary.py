"""Print a verdict.json as Markdown, for the summary of a job. Needs only the standard library."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIMIT = 50  # findings


def lines(verdict: dict[str, Any]) -> Iterator[str]:
    """Yield the verdict, and each check that failed or is unknown with its findings."""
    mark = "✅" if verdict["gate"] == "open" else "⛔"
    yield f"### {mark} {cell(verdict['sentence'])}"
    yield ""
    rows = [row for row in verdict["checks"] if row["verdict"] in ("fail", "could not verify")]
    found = [
        (row["id"], each["subject"], each["seen"], each["remedy"])
        for row in rows
        for each in row["findings"]
    ]
    found += [(row["id"], "could not verify", row["why"], "") for row in rows if row["why"]]
    if found:
        yield "| check | object | problem | fix |"
        yield "|---|---|---|---|"
    for row in found[:LIMIT]:
        yield f"| {' | '.join(map(cell, row))} |"
    if len(found) > LIMIT:
        yield ""
        yield f"{len(found) - LIMIT} more findings are in the report."


def cell(text: str) -> str:
    """Return text that cannot end a cell or start a tag."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")


def main(file: Path) -> None:
    """Print the summary; a missing file is a closed gate."""
    if not file.exists():
        print("### ⛔ GATE CLOSED: meshgate wrote no verdict; see the step's log")
        return
    for line in lines(json.loads(file.read_text())):
        print(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
