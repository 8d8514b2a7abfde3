"""`meshgate watch` where it cannot watch: the reason is saved, and nothing waits for it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshgate.cli import app
from meshgate.snapshot.store import load
from tests.conftest import Serve
from tests.support import fakes
from tests.support.fakes import ANY, refusal


@pytest.fixture
def words(serve: Serve, tmp_path: Path) -> list[str]:
    """A watch of a cluster that permits nothing."""
    server = serve({ANY: lambda request: refusal(403, "forbidden")})
    config = fakes.kubeconfig(tmp_path / "kubeconfig", server.url)
    place, begun = tmp_path / "watch.json.gz", tmp_path / "begun"
    more = ("--istiod-access=direct", "--lasting=0", f"--begun={begun}")
    return ["watch", str(place), f"--kubeconfig={config}", *more]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_watch_that_cannot_begin_fails(words: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 10, done.output
    assert "no right to" in done.output
    assert not (tmp_path / "begun").exists()


def test_one_that_stays_saves_the_reason_and_continues(words: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*words, "--stay"])

    assert done.exit_code == 0, done.output
    assert (tmp_path / "begun").exists()
    saved = load(tmp_path / "watch.json.gz").watch
    assert saved is not None
    assert "no right to" in saved.unusable


def test_one_that_begins_again_does_not_overwrite_what_was_saved(
    words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "begun").touch()
    done = CliRunner().invoke(app, [*words, "--stay"])

    assert done.exit_code == 0, done.output
    assert "an earlier watch has ended" in done.output
    assert not (tmp_path / "watch.json.gz").exists()
