"""The files of a run: those of an earlier run are removed, and those that it reads are kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshgate.plugin.reporting import is_device
from meshgate.snapshot.model import Snapshot
from tests.conftest import Gate
from tests.support.builders import snapshot

ONE = ("-m", "controlplane", "-k", "rejects")


Recorded = Callable[[Snapshot], Path]


@pytest.mark.parametrize("saved", ["--save-snapshot", "--save-baseline", "--json"])
def test_a_baseline_is_not_replaced_by_the_run_that_reads_it(
    gate: Gate, recorded: Recorded, saved: str
) -> None:
    baseline = recorded(snapshot())
    packed = baseline.read_bytes()

    run = gate(*ONE, f"--baseline={baseline}", f"{saved}={baseline}")

    assert run.code == 4, run.out
    assert f"--baseline names {baseline}, which this run would replace" in " ".join(run.out.split())
    assert baseline.read_bytes() == packed


@pytest.mark.parametrize("option", ["--waivers", "--settings", "--expect", "--kubeconfig"])
def test_no_file_that_a_run_reads_is_replaced_by_a_report(
    gate: Gate, recorded: Recorded, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "read.toml"
    file.write_text("")

    run = gate(*ONE, f"--snapshot={recorded(snapshot())}", f"{option}={file}", f"--json={file}")

    assert run.code == 4, run.out
    assert f"{option} names {file}, which this run would replace" in " ".join(run.out.split())
    assert file.read_text() == ""


def test_a_baseline_in_a_config_map_is_not_replaced_either(gate: Gate) -> None:
    place = "configmap://reports/before"

    run = gate(*ONE, f"--baseline={place}", f"--save-baseline={place}")

    assert run.code == 4, run.out
    assert "which this run would replace" in run.out


def test_a_device_is_not_removed_as_an_old_report(tmp_path: Path) -> None:
    # only asks: a run that removes /dev/null would break the machine of the tests
    pipe, report = tmp_path / "pipe", tmp_path / "verdict.json"
    os.mkfifo(pipe)
    report.write_text("{}")

    assert is_device(pipe)
    assert is_device(Path("/dev/null"))
    assert is_device(Path("/dev/stdout"))
    assert not is_device(report)
    assert not is_device(tmp_path / "missing.json")
