"""The site: it is built without a network, leads nowhere that is not there, and has every check."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meshgate.catalogue import checks
from tests.conftest import ROOT

SOURCES = (
    *("docs", "examples", "ci/site.py", "hooks/README.md", "mkdocs.yml"),
    *[f"{name}.md" for name in ("README", "ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")],
)


def built(project: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    """What `make docs` does, elsewhere."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", f"--site-dir={site}"],
        cwd=project,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site."""
    folder = tmp_path_factory.mktemp("site")
    done = built(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_check_has_its_page_with_what_the_catalogue_says(site: Path) -> None:
    listed = (site / "checks.html").read_text()

    for row in checks().values():
        assert f'href="checks/{row.id}.html"' in listed
        page = (site / f"checks/{row.id}.html").read_text()
        assert f"<td>{row.stage}</td>" in page
        assert row.reads[0].replace("_", " ") in page


def test_no_page_asks_anything_of_the_network(site: Path) -> None:
    asked = re.compile(
        r'<(?:script|img|iframe)\b[^>]*\bsrc="?(?:https?:)?//|<link\b[^>]*"(?:https?:)?//'
    )

    pages = list(site.rglob("*.html"))

    assert len(pages) > len(checks())
    assert [str(page) for page in pages if asked.search(page.read_text())] == []


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("docs/security.md", "[gone](gone.md)"),
        ("docs/adopt.md", "[gone](security.md#gone)"),
        ("README.md", "[gone](docs/gone.md)"),
    ],
)
def test_a_link_that_leads_nowhere_ends_it(tmp_path: Path, page: str, link: str) -> None:
    project = tmp_path / "project"
    for source in SOURCES:
        (project / source).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, project / source)
    for source in ("README.md", "CHANGELOG.md"):
        for named in re.findall(r"\]\(([^)#:\s]+)\)", (ROOT / source).read_text()):
            (project / named).parent.mkdir(parents=True, exist_ok=True)
            (project / named).touch()
    with (project / page).open("a") as file:
        file.write(f"\n{link}\n")

    assert built(project, tmp_path / "site").returncode != 0
