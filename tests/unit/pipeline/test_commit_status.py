"""The verdict for GitOps Promoter, against the schema of its CommitStatus."""

import json
from datetime import UTC, datetime

import jsonschema
import pytest

from meshgate.pipeline.commit_status import commit_status
from meshgate.pipeline.reports import Run
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "tests/fixtures/commit-status.schema.json").read_text())
SHA = "0123456789abcdef0123456789abcdef01234567"


def run(name: str, exit: int) -> Run:
    """Return a stored run that ended so."""
    line = "GATE OPEN" if exit == 0 else f"GATE CLOSED: {name} {'x' * 200}"
    return Run("1", datetime(2026, 1, 2, tzinfo=UTC), "1.31.0", exit, line, {})


RUNS = {
    "open": run("open", 0),
    "closed": run("closed", 1),
    "unknown": run("unknown", 10),
    "misused": run("misused", 4),
    "missing": None,
}


@pytest.mark.parametrize(
    ("places", "phase", "words"),
    [
        (["open"], "success", "all gates are open"),
        (["open", "closed"], "failure", "GATE CLOSED: closed"),
        (["unknown", "closed"], "failure", "GATE CLOSED: unknown"),
        (["open", "unknown"], "pending", "GATE CLOSED: unknown"),
        (["open", "misused"], "pending", "GATE CLOSED: misused"),
        (["open", "missing"], "pending", "no verdict in missing"),
        ([], "pending", "no gate"),
    ],
)
def test_its_phase_is_that_of_the_worst_verdict(places: list[str], phase: str, words: str) -> None:
    found = commit_status({name: RUNS[name] for name in places}, SHA, "mesh", key="meshgate")

    jsonschema.validate(found, SCHEMA)
    assert found["spec"]["phase"] == phase
    assert found["spec"]["sha"] == SHA
    assert found["spec"]["description"].startswith(words)
    assert len(found["spec"]["description"]) <= 140


def test_a_page_with_the_reports_is_linked() -> None:
    found = commit_status({}, SHA, "mesh", key="meshgate", url="https://reports.example.com/")

    jsonschema.validate(found, SCHEMA)
    assert found["spec"]["url"] == "https://reports.example.com/"


@pytest.mark.parametrize("wrong", [{"sha": "main"}, {"sha": SHA[:7]}, {"key": "Mesh Gate"}])
def test_what_gitops_promoter_would_reject_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        commit_status({}, **{"sha": SHA, "repository": "mesh", "key": "meshgate", **wrong})
