"""The same bytes give the same verdict with another Python."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Gate
from tests.unit.pipeline.test_signing import Keys, pair

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def interpreters() -> Iterator[Path]:
    """Yield the Pythons of this machine: those of the PATH, and those of pyenv."""
    for version in VERSIONS:
        if found := shutil.which(f"python{version}"):
            yield Path(found)
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(root.glob("versions/*/bin/python3"), reverse=True)


def version(python: Path) -> str:
    """Return the minor version of an interpreter; empty if it cannot be started."""
    words = ("-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    done = subprocess.run([python, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of another minor version, with meshgate's wheel and the pinned packages."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    usable = (each for each in interpreters() if version(each) in {*VERSIONS} - {here})
    python = next(usable, None)
    if python is None:
        pytest.skip(f"no other Python than {here} is installed ({', '.join(VERSIONS)})")
    folder = tmp_path_factory.mktemp("other")
    installed = folder / "venv/bin/python"
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d")
    subprocess.run([sys.executable, *build, folder], cwd=ROOT, check=True)
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    pip = (installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pins = ROOT / "requirements/run.txt"
    subprocess.run([*pip, "--require-hashes", "--requirement", pins], check=True)
    subprocess.run([*pip, "--no-deps", *folder.glob("*.whl")], check=True)
    return installed


@pytest.mark.parametrize(("demo", "code"), [("healthy", 0), ("broken", 1)])
def test_a_signed_verdict_is_proved_by_another_python(
    started: Gate, other: Path, tmp_path: Path, demo: str, code: int
) -> None:
    keys: Keys = pair(tmp_path / "keys")
    snapshot, verdict = ROOT / f"demo/{demo}.json.gz", tmp_path / "verdict.json"
    signed = tmp_path / "signed.json"
    meshgate = ("-m", "meshgate")
    run = started(*meshgate, "replay", snapshot, f"--json={verdict}", cwd=ROOT)
    assert run.code == code, run.out
    attested = started(
        *(*meshgate, "attest", verdict, f"--snapshot={snapshot}"),
        *(f"--key={keys.private}", f"--output={signed}"),
        cwd=ROOT,
    )
    assert attested.code == 0, attested.out

    def prove(snapshot: Path) -> "subprocess.CompletedProcess[str]":
        words = (*meshgate, "replay", str(snapshot), f"--verify={signed}", f"--key={keys.public}")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
        return subprocess.run(
            [other, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    proved = prove(snapshot)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "the same verdict" in proved.stdout + proved.stderr
    another = "broken" if demo == "healthy" else "healthy"
    assert prove(ROOT / f"demo/{another}.json.gz").returncode == 4
