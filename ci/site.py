"""Add pages to the site: the list of checks, and Markdown files that are outside docs/."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from meshgate.catalogue import STAGES, checks

ROOT = Path(__file__).parents[1]
# files outside docs/, and their names in the site
PAGES = {
    "README.md": "index.md",
    "hooks/README.md": "hooks.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/checks/README.md": "example-checks.md",
}
LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files with the generated pages; mkdocs calls this."""
    for source, name in PAGES.items():
        text = linked((ROOT / source).read_text(), source)
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "checks.md", content="\n".join(catalogue())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a check's page with its catalogue row and its neighbors; mkdocs calls this.

    In other pages, links to files outside docs/ become links within the site.
    """
    name = page.file.src_uri
    row = checks().get(Path(name).stem)
    if row is None:
        outside = "/" not in name and (ROOT / "docs" / name).is_file() and "](../" in markdown
        return linked(markdown, f"docs/{name}") if outside else markdown
    title, _, body = markdown.partition("\n")
    facts = {
        "Stage": row.stage,
        "Reads": ", ".join(row.reads).replace("_", " "),
        "In short": row.hint.replace("|", r"\|"),
        "In the baseline": "a warning" if row.baseline else "a failure all the same",
    }
    table = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join([title, "", "| | |", "|---|---|", *table, body, *neighbors(row.id)])


def neighbors(check: str) -> Iterator[str]:
    """Yield links to the previous and the next check, in the catalogue's order."""
    ids = list(checks())
    place = ids.index(check)
    links = [f"← [{each}]({each}.md)" for each in ids[max(place - 1, 0) : place]]
    links += [f"[{each}]({each}.md) →" for each in ids[place + 1 : place + 2]]
    yield f"\n---\n{' · '.join(links)}"


def catalogue() -> Iterator[str]:
    """Yield the lines of the list of checks, by stage."""
    yield "# Checks\n"
    for stage in STAGES:
        yield from (f"\n## {stage}\n", "| check | title |", "|---|---|")
        for row in checks().values():
            if row.stage == stage:
                yield f"| [{row.id}](checks/{row.id}.md) | {row.title} |"


def linked(text: str, source: str) -> str:
    """Return the text with links that are valid in the site.

    A link to a file that is not part of the site becomes plain text. Raise ValueError for a link to
    a file that does not exist.
    """

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["target"]))
        if not (ROOT / path).exists():
            raise ValueError(f"{source} links to {found['target']}, which does not exist")
        within = PAGES.get(path) or path.removeprefix("docs/")
        if not within.endswith(".md") or (path == within and path not in PAGES.values()):
            return found["words"]
        return f"[{found['words']}]({within}{found['anchor'] or ''})"

    return LINK.sub(moved, text)
