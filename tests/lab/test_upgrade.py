"""A real upgrade in place, 1.28.2 to 1.29.1: the gate says right away what is so."""

import os
from collections.abc import Iterator

import pytest

from tests.lab.harness import Lab

OLD, NEW = "1.28.2", "1.29.1"


@pytest.fixture
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A mesh that runs the old version, beside the one of the other tests."""
    lab = Lab(f"upgrade-{os.getpid()}", tmp_path_factory.mktemp("upgrade"))
    try:
        lab.verb("up", "--istio", OLD)
        yield lab
    finally:
        lab.verb("down")


def test_an_upgrade_in_place(old: Lab) -> None:
    before = old.pytest("-m", "controlplane", f"--target-version={OLD}", "--settle=30")
    assert before.exit == 0, before.output

    early = old.pytest("-m", "controlplane", f"--target-version={NEW}", "--settle=10")
    assert early.exit == 1, early.output
    assert f"runs {OLD}; expected {NEW}" in early.first

    old.verb("upgrade", NEW)
    after = old.pytest(
        *("-m", "controlplane", f"--target-version={NEW}", "--settle=90"),
        f"--baseline={before.reports}/snapshot.json.gz",
    )
    assert after.exit == 0, after.output
    # the workloads are not restarted yet: expected between the stages, told and not fatal
    assert "IST0158" in after.output

    old.verb("upgrade", NEW, "--restart")
    done = old.pytest("-m", "controlplane", f"--target-version={NEW}", "--settle=60")
    assert done.exit == 0, done.output
    assert "IST0158" not in done.output
