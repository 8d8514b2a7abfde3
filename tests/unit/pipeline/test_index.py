"""One page over many reports: what is open, what is closed, and what is silent."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import msgspec
import pytest

from meshgate.pipeline.index import index
from meshgate.report.json import report, write
from meshgate.report.run import Run as Result
from meshgate.verdict import Finding, Outcome, Verdict, ruling
from tests.conftest import Gate, Run
from tests.support.builders import expecting, snapshot

STAGE = {"CP001": "controlplane"}
OPEN = Outcome("CP001", Verdict.PASS)
CLOSED = Outcome("CP001", Verdict.FAIL, findings=(Finding("Pod a/b", "is red"),))
EVIL = "<script>alert(1)</script>"

Meshgate = Callable[..., Run]


@pytest.fixture
def meshgate(started: Gate, tmp_path: Path) -> Meshgate:
    """Runs the program."""

    def run(*arguments: object, **environment: str) -> Run:
        program = "from meshgate.cli import app; app(prog_name='meshgate')"
        return started("-c", program, *arguments, cwd=tmp_path, **environment)

    return run


def keep(folder: Path, outcome: Outcome = OPEN, day: int = 2) -> None:
    """What a run of that day leaves there."""
    seen = snapshot(**expecting(target_version="1.29.1"))
    seen = msgspec.structs.replace(seen, taken=seen.taken.replace(day=day))
    write(report(Result(ruling((outcome,), STAGE), seen)), folder / "verdict.json")
    (folder / "index.html").write_text("a report")


def test_the_page_shows_the_latest_run_of_each_gate(meshgate: Meshgate, tmp_path: Path) -> None:
    keep(tmp_path / "all/eu/control-plane/b", OPEN, day=2)
    keep(tmp_path / "all/eu/control-plane/a", CLOSED, day=3)
    keep(tmp_path / "all/us/control-plane/a", OPEN)

    run = meshgate("index", "all")

    assert run.code == 1, run.out
    assert [line.split(":")[0] for line in run.lines[:2]] == [
        "closed eu/control-plane",
        "open   us/control-plane",
    ]
    page = (tmp_path / "all/index.html").read_text()
    assert "1 of 2 gates are open" in page
    assert '<td class="state closed">closed</td>' in page
    assert "<b>CP001</b>" in page
    assert "1.29.1" in page
    assert 'href="eu/control-plane/a/index.html"' in page
    assert 'href="eu/control-plane/b/index.html"' in page


def test_it_succeeds_if_all_gates_are_open(meshgate: Meshgate, tmp_path: Path) -> None:
    keep(tmp_path / "all/eu/control-plane/a")

    assert meshgate("index", "all").code == 0
    # its own page is no run, nor is it in the way the next time
    assert meshgate("index", "all").code == 0


@pytest.mark.parametrize("what", ["none", "damaged", "of another kind"])
def test_a_run_without_a_verdict_is_not_open(meshgate: Meshgate, tmp_path: Path, what: str) -> None:
    keep(tmp_path / "all/eu/control-plane/a")
    verdict = tmp_path / "all/eu/control-plane/a/verdict.json"
    verdict.unlink()
    if what != "none":
        verdict.write_text({"damaged": '{"gate": "op', "of another kind": '{"gate": "ajar"}'}[what])

    run = meshgate("index", "all")

    assert run.code == 10, run.out
    assert "silent eu/control-plane: " in run.out
    assert "no verdict" in (tmp_path / "all/index.html").read_text()


def ended_early(folder: Path) -> None:
    """What a run leaves there that captured nothing."""
    document = report(Result(ruling((), STAGE)), exit=4, sentence="GATE CLOSED: no cluster")
    write(document, folder / "verdict.json")


@pytest.mark.parametrize(
    ("early", "whole", "code"),
    [
        ("20260103-120000", "20260102-120000", 1),
        ("20260101-120000", "20260102-120000", 0),
        ("job-1", "job-2", 1),
    ],
    ids=["later", "earlier", "at an unknown time"],
)
def test_a_run_that_captured_nothing_is_not_older_than_all_others(
    meshgate: Meshgate, tmp_path: Path, early: str, whole: str, code: int
) -> None:
    keep(tmp_path / f"all/eu/control-plane/{whole}")
    ended_early(tmp_path / f"all/eu/control-plane/{early}")

    run = meshgate("index", "all")

    assert run.code == code, run.out


def test_a_folder_without_reports_is_an_error(meshgate: Meshgate, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()

    run = meshgate("index", "all")

    assert run.code == 4, run.out
    assert "no reports below all" in run.out
    assert not (tmp_path / "all/index.html").exists()


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    keep(tmp_path / f"all/{EVIL.replace('/', '-')}/run")

    index(str(tmp_path / "all"), last=3)

    assert "<script" not in (tmp_path / "all/index.html").read_text()


def test_it_is_kept_where_fsspec_keeps_it(tmp_path: Path) -> None:
    keep(tmp_path / "a")
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "a/verdict.json"), "/fleet/eu/control-plane/1/verdict.json")

    found, page = index("memory://fleet", last=3)

    assert [each.place for each in found] == ["eu/control-plane"]
    assert page == "memory:///fleet/index.html"
    assert b"eu/control-plane" in files.cat_file("/fleet/index.html")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("meshgate expl", "explain"), ("meshgate explain CP01", "CP010"), ("meshgate in", "index")],
)
def test_the_shell_completes_commands_and_checks(
    meshgate: Meshgate, words: str, expected: str
) -> None:
    position = str(len(words.split()) - 1)
    asked = {"COMP_WORDS": words, "COMP_CWORD": position}

    run = meshgate(_MESHGATE_COMPLETE="complete_bash", **asked)

    assert expected in run.lines
