"""Temporary folders: none stays, not even of a process that was killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshgate.collect.temporary import temporary_folder

HOLDER = """
import sys
from pathlib import Path
from meshgate.collect.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "kubeconfig").write_text("a key")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    """Another process that holds a folder, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kubeconfigs(folder: Path) -> list[Path]:
    return list(folder.glob("**/kubeconfig"))


def test_nothing_stays(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("content")

    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with holder:
        holder.send_signal(signal.SIGKILL)
    assert len(kubeconfigs(tmp_path)) == 1

    with temporary_folder(tmp_path):
        assert kubeconfigs(tmp_path) == []


def test_the_folder_of_a_running_process_stays(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with holder:
        with temporary_folder(tmp_path):
            pass
        assert len(kubeconfigs(tmp_path)) == 1

    assert list(tmp_path.iterdir()) == []


def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    kept = tmp_path / "meshgate-reports"
    kept.mkdir()
    (kept / "verdict.json").write_text("{}")

    with temporary_folder(tmp_path):
        pass

    assert (kept / "verdict.json").exists()
