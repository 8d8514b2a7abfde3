"""Move the fragments in changelog.d/ into CHANGELOG.md, under the version in pyproject.toml."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TYPES = ("added", "changed", "fixed", "removed", "security")


def fragments(folder: Path) -> dict[str, list[Path]]:
    """Return the fragments by type, sorted by name; raise ValueError for a wrong file name."""
    found: dict[str, list[Path]] = {kind: [] for kind in TYPES}
    for file in sorted(folder.iterdir()):
        if file.name == "README.md":
            continue
        name, _, suffix = file.name.partition(".")
        kind = suffix.removesuffix(".md")
        if not name or suffix != f"{kind}.md" or kind not in TYPES:
            raise ValueError(f"{file.name} is not named NAME.TYPE.md (TYPE: {', '.join(TYPES)})")
        found[kind].append(file)
    return found


def section(version: str, folder: Path) -> str:
    """Return the Markdown of one release; empty when there are no fragments."""
    return "\n".join(_lines(version, fragments(folder)))


def _lines(version: str, found: dict[str, list[Path]]) -> Iterator[str]:
    if not any(found.values()):
        return
    yield f"## {version}\n"
    for kind, files in found.items():
        if files:
            yield f"### {kind.capitalize()}\n"
            for file in files:
                yield f"- {' '.join(file.read_text().split())}"
            yield ""


def release(root: Path) -> str:
    """Write the section into CHANGELOG.md, delete the fragments and return the version."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    folder, changelog = root / "changelog.d", root / "CHANGELOG.md"
    new = section(version, folder)
    if not new:
        raise ValueError("changelog.d contains no fragments")
    old = changelog.read_text()
    if f"\n## {version}\n" in old:
        raise ValueError(f"CHANGELOG.md already has {version}: raise the version first")
    head, marker, rest = old.partition("\n## ")
    changelog.write_text(f"{head}\n{new}\n{marker.lstrip()}{rest}" if marker else f"{old}\n{new}")
    for files in fragments(folder).values():
        for file in files:
            file.unlink()
    return str(version)


if __name__ == "__main__":
    try:
        print(f"CHANGELOG.md now has {release(ROOT)}")
    except ValueError as error:
        sys.exit(str(error))
