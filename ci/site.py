"""What the site has beside docs/: pages made of the catalogue, and Markdown from elsewhere."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from meshgate.catalogue import STAGES, checks

ROOT = Path(__file__).parents[1]
# what is written elsewhere, and what it is called in the site
PAGES = {
    "README.md": "index.md",
    "hooks/README.md": "hooks.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them; mkdocs calls this."""
    for source, name in PAGES.items():
        text = linked((ROOT / source).read_text(), source)
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "checks.md", content="\n".join(catalogue())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts what the catalogue knows of a check on top of its page; mkdocs calls this."""
    row = checks().get(Path(page.file.src_uri).stem)
    if row is None:
        return markdown
    title, _, body = markdown.partition("\n")
    facts = {
        "Stage": row.stage,
        "Reads": ", ".join(row.reads).replace("_", " "),
        "In short": row.hint.replace("|", r"\|"),
        "Wrong before the upgrade": "only warns" if row.baseline else "fails all the same",
    }
    table = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join([title, "", "| | |", "|---|---|", *table, body])


def catalogue() -> Iterator[str]:
    """Every check, stage by stage."""
    yield "# Checks\n"
    for stage in STAGES:
        yield from (f"\n## {stage}\n", "| check | what it claims |", "|---|---|")
        for row in checks().values():
            if row.stage == stage:
                yield f"| [{row.id}](checks/{row.id}.md) | {row.title} |"


def linked(text: str, source: str) -> str:
    """The text, with links that hold in the site; what is not in it is named without a link."""

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["target"]))
        if not (ROOT / path).exists():
            raise ValueError(f"{source} leads to {found['target']}, which is not there")
        within = PAGES.get(path) or path.removeprefix("docs/")
        if not within.endswith(".md") or (path == within and path not in PAGES.values()):
            return found["words"]
        return f"[{found['words']}]({within}{found['anchor'] or ''})"

    return LINK.sub(moved, text)
