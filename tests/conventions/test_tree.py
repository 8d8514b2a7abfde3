"""The tree: nothing of the machine that it was written on, and packages that are pinned."""

import gzip
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import ROOT

# where a checkout, its author and its packages may be on the machine that it was written on
MACHINE = re.compile(r"(?<![\w.-])/(?:work|root|opt/wheels)/[\w.]")
# /wheels is a folder of the image's own, while it is built
INDEX = re.compile(
    r"(?<!no-emit-)(?:index-url|find-links|trusted-host)[ =:]\s*(?!/wheels\b)\S", re.IGNORECASE
)
MADE_HERE = {
    *(".git", ".venv", "__pycache__", "reports"),
    *(".mypy_cache", ".ruff_cache", ".import_linter_cache"),
}
PUBLIC = {"pypi.org", "proxy.golang.org", "registry.npmjs.org", "sum.golang.org"}

PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; .*?)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def files() -> list[Path]:
    """What is in the repository, or would be with the next commit."""
    ask = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(
            [*ask, "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (FileNotFoundError, subprocess.CalledProcessError):
        # no checkout but an unpacked archive: everything but what is made here
        return [
            path
            for path in ROOT.rglob("*")
            if path.is_file() and not MADE_HERE.intersection(path.relative_to(ROOT).parts)
        ]
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


FILES = files()


def text(file: Path) -> str:
    """What a file says, unpacked."""
    content = file.read_bytes()
    return (gzip.decompress(content) if file.suffix == ".gz" else content).decode(errors="replace")


def private_hosts() -> set[str]:
    """The hosts from which this machine has its packages, unless they are everybody's."""
    settings = [
        value
        for name, value in os.environ.items()
        if re.search(r"INDEX|GOPROXY|REGISTRY|FIND_LINKS", name)
    ]
    for file in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"):
        if file.is_file():
            settings.append(file.read_text())
    addresses = re.findall(r"https?://[^\s,|]+", "\n".join(settings))
    return {host for each in addresses if (host := urlsplit(each).hostname)} - PUBLIC


def test_the_repository_is_seen() -> None:
    assert ROOT / "README.md" in FILES
    assert len(FILES) > 50


@pytest.mark.parametrize("pattern", [MACHINE, INDEX], ids=["paths", "package indexes"])
def test_no_file_speaks_of_one_machine(pattern: re.Pattern[str]) -> None:
    found = [
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in FILES
        if file != Path(__file__)
        for match in pattern.finditer(text(file))
    ]

    assert found == []


def test_no_file_names_a_private_registry() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {host}"
        for host in sorted(private_hosts())
        for file in FILES
        if host in text(file)
    ]

    assert found == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name
)
def test_every_package_is_pinned_by_version_and_hash(file: Path) -> None:
    assert pins(file)
    hashed = 0
    for line in [*file.read_text().splitlines(), "the==end \\"]:
        if PIN.fullmatch(line):
            assert hashed or line.startswith(next(iter(pins(file)))), f"no hash before {line}"
            hashed = 0
        else:
            assert HASH.fullmatch(line), line
            hashed += 1


def pins(file: Path) -> dict[str, str]:
    """Versions by package."""
    found = (PIN.fullmatch(line) for line in file.read_text().splitlines())
    return {match["name"]: match["version"] for match in found if match}


def test_what_developers_run_is_what_users_run() -> None:
    run, dev = (pins(ROOT / f"requirements/{name}.txt") for name in ("run", "dev"))

    assert run.items() <= dev.items()
