"""A fleet of every release, healthy and broken: the verdicts of the runs on each cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab.gates import Gates
from tests.lab.harness import NEW, VERSIONS, Stage, lab_of
from tests.lab.test_shadow import FAULTS, ISTIOCTL, MESHGATE, fleet

Problems = set[tuple[str, str]]


def problems(stage: Stage) -> Problems:
    """What closed the gate: each check and object."""
    report: dict[str, Any] = json.loads((stage.reports / "verdict.json").read_text())
    return {
        (each["id"], finding["subject"])
        for each in report["checks"]
        for finding in each["findings"]
    }


@pytest.mark.every_release
def test_a_fleet_of_every_release_has_the_verdicts_of_its_clusters(tmp_path: Path) -> None:
    place = str(tmp_path / "all")
    alone: dict[str, Problems] = {}
    for version in VERSIONS:
        with lab_of(version, tmp_path / version) as lab:
            gates = Gates(lab, tmp_path / "targets")
            for state, faults in (("healthy", ()), ("broken", (FAULTS[0][0], FAULTS[7][0]))):
                if faults:
                    lab.apply(*faults)
                name = f"{state}-{version}"
                done = lab.run(MESHGATE, "record", place, *ISTIOCTL, f"--cluster-name={name}")
                assert done.returncode == 0, done.stderr
                alone[name] = problems(gates.precheck(NEW, "--settle=0"))

    found = fleet(place, tmp_path / "targets" / NEW, tmp_path)

    causes = [(each["check"], each["subject"]) for each in found["causes"]]
    together = {each["name"]: {causes[n] for n in each["causes"]} for each in found["clusters"]}
    left_out = {each["name"]: set(each["not_run"]) for each in found["clusters"]}
    assert together.keys() == alone.keys()
    for name, seen in alone.items():
        comparable = {each for each in seen if each[0] not in left_out[name]}
        assert together[name] == comparable, name
        states = {each["state"] for each in found["clusters"] if each["name"] == name}
        assert (states == {"would break"}) is bool(comparable), (name, states)
