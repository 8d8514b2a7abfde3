"""Which checks run: --check, --skip and custom checks, in real runs of pytest."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from meshgate.catalogue import checks
from meshgate.report.json import read
from meshgate.snapshot.model import KnownProblem, Snapshot
from meshgate.snapshot.store import load, save
from tests.conftest import ROOT, Estate, Gate, Run
from tests.support import fakes
from tests.support.builders import istiod, sidecar, snapshot

HEALTHY = ROOT / "demo/healthy.json.gz"
EXAMPLE = ROOT / "examples/checks"

Replay = Callable[..., Run]
Pack = Callable[..., Path]

ROW = """
[PAY-001]
title = "every namespace is known"
failure = "a namespace is unknown"
reads = ["namespaces"]
hint = "delete it"
"""
TEST = """
import pytest
from meshgate.api import *

@pytest.mark.check("PAY-001")
def test_namespaces(mesh):
    assert mesh.evidence.namespaces
"""


@pytest.fixture
def replay(gate: Gate) -> Replay:
    """Runs the gate on the healthy demo."""
    return lambda *arguments, **more: gate(f"--snapshot={HEALTHY}", *arguments, **more)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes a directory of custom checks."""

    def write(name: str = "pack", /, **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for stem, text in files.items():
            suffix = "py" if stem.startswith(("verify", "check", "helper")) else "toml"
            (folder / f"{stem}.{suffix}").write_text(dedent(text))
        return folder

    return write


def ran(run: Run) -> list[str]:
    """Return the checks in verdict.json."""
    return [row.id for row in read(run.folder / "reports/verdict.json").checks]


# --- --check and --skip -------------------------------------------------------------------------


def test_only_the_named_checks_run(replay: Replay) -> None:
    run = replay("--check=cp004,DP00[12]", "--check=IG001")

    assert run.code == 0, run.out
    assert ran(run) == ["CP004", "IG001", "DP001", "DP002"]


def test_skipped_checks_do_not_run(replay: Replay) -> None:
    run = replay("-m", "controlplane", "--skip=CP0*", "--skip=CP00?", "--check=CP*,DP*")

    assert run.code == 4, run.out
    assert "--check and --skip select no check" in run.out
    assert ran(replay("--check=CP00*", "--skip=CP00[1-8]", "--check=CP001")) == ["CP009"]


def test_a_partial_selection_is_listed(replay: Replay) -> None:
    partial = replay("--check=DP*,RA*,PC001")

    (note,) = [line for line in partial.lines if line.startswith("note partial selection")]
    total = sum(row.stage == "precheck" for row in checks().values())
    words = f"partial selection: 1 of {total} checks of precheck (not selected: PC002, PC003, "
    assert note.startswith(f"note {words}")
    notes = read(partial.folder / "reports/verdict.json").notes
    assert [each for each in notes if each.startswith(words)]
    assert "partial selection" not in replay("-m", "dataplane or ingress").out


@pytest.mark.parametrize("option", ["--check=CP999", "--check=CP001,", "--skip=XX*"])
def test_an_id_that_matches_nothing_is_wrong_usage(replay: Replay, option: str) -> None:
    run = replay(option)

    assert run.code == 4, run.out
    assert "no check has an id like" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"


# --- custom checks ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_custom_checks_run_beside_the_built_in_ones(
    replay: Replay, workers: tuple[str, ...]
) -> None:
    run = replay(f"--checks={EXAMPLE}", "-m", "ingress or precheck", *workers)

    assert run.code == 0, run.out
    assert ran(run)[-1] == "ACME-002"
    assert ran(run)[ran(run).index("IG001") - 1] == "ACME-001"
    assert run.junit["test_public_hosts_are_ours"]["stage"] == "ingress"


def foreign(recorded: Callable[[Snapshot], Path]) -> Path:
    """Return a recording with a host outside the company's domains."""
    healthy = load(HEALTHY)
    shop = msgspec.structs.replace(
        healthy.virtual_services[0],
        spec=msgspec.structs.replace(healthy.virtual_services[0].spec, hosts=("shop.example.org",)),
    )
    return recorded(msgspec.structs.replace(healthy, virtual_services=(shop,)))


def test_a_custom_check_fails_like_a_built_in_one(
    gate: Gate, recorded: Callable[[Snapshot], Path], tmp_path: Path
) -> None:
    custom = (f"--snapshot={foreign(recorded)}", f"--checks={EXAMPLE}", "--check=ACME-002")

    run = gate(*custom)

    assert run.code == 1, run.out
    assert any(
        "ACME-002 VirtualService shop/limited: serves shop.example.org" in line
        for line in run.verdict
    ), run.out
    waivers = tmp_path / "waivers.toml"
    waivers.write_text(
        '[[waiver]]\ncheck = "ACME-002"\nsubject = "VirtualService shop/*"\n'
        'reason = "a partner"\nuntil = 2999-01-01\n'
    )
    waived = gate(*custom, f"--waivers={waivers}")
    assert waived.code == 0, waived.out
    assert "  1 warning" in waived.last


def test_a_crash_names_the_file_and_the_line(replay: Replay, pack: Pack) -> None:
    folder = pack(precheck=ROW, verify_pay=TEST.replace("assert mesh", "assert 1 / 0, mesh"))

    run = replay(f"--checks={folder}", "--check=PAY-001")

    assert run.code == 10, run.out
    (line,) = run.of("PAY-001")
    assert f"{folder}/verify_pay.py:7: the check crashed: ZeroDivisionError" in line
    assert "fix: correct the check PAY-001" in line


MISUSED = {
    "a returned value": ("return False", "returned a value of type bool"),
    "a returned list": ("return [Finding('Pod a/b', 'is red')]", "returned a value of type list"),
    "a text as a warning": ("warn(['is red'])", "Expected `object`, got `str`"),
    "a text as a finding": ("assert False, listed(['is red'])", "Expected `object`, got `str`"),
    "a number as a port": (
        "assert False, listed([Finding('Pod a/b', 'is red', about=(('port', 80),))])",
        "Expected `str`, got `int`",
    ),
    "a number as a reason": ("raise CouldNotVerify(5)", "Expected `str`, got `int`"),
    "an exception without words": ("raise Mute", "the check crashed"),
}
MUTE = """
class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")
"""


@pytest.mark.parametrize(("body", "why"), MISUSED.values(), ids=MISUSED)
def test_a_misused_interface_is_unknown_and_ends_nothing_else(
    replay: Replay, pack: Pack, body: str, why: str
) -> None:
    test = TEST.replace("(mesh)", "(mesh, warn)").replace("assert mesh.evidence.namespaces", body)
    folder = pack(controlplane=ROW, verify_pay=f"{test}{MUTE}")

    run = replay(f"--checks={folder}", "--check=PAY-001,CP001")

    assert run.code == 10, run.out
    assert "could not verify" in run.of("PAY-001")[0]
    assert why in run.of("PAY-001")[0]
    assert run.of("CP001")[0].startswith("pass")


def test_an_assertion_that_is_always_true_opens_no_gate(replay: Replay, pack: Pack) -> None:
    always = TEST.replace("assert mesh.evidence.namespaces", "assert (False, 'is red')")
    folder = pack(controlplane=ROW, verify_pay=always)

    run = replay(f"--checks={folder}", "--check=PAY-001,CP001")

    assert run.code == 4, run.out
    assert "assertion is always true" in run.out


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("self.fail('red')", 1),
        ("self.assertTrue(0)", 1),
        ("self.skipTest('later')", 10),
        ("raise KeyError('red')", 10),
    ],
)
@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["one process", "workers"])
def test_a_unittest_case_fails_like_a_function(
    replay: Replay, pack: Pack, body: str, code: int, options: tuple[str, ...]
) -> None:
    test = (
        "import unittest, pytest\n\nclass TestPay(unittest.TestCase):\n"
        f'    @pytest.mark.check("PAY-001")\n    def test_pay(self):\n        {body}\n'
    )
    folder = pack(controlplane=ROW, verify_pay=test)

    run = replay(f"--checks={folder}", "--check=PAY-001", *options)

    assert run.code == code, run.out
    assert run.junit["test_pay"]["verdict"] == {0: "pass", 1: "fail"}.get(code, "could not verify")


def test_a_recording_with_problems_of_custom_checks_is_replayed_without_them(
    gate: Gate, tmp_path: Path
) -> None:
    known = KnownProblem(check="PAY-001", subject="Pod a/b", problem="red")
    recording = load(ROOT / "demo/broken.json.gz")
    expectations = msgspec.structs.replace(recording.expectations, known_problems=(known,))
    file = tmp_path / "recorded.json.gz"
    save(msgspec.structs.replace(recording, expectations=expectations), file)

    run = gate(f"--snapshot={file}")

    assert run.code == 1, run.out


def test_a_custom_check_that_changes_what_it_receives_does_not_change_its_result(
    gate: Gate, estate: Callable[[Snapshot], Estate], pack: Pack
) -> None:
    emptied = """
    found = mesh.control_plane.replicas
    names = [pod.metadata.name for pod in found]
    found.clear()
    assert not names, str(names)
"""
    folder = pack(
        precheck=ROW.replace("namespaces", "pods"),
        verify_pay=TEST.replace("    assert mesh.evidence.namespaces\n", emptied.lstrip("\n")),
    )
    there = estate(snapshot(pods=(istiod(ip=fakes.address()), sidecar())))

    run = gate(*there.options, "--settle=0", f"--checks={folder}", "--check=PAY-001")

    assert run.code == 1, run.out
    assert "istiod-1" in run.of("PAY-001")[0]


def test_files_beside_the_checks_can_be_imported(replay: Replay, pack: Pack) -> None:
    folder = pack(
        precheck=ROW, verify_pay=TEST + "from helper_pay import FOUR\n", helper_pay="FOUR = 4\n"
    )

    assert replay(f"--checks={folder}", "--check=PAY-001").code == 0


def test_a_mounted_config_map_is_collected_once(replay: Replay, pack: Pack) -> None:
    folder = pack(precheck=ROW, verify_pay=TEST)
    data = folder / "..2026_11_28"
    data.mkdir()
    for file in [each for each in folder.iterdir() if each.is_file()]:
        file.rename(data / file.name)
        file.symlink_to(Path("..data") / file.name)
    (folder / "..data").symlink_to(data.name)

    run = replay(f"--checks={folder}", "--check=PAY-001")

    assert run.code == 0, run.out
    assert run.last.startswith("GATE OPEN  1 passed   (exit 0)")


SECOND = TEST + '\n@pytest.mark.check("PAY-001")\ndef test_again(mesh):\n    pass\n'

WRONG = {
    "a row without a prefix": ({"precheck": ROW.replace("PAY-001", "PC001")}, "PC001 has no team"),
    "no rows": ({"verify_pay": TEST}, "has no catalogue rows"),
    "another stage": ({"other": ROW}, "other.toml: name it precheck.toml"),
    "not TOML": ({"precheck": "[PAY-001"}, "precheck.toml: "),
    "an unknown field": ({"precheck": ROW + "color = 1"}, "precheck.toml: PAY-001: "),
    "an unknown item": ({"precheck": ROW.replace("namespaces", "names")}, "unknown item: names"),
    "no failure": ({"precheck": ROW.replace("failure", "#")}, "needs title, failure"),
    "a row without a test": ({"precheck": ROW}, "precheck.toml: PAY-001 has no test"),
    "a test without a row": (
        {"precheck": ROW, "verify_pay": TEST + "\ndef test_more(mesh):\n    pass\n"},
        "verify_pay.py::test_more names no catalogue row",
    ),
    "a test of an unknown row": (
        {"precheck": ROW, "verify_pay": TEST.replace("PAY-001", "PAY-002")},
        "no check PAY-002",
    ),
    "a test of a built-in row": (
        {"precheck": ROW, "verify_pay": TEST.replace("PAY-001", "CP001")},
        "CP001 is a built-in check",
    ),
    "two tests of one row": ({"precheck": ROW, "verify_pay": SECOND}, "PAY-001 has two tests"),
    "the marker of another stage": (
        {"precheck": ROW, "verify_pay": TEST + "\npytestmark = pytest.mark.ingress\n"},
        "is marked ingress, and its row is in precheck.toml",
    ),
    "no Python": ({"precheck": ROW, "verify_pay": "def test_"}, "verify_pay.py: "),
    "an import that fails": (
        {"precheck": ROW, "verify_pay": "import nothing_here"},
        "nothing_here",
    ),
    "a name that is missing": ({"precheck": ROW, "verify_pay": "nothing_here"}, "nothing_here"),
}


@pytest.mark.parametrize("files", WRONG)
def test_custom_checks_that_cannot_be_used_are_wrong_usage(
    replay: Replay, pack: Pack, files: str
) -> None:
    written, words = WRONG[files]

    run = replay(f"--checks={pack(**written)}")

    assert run.code == 4, run.out
    assert words in " ".join(run.out.split()), run.out
    assert "verify_pay.py" in run.out or "pack" in run.out
    assert run.last == "GATE CLOSED: nothing was verified (exit 4: usage error)"


def test_an_id_belongs_to_one_directory(replay: Replay, pack: Pack) -> None:
    one, two = pack("one", precheck=ROW, verify_a=TEST), pack("two", precheck=ROW, verify_b=TEST)

    run = replay(f"--checks={one}", f"--checks={two}")

    assert run.code == 4, run.out
    assert f"{two}: PAY-001 is already a check in {one}" in run.out


def test_a_missing_directory_is_wrong_usage(replay: Replay, tmp_path: Path) -> None:
    run = replay(f"--checks={tmp_path}/nowhere")

    assert run.code == 4, run.out
    assert f"cannot read the checks in {tmp_path}/nowhere: No such file" in run.out


def test_the_example_passes_its_own_tests(started: Gate) -> None:
    run = started("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", EXAMPLE,
                  "--override-ini=python_files=test_*.py", cwd=EXAMPLE)  # fmt: skip

    assert run.code == 0, run.out
