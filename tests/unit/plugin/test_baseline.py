"""Which baseline a run accepts, and which one it keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgate.plugin.evidence import save_baseline
from meshgate.snapshot.kubernetes import Metadata, Namespace
from meshgate.snapshot.model import Expectations, Snapshot
from meshgate.snapshot.store import load, save
from tests.conftest import Gate
from tests.support.builders import VERSION, pushed, reading, snapshot, sync

ONE = ("-m", "controlplane", "-k", "rejects")
TARGET = f"--target-version={VERSION}"
OLD = "1.28.2"

Recorded = Callable[[Snapshot], Path]


def rejecting(version: str = VERSION, cluster: str = "here") -> Snapshot:
    """A mesh in which a proxy rejects its configuration."""
    rejected = sync(listener=pushed(answered=False, error="no such filter"))
    return in_cluster(cluster, istiod=(reading(version=version, proxies=[rejected]),))


def in_cluster(uid: str, **changes: Any) -> Snapshot:
    namespace = Namespace(metadata=Metadata(name="kube-system", uid=uid))
    return snapshot(namespaces=(namespace,), **changes)


@pytest.fixture
def baseline(tmp_path: Path) -> Callable[[Snapshot], Path]:
    """Save a snapshot as a baseline."""

    def saved(held: Snapshot) -> Path:
        save(held, tmp_path / "before.json.gz")
        return tmp_path / "before.json.gz"

    return saved


def test_a_baseline_from_before_the_upgrade(
    gate: Gate, recorded: Recorded, baseline: Recorded
) -> None:
    before = baseline(rejecting(OLD))

    run = gate(*ONE, f"--snapshot={recorded(rejecting())}", f"--baseline={before}", TARGET)

    assert run.code == 0, run.out
    assert "pre-existing" in run.out


def test_a_baseline_from_after_the_upgrade_is_named_and_excuses_nothing(
    gate: Gate, recorded: Recorded, baseline: Recorded
) -> None:
    before = baseline(rejecting())

    run = gate(*ONE, f"--snapshot={recorded(rejecting())}", f"--baseline={before}", TARGET)

    told = " ".join(run.out.split())
    assert run.code == 1, run.out
    assert f"the baseline excuses nothing: istiod already ran {VERSION}" in told
    assert "Decision: hold" in told


def test_a_baseline_of_another_cluster_is_refused(
    gate: Gate, recorded: Recorded, baseline: Recorded
) -> None:
    before = baseline(rejecting(OLD, cluster="elsewhere"))

    run = gate(*ONE, f"--snapshot={recorded(rejecting())}", f"--baseline={before}")

    told = " ".join(run.out.split())
    assert run.code == 4, run.out
    assert f"cannot use the baseline {before}: it is of another cluster" in told


@pytest.mark.parametrize(("kept", "version"), [(True, OLD), (False, VERSION)])
def test_a_gate_that_runs_again_keeps_the_baseline_from_before_the_upgrade(
    baseline: Recorded, kept: bool, version: str
) -> None:
    before = baseline(in_cluster("here", istiod=(reading(version=version),)))
    now = in_cluster("here", expectations=Expectations(target_version=VERSION), source="now")
    said: list[str] = []

    save_baseline(str(before), now, None, said.append)

    assert [f"{before} was not replaced" in each for each in said] == ([True] if kept else [])
    assert (load(before).source == "now") is not kept


def test_a_place_without_a_usable_baseline_gets_one(tmp_path: Path) -> None:
    damaged = tmp_path / "before.json.gz"
    damaged.write_text("not a snapshot")
    now = in_cluster("here", expectations=Expectations(target_version=VERSION), source="now")

    save_baseline(str(damaged), now, None, print)

    assert load(damaged).source == "now"
