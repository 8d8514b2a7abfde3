"""The files around the code: decisions, changelog, workflows, spelling."""

import importlib.util
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.conftest import ROOT

DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
STATUS = re.compile(r"- Status: (?:proposed|accepted|superseded by \d{4})")


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_a_decision_has_a_number_a_status_and_a_date(file: Path) -> None:
    title, empty, status, when, *_ = file.read_text().splitlines()

    assert title.startswith(f"# {int(file.name[:4])}. ")
    assert empty == ""
    assert STATUS.fullmatch(status)
    assert date.fromisoformat(when.removeprefix("- Date: "))


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(file.name[:4]) for file in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_an_action_is_pinned_by_digest_and_says_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text())

    assert used
    pinned = re.compile(r"[\w./-]+@[0-9a-f]{40} # v?\d+\.\d+\.\d+")
    assert [each for each in used if not pinned.fullmatch(each)] == []


def test_every_supported_python_is_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yaml").read_text())["jobs"]

    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_an_issue_form_has_what_the_forge_requires(form: Path) -> None:
    content = yaml.safe_load(form.read_text())

    assert {"name", "description", "body"} <= set(content)
    fields = [each for each in content["body"] if each["type"] != "markdown"]
    assert len({each.get("id") or each["attributes"]["label"] for each in fields}) == len(fields)
    assert all(each["attributes"]["label"] for each in fields)


def test_owners_are_of_files_that_exist() -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line and not line.startswith("#")]

    assert [each for each in paths if each != "*" and not (ROOT / each.lstrip("/")).exists()] == []


def test_spelling() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


# --- the changelog ------------------------------------------------------------------------------


@pytest.fixture
def changelog() -> ModuleType:
    """Return the program that collects the fragments."""
    spec = importlib.util.spec_from_file_location("changelog", ROOT / "ci/changelog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_fragment_is_named_and_written_as_a_sentence(changelog: ModuleType) -> None:
    found = changelog.fragments(ROOT / "changelog.d")

    texts = {file.name: file.read_text().strip() for files in found.values() for file in files}
    wrong = [name for name, text in texts.items() if not re.match(r"[A-Z`].+[.)`]$", text, re.S)]
    assert wrong == []


def test_a_release_moves_the_fragments_into_the_changelog(
    changelog: ModuleType, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.0.9\n\n- Old.\n")
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    (folder / "README.md").write_text("How.")
    (folder / "one.added.md").write_text("One\nline.\n")
    (folder / "two.fixed.md").write_text("Two.\n")

    version = changelog.release(tmp_path)

    assert (tmp_path / "CHANGELOG.md").read_text() == (
        f"# Changelog\n\n## {version}\n\n### Added\n\n- One line.\n\n### Fixed\n\n- Two.\n\n"
        "## 0.0.9\n\n- Old.\n"
    )
    assert [file.name for file in folder.iterdir()] == ["README.md"]


@pytest.mark.parametrize("name", ["one.md", "one.new.md", ".added.md", "one.added.txt"])
def test_a_fragment_with_another_name_is_an_error(
    changelog: ModuleType, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("One.")

    with pytest.raises(ValueError, match="is not named"):
        changelog.fragments(tmp_path)
