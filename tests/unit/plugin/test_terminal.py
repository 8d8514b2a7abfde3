"""What somebody sees who watches: a view that changes in place, the verdict last, or one line."""

import re
from collections.abc import Callable

import pytest

from meshgate.snapshot.model import Snapshot
from tests.conftest import ROOT, Estate, Gate
from tests.support import fakes
from tests.support.builders import as_api, deployment, istiod, sidecar, snapshot
from tests.support.fakes import Answer, Request

CLAIMS = ("-m", "controlplane", "-k", "rolled_out or connected")
ROLLOUTS = "/apis/apps/v1/deployments"
# a terminal of its own, as `script` makes one
TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, "-m", "pytest", *sys.argv[1:]])))
"""
HIDE_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[2K"


@pytest.fixture
def there(estate: Callable[[Snapshot], Estate]) -> Estate:
    """A cluster whose istiod is rolled out at the second look."""
    made = estate(snapshot(pods=(istiod(ip=fakes.address()), sidecar())))
    whole = made.api.answers[ROLLOUTS]

    def at_first_not(request: Request) -> Answer:
        made.api.answers[ROLLOUTS] = whole
        return fakes.answer(as_api([deployment(1, updated=0)]))

    made.api.answers[ROLLOUTS] = at_first_not
    return made


@pytest.fixture
def watched(started: Gate, tmp_path: object) -> Gate:
    """Runs the gate in a terminal."""

    def run(*arguments: object, **environment: str) -> object:
        aside = [f"--{each}={tmp_path}/{each}" for each in ("junitxml", "html", "json")]
        aside.append(f"--save-snapshot={tmp_path}/seen.json.gz")
        seen = {"TERM": "xterm", "COLUMNS": "100", **environment}
        return started("-c", TERMINAL, *aside, *arguments, cwd=ROOT, **seen)

    return run  # type: ignore[return-value]


def test_it_says_what_it_reads_and_what_it_waits_for_in_place(watched: Gate, there: Estate) -> None:
    run = watched(*there.options, "--settle=60", *CLAIMS)

    assert run.code == 0, run.out
    view, verdict = run.out.rsplit(ERASE_LINE, 1)
    assert HIDE_CURSOR in view
    assert "stage controlplane" in view
    assert "reading " in view
    waiting = r"waiting, (60|5\d) s at the most, for Deployment istio-system/istiod: .*0 of 1"
    assert re.search(waiting, view)
    for words in ("stage controlplane", "reading ", "waiting"):
        assert words not in verdict, "the view is gone"
    assert "   (exit 0)   " in run.last


@pytest.mark.parametrize(
    ("more", "environment"), [(("-v",), {}), ((), {"TERM": "dumb"}), (("-q",), {})]
)
def test_there_is_no_view_for_who_wants_none(
    watched: Gate, there: Estate, more: tuple[str, ...], environment: dict[str, str]
) -> None:
    run = watched(*there.options, "--settle=60", *CLAIMS, *more, **environment)

    assert run.code == 0, run.out
    assert HIDE_CURSOR not in run.out


def test_a_log_has_plain_lines(gate: Gate, there: Estate) -> None:
    run = gate(*there.options, "--settle=60", *CLAIMS)

    assert run.code == 0, run.out
    assert "\x1b" not in run.out
    assert any(line.startswith("reading ") for line in run.lines)
    assert any(line.startswith("waiting, ") for line in run.lines)


@pytest.mark.parametrize(("demo", "code"), [("healthy", 0), ("broken", 1)])
def test_quiet_is_one_line(gate: Gate, demo: str, code: int) -> None:
    run = gate(f"--snapshot={ROOT}/demo/{demo}.json.gz", "-q")

    assert run.code == code, run.out
    assert run.lines == [run.last]
    assert run.last.startswith("GATE ")


def test_quiet_does_not_hide_why_there_is_no_verdict(gate: Gate) -> None:
    mistaken, missing = gate("-q"), gate("-q", "--snapshot=/does/not/exist")

    assert "no cluster to look at" in mistaken.out
    assert "/does/not/exist" in missing.out
    assert mistaken.last.startswith("GATE CLOSED") or "no cluster" in mistaken.last


def test_quiet_lets_through_what_is_broken_inside(
    gate: Gate, claims: Callable[..., object]
) -> None:
    project = claims("raise SystemError('this file is broken')")

    run = gate("-q", f"--snapshot={ROOT}/demo/healthy.json.gz", cwd=project)

    assert run.code != 0, run.out
    assert "this file is broken" in run.out


def test_the_list_of_claims_is_not_held_back(gate: Gate) -> None:
    assert "verify_controlplane.py" in gate("--collect-only", "-q").out
