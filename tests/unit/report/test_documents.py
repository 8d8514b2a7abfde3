"""What programs read, JSON and JUnit: held against the schemas that programs hold them to."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema

from meshgate.catalogue import checks
from meshgate.report.json import report, schema, write
from meshgate.report.run import Run as Result
from meshgate.verdict import Outcome, Verdict, ruling
from tests.conftest import ROOT, Gate, Run

SCHEMA = json.loads((ROOT / "docs/verdict.schema.json").read_text())
# What Jenkins' xunit plugin takes, and properties of a case: see there
JUNIT = xmlschema.XMLSchema(ROOT / "tests/fixtures/junit.xsd")


@pytest.fixture(params=["healthy", "broken", "nothing"])
def run(request: pytest.FixtureRequest, gate: Gate) -> Run:
    """A run of each kind: an open gate, a closed one, one of which nothing could be verified."""
    which = {
        "healthy": (f"--snapshot={ROOT}/demo/healthy.json.gz",),
        "broken": (f"--snapshot={ROOT}/demo/broken.json.gz",),
        "nothing": (f"--snapshot={ROOT}/demo/healthy.json.gz", "-k", "declared_target"),
    }
    return gate(*which[request.param])


def document(run: Run) -> dict[str, Any]:
    """The outcomes that a run left."""
    read: dict[str, Any] = json.loads((run.folder / "reports/verdict.json").read_text())
    return read


def test_the_schema_that_is_published_is_the_one_that_is_written() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(schema())) == SCHEMA, (
        "run: meshgate schema > docs/verdict.schema.json"
    )


def test_what_is_written_is_valid_for_programs_and_for_ci_servers(run: Run) -> None:
    jsonschema.validate(document(run), SCHEMA, cls=jsonschema.Draft202012Validator)
    JUNIT.validate(run.folder / "reports/junit.xml")


@pytest.mark.parametrize(
    "change", [{"gate": "ajar"}, {"exit": "0"}, {"checks": [{"id": "CP001"}]}, {"sentence": None}]
)
def test_the_schema_refuses_what_is_not(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "verdict.json"
    ruled = ruling((Outcome("CP001", Verdict.PASS),), {"CP001": "controlplane"})
    write(report(Result(ruled)), file)
    whole = json.loads(file.read_text())
    jsonschema.validate(whole, SCHEMA, cls=jsonschema.Draft202012Validator)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole | change, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_a_case_says_what_it_is_about(gate: Gate) -> None:
    run = gate(f"--snapshot={ROOT}/demo/broken.json.gz")

    # two checks may have tests of one name
    root = ElementTree.parse(run.folder / "reports/junit.xml")
    found = [
        {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        for case in root.iter("testcase")
    ]
    cases = {each["check"]: each for each in found}
    told = cases["CP004"]
    assert set(cases) == set(checks())
    assert told["stage"] == "controlplane"
    assert told["verdict"] == "fail"
    assert told["object"].startswith("Pod shop/web-")
    assert told["version"] == "1.31.0"
    assert told["revision"] == "default"
    assert len(objects(run, "DP002")) > 1


def objects(run: Run, check: str) -> list[str]:
    """Every object that a case names."""
    root = ElementTree.parse(run.folder / "reports/junit.xml")
    (case,) = [
        each
        for each in root.iter("testcase")
        if any(p.attrib == {"name": "check", "value": check} for p in each.iter("property"))
    ]
    return [p.attrib["value"] for p in case.iter("property") if p.attrib["name"] == "object"]


def test_a_case_that_does_not_apply_keeps_its_reason(gate: Gate) -> None:
    run = gate(f"--snapshot={ROOT}/demo/healthy.json.gz", "-k", "declared_target")

    (skipped,) = ElementTree.parse(run.folder / "reports/junit.xml").iter("skipped")
    assert "no target is declared" in skipped.attrib["message"]
